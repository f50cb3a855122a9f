"""Gradients inside fused layers against automatic differentiation of loops written here."""

from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from unrolled.torch.through_time import fused_call
from unrolled.torch.through_time.recompute import _rounding, recompute

T, B, D, H = 7, 4, 3, 5
KINDS = {"tanh": nn.RNN, "relu": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def make(kind, dtype=torch.float64, **options):
    torch.manual_seed(0)
    more = {"nonlinearity": kind} if kind in ("tanh", "relu") else {}
    return KINDS[kind](D, H, **more, **options).to(dtype)


def step(kind, x, h, c, weights):
    """One step of a cell as PyTorch's documentation has it; weights W_ih, W_hh, b_ih, b_hh."""
    W_ih, W_hh, b_ih, b_hh = weights
    a, p = x @ W_ih.T + b_ih, h @ W_hh.T + b_hh
    if kind == "tanh":
        return torch.tanh(a + p), c
    if kind == "relu":
        return torch.relu(a + p), c
    if kind == "gru":
        (a_r, a_z, a_n), (p_r, p_z, p_n) = a.chunk(3, -1), p.chunk(3, -1)
        r, z = torch.sigmoid(a_r + p_r), torch.sigmoid(a_z + p_z)
        return (1 - z) * torch.tanh(a_n + r * p_n) + z * h, c
    i, f, g, o = (a + p).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def by_hand(kind, layer, x, lengths=None, first=None):
    """The layer as loops over sequences' steps, every h_t a tensor that keeps its gradient.

    Returns outputs (T, B, dirs * H), last states, and h_t by (layer, direction, t).
    """
    steps, batch = x.shape[:2]
    lengths = lengths or [steps] * batch
    dirs = 2 if layer.bidirectional else 1
    hidden, last, zeros = {}, [], x.new_zeros(H)
    for number in range(layer.num_layers):
        sides = []
        for side in range(dirs):
            suffix = f"_l{number}" + ("_reverse" if side else "")
            names = [n + suffix for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            fill = torch.zeros(layer.weight_ih_l0.shape[0], dtype=x.dtype)
            weights = [getattr(layer, n, fill) for n in names]
            rows, ends = [], []
            for b in range(batch):
                h = c = zeros
                if first is not None:
                    h, c = (part[number * dirs + side, b] for part in (first * 2)[:2])
                outputs = {}
                order = range(lengths[b])
                for t in reversed(order) if side else order:
                    h, c = step(kind, x[t, b], h, c, weights)
                    h.retain_grad()
                    outputs[t] = hidden[number, side, t, b] = h
                rows.append(torch.stack([outputs.get(t, zeros) for t in range(steps)]))
                ends.append((h, c))
            sides.append(torch.stack(rows, 1))
            last.append(ends)
        x = torch.cat(sides, -1)
    states = [torch.stack([torch.stack([e[k] for e in ends]) for ends in last]) for k in (0, 1)]
    return x, states, hidden


def called(layer, inputs, state=None):
    """The call of a layer, its outputs, and the arrays of its last state."""
    rng = torch.get_rng_state() if fused_call.draws(layer) else None
    Y, last = layer(inputs, state)
    call = fused_call.begin(layer, inputs, state, (Y, last), rng)
    return call, Y, list(last) if isinstance(last, tuple) else [last]


def traced(layer, inputs, state, weigh):
    """What is recomputed of a layer's own way back, and its outputs."""
    call, Y, ends = called(layer, inputs, state)
    tensors = {"Y": Y.data if isinstance(Y, PackedSequence) else Y, **dict(enumerate(ends))}
    loss = weigh(Y, ends)
    given = torch.autograd.grad(loss, [*tensors.values()], retain_graph=True, allow_unused=True)
    call.gradients = {key: g for key, g in zip(tensors, given, strict=True) if g is not None}
    layer.zero_grad()
    loss.backward()
    return recompute(call), Y


def loss_of(Y, ends):
    """Something that every output and every last state bears on."""
    weights = torch.linspace(0.5, 1.5, Y.shape[0], dtype=Y.dtype, device=Y.device)[:, None, None]
    return (weights * Y.sin()).sum() + sum((k + 1) * (e * e).sum() for k, e in enumerate(ends))


def check(layers, hidden, layer, tolerance):
    dirs = 2 if layer.bidirectional else 1
    assert len(layers) == layer.num_layers * dirs
    for part in layers:
        arrays = part.arrays()
        for (number, side, t, b), h in hidden.items():
            if (number, side) != (part.number, int(part.reverse)):
                continue
            same = [s for n, i, s, j in hidden if (n, i, j) == (number, side, b)]
            at = max(same) - t if part.reverse else t
            assert torch.allclose(arrays.after[at, b], h, atol=tolerance)
            assert torch.allclose(arrays.hidden[at, b], h.grad, rtol=tolerance, atol=tolerance)
        suffix = f"_l{part.number}" + ("_reverse" if part.reverse else "")
        split = torch.einsum("tbh,tbg->thg", arrays.before, arrays.recurrent)
        order = {"GRU": (1, 0, 2), "LSTM": (0, 1, 3, 2)}.get(layer.mode, (0,))
        theirs = getattr(layer, "weight_hh" + suffix).grad
        ours = torch.cat([split.sum(0).T.split(H)[order.index(g)] for g in range(len(order))])
        assert torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance)


SHAPES = [{}, {"num_layers": 2}, {"bidirectional": True}, {"num_layers": 3, "bidirectional": True}]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_gradients_through_time_are_those_of_automatic_differentiation(
    kind, options, dtype, tolerance
):
    layer = make(kind, dtype, **options)
    x = torch.randn(T, B, D, dtype=dtype)
    layers, Y = traced(layer, x, None, loss_of)
    outputs, states, hidden = by_hand(kind, layer, x)
    assert torch.allclose(outputs, Y, atol=tolerance)
    loss = loss_of(outputs, states if kind == "lstm" else states[:1])
    loss.backward(inputs=list(hidden.values()))
    check(layers, hidden, layer, tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_state_and_other_layouts(kind):
    layer = make(kind, num_layers=2, batch_first=True, bias=False)
    x = torch.randn(B, T, D, dtype=torch.float64)
    first = [torch.randn(2, B, H, dtype=torch.float64) for _ in range(1 + (kind == "lstm"))]
    state = tuple(first) if kind == "lstm" else first[0]
    weigh = lambda Y, ends: loss_of(Y.transpose(0, 1), ends)  # noqa: E731
    layers, _ = traced(layer, x, state, weigh)
    outputs, states, hidden = by_hand(kind, layer, x.transpose(0, 1), first=first)
    loss_of(outputs, states[: len(first)]).backward(inputs=list(hidden.values()))
    check(layers, hidden, layer, 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_without_a_batch_is_a_batch_of_one(kind):
    layer = make(kind, batch_first=True)
    x = torch.randn(T, D, dtype=torch.float64)
    alone, _ = traced(layer, x, None, lambda Y, ends: (Y**2).sum())
    batch, _ = traced(layer, x[None], None, lambda Y, ends: (Y**2).sum())
    assert torch.equal(alone[0].arrays().hidden, batch[0].arrays().hidden)
    assert alone[0].arrays().hidden.shape == (T, 1, H)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", SHAPES[1:], ids=str)
def test_packed_sequences(kind, options):
    layer = make(kind, **options)
    lengths = [3, 7, 1, 7, 4]
    x = torch.randn(T, len(lengths), D, dtype=torch.float64)
    count = layer.num_layers * (1 + layer.bidirectional)
    first = [torch.randn(count, 5, H, dtype=torch.float64) for _ in range(1 + (kind == "lstm"))]
    state = tuple(first) if kind == "lstm" else first[0]
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    weigh = lambda Y, ends: loss_of(pad_packed_sequence(Y)[0], ends)  # noqa: E731
    layers, Y = traced(layer, packed, state, weigh)
    outputs, states, hidden = by_hand(kind, layer, x, lengths, first)
    assert torch.allclose(pad_packed_sequence(Y)[0], outputs, atol=1e-12)
    loss_of(outputs, states[: len(first)]).backward(inputs=list(hidden.values()))
    order = packed.sorted_indices.tolist()  # rows stand in the order of falling length
    hidden = {(n, s, t, order.index(b)): h for (n, s, t, b), h in hidden.items()}
    check(layers, hidden, layer, 1e-10)
    assert layers[0].running().sum() == sum(lengths)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dropout_masks_are_drawn_again(kind, packed, dtype):
    layer = make(kind, dtype, num_layers=3, dropout=0.4)
    x = torch.randn(T, B, D, dtype=dtype)
    given = pack_padded_sequence(x, [7, 5, 5, 2]) if packed else x
    rows = (lambda Y: pad_packed_sequence(Y)[0]) if packed else (lambda Y: Y)
    before = torch.get_rng_state()
    layers, _ = traced(layer, given, None, lambda Y, ends: loss_of(rows(Y), ends))
    assert len(layers) == 3
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    layer(given)
    assert torch.equal(torch.get_rng_state(), after)  # what is drawn again leaves no trace
    for part in layers:
        arrays = part.arrays()
        split = torch.einsum("tbh,tbg->hg", arrays.before, arrays.recurrent)
        assert torch.allclose(split.norm(), getattr(layer, f"weight_hh_l{part.number}").grad.norm())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_masks_that_were_drawn_otherwise_are_never_taken_for_those_of_the_layer(kind, dtype):
    layer = make(kind, num_layers=2, dropout=0.4)
    for p in layer.parameters():
        p.data.mul_(1e-3)  # outputs hardly tell one mask from another, in bfloat16 not at all
    x = torch.randn(T, B, D, dtype=torch.float64)
    rng = torch.get_rng_state()
    torch.rand(1)  # another thread, or a hook of one's own, draws between our look and the layer
    call = fused_call.begin(layer, x, None, layer(x), rng)
    call.inner = dtype
    assert recompute(call) == "not traced: its dropout masks cannot be drawn again"


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_recomputed_is_said(kind):
    layer, x = make(kind, num_layers=2), torch.randn(T, B, D, dtype=torch.float64)
    call, _, _ = called(layer, x)
    call.weights[0][0], call.versions = 2 * call.weights[0][0], {}
    assert recompute(call) == "not traced: its outputs are not those that its equations give"
    call, _, _ = called(layer, x * torch.nan)
    assert recompute(call) == "not traced: its outputs were not finite"
    call, Y, _ = called(layer, x)
    with torch.no_grad():
        Y.mul_(1.0)
        x.zero_()
    assert recompute(call).endswith(
        "written to before the backward pass was over: input and output"
    )


def test_projections_and_own_forwards_are_not_traced():
    class Own(nn.LSTM):
        def forward(self, x):
            return super().forward(x)

    assert "proj_size" in fused_call.why_not(nn.LSTM(3, 5, proj_size=2))
    assert "forward of its own" in fused_call.why_not(Own(3, 5))
    assert fused_call.why_not(nn.GRU(3, 5)) is None


@pytest.mark.parametrize(
    ("device", "dtype", "rounding"),
    [
        ("cpu", torch.float32, 1e-4),
        ("cuda", torch.float32, 1e-2),  # TF32
        ("cuda", torch.float64, 1e-9),
        ("cuda", torch.bfloat16, 5e-2),
    ],
)
def test_outputs_may_differ_by_what_the_device_rounds(device, dtype, rounding):
    Y = SimpleNamespace(device=torch.device(device))
    assert _rounding(SimpleNamespace(inner=dtype, Y=Y)) == rounding


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_layers_on_a_gpu_are_traced_as_cudnn_computes_them(kind):
    layer, x = make(kind, torch.float32, num_layers=2), torch.randn(T, B, D)
    on_cpu, on_gpu = (
        traced(layer.to(device), x.to(device), None, loss_of)[0] for device in ("cpu", "cuda")
    )
    assert len(on_gpu) == len(on_cpu) == 2, on_gpu
    for ours, expected in zip(on_gpu, on_cpu, strict=True):
        found, wanted = ours.arrays().hidden.cpu(), expected.arrays().hidden
        torch.testing.assert_close(found, wanted, rtol=2e-2, atol=1e-2)
