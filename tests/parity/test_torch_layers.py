"""The cells from scratch equal PyTorch's own layers: outputs, states, every gradient.

PyTorch keeps the gates of a layer in one matrix ``(gates * H, D)``, transposed, and two
biases where one would do; only the GRU's candidate needs both (`b_h` and `b_hh` here).
"""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from unrolled import torch as unrolled_torch  # noqa: E402
from unrolled.models.language_model import RecurrentNetwork  # noqa: E402

LAYERS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
GATES = {"rnn": "h", "gru": "rzh", "lstm": "ifco"}  # letters here, in PyTorch's order

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}

SIZES = [  # T, B, D, H
    (5, 3, 4, 7),
    (1, 3, 4, 7),
    (5, 1, 4, 7),
    (5, 3, 1, 7),
    (5, 3, 4, 1),
    (1, 1, 1, 1),
]


def by_our_names(cell: str, layer: int, layers: int, read: Any) -> dict[str, Any]:
    """PyTorch's weights (or their gradients) of one layer, under our names and our way up.

    Args:
        read: gives the tensor for a name of PyTorch's.
    """
    gates, prefix = GATES[cell], f"layers.{layer}." if layers > 1 else ""
    weight_ih, weight_hh, bias_ih, bias_hh = (
        read(f"{kind}_l{layer}").chunk(len(gates))
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    found = {}
    for i, gate in enumerate(gates):
        found[f"{prefix}W_x{gate}"] = weight_ih[i].T
        found[f"{prefix}W_h{gate}"] = weight_hh[i].T
        found[f"{prefix}b_{gate}"] = bias_ih[i]
    if cell == "gru":
        found[f"{prefix}b_hh"] = bias_hh[gates.index("h")]
    return found


def drawn_layer(cell: str, D: int, H: int, layers: int, dtype: Any) -> Any:
    """A layer of PyTorch's with weights large enough to bend tanh, biases too."""
    layer = LAYERS[cell](D, H, layers).to(dtype)
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            weight.normal_(0, 0.7)
            if name.startswith("bias_hh"):  # the second bias: only the GRU's candidate has it
                weight[: 2 * H if cell == "gru" else None] = 0
    return layer


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("cell", LAYERS)
def test_scratch_equals_the_layer_with_the_same_weights(
    cell: str, sizes: tuple[int, ...], layers: int, dtype: Any
) -> None:
    T, B, D, H = sizes
    torch.manual_seed(0)
    layer, linear = drawn_layer(cell, D, H, layers, dtype), nn.Linear(H, D).to(dtype)
    X = torch.randn(T, B, D, dtype=dtype, requires_grad=True)
    parts = 2 if cell == "lstm" else 1
    old = [torch.randn(layers, B, H, dtype=dtype, requires_grad=True) for _ in range(parts)]

    hidden, last = layer(X, tuple(old) if cell == "lstm" else old[0])
    last = list(last) if cell == "lstm" else [last]
    logits = linear(hidden.reshape(T * B, H))

    network = RecurrentNetwork(unrolled_torch.backend, cell, layers)
    weights = {}
    for i in range(layers):
        weights |= by_our_names(cell, i, layers, layer.get_parameter)
    weights |= {"W_hq": linear.weight.T, "b_q": linear.bias}
    names = network.initial_parameters(D, H, seed=0).keys()
    params = {name: weights[name].detach().clone().requires_grad_() for name in names}
    assert params.keys() == weights.keys()
    our_X = X.detach().clone().requires_grad_()
    our_old = [part.detach().clone().requires_grad_() for part in old]
    state = tuple(part[i] for i in range(layers) for part in our_old)  # H, C of layer 0, 1, ...

    our_logits, our_last = network.forward(our_X, state, params)

    def check(ours: Any, theirs: Any, what: str) -> None:
        assert ours.shape == theirs.shape, what
        assert ours.dtype == dtype, what
        limit = TOLERANCE[dtype]
        torch.testing.assert_close(ours, theirs, rtol=limit, atol=limit, msg=lambda m: what + m)

    check(our_logits, logits, "logits ")
    for k in range(parts):
        for i in range(layers):
            check(our_last[i * parts + k], last[k][i], f"state {k} of layer {i} ")

    # a number in which every output and every state counts differently
    target, kept = torch.randn_like(logits), [torch.randn_like(part) for part in last]
    value = (logits * target).mean() + sum((a * b).mean() for a, b in zip(last, kept, strict=True))
    value.backward()
    our_value = (our_logits * target).mean() + sum(
        (our_last[i * parts + k] * kept[k][i]).sum() / kept[k].numel()
        for k in range(parts)
        for i in range(layers)
    )
    our_value.backward()

    gradients = {}
    for i in range(layers):
        gradients |= by_our_names(cell, i, layers, lambda n: layer.get_parameter(n).grad)
    gradients |= {"W_hq": linear.weight.grad.T, "b_q": linear.bias.grad}
    for name in names:
        check(params[name].grad, gradients[name], f"gradient of {name} ")
    check(our_X.grad, X.grad, "gradient of the inputs ")
    for ours, theirs in zip(our_old, old, strict=True):
        check(ours.grad, theirs.grad, "gradient of the first state ")
