"""Competitors in PyTorch, textbook loop and `nn` layers; matrix products that show the limit."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from unrolled import torch as unrolled
from unrolled.bench.race import Ready, repeated
from unrolled.bench.task import CLIP_NORM, LEARNING_RATE, Batch, Competing, Task

Tensors = tuple[torch.Tensor, ...]


def device_of(task: Task) -> torch.device:
    """Where to train."""
    return torch.device("cuda" if task.gpu else "cpu")


# One time step of each cell as textbooks have it: X (B, V) one-hot, H (B, H).


def rnn_step(X: torch.Tensor, state: Tensors, W_xh: Any, W_hh: Any, b_h: Any) -> Tensors:
    """``H = tanh(X W_xh + H W_hh + b_h)``."""
    (H,) = state
    return (torch.tanh(torch.mm(X, W_xh) + torch.mm(H, W_hh) + b_h),)


def gru_step(
    X: torch.Tensor,
    state: Tensors,
    W_xz: Any, W_hz: Any, b_z: Any,
    W_xr: Any, W_hr: Any, b_r: Any,
    W_xh: Any, W_hh: Any, b_h: Any, b_hh: Any,
) -> Tensors:  # fmt: skip
    """Update gate, reset gate, candidate; reset after the product, as `nn.GRU` has it."""
    (H,) = state
    Z = torch.sigmoid(torch.mm(X, W_xz) + torch.mm(H, W_hz) + b_z)
    R = torch.sigmoid(torch.mm(X, W_xr) + torch.mm(H, W_hr) + b_r)
    C = torch.tanh(torch.mm(X, W_xh) + b_h + R * (torch.mm(H, W_hh) + b_hh))
    return (Z * H + (1 - Z) * C,)


def lstm_step(
    X: torch.Tensor,
    state: Tensors,
    W_xi: Any, W_hi: Any, b_i: Any,
    W_xf: Any, W_hf: Any, b_f: Any,
    W_xo: Any, W_ho: Any, b_o: Any,
    W_xc: Any, W_hc: Any, b_c: Any,
) -> Tensors:  # fmt: skip
    """Input, forget and output gate, candidate."""
    H, C = state
    I = torch.sigmoid(torch.mm(X, W_xi) + torch.mm(H, W_hi) + b_i)  # noqa: E741
    F = torch.sigmoid(torch.mm(X, W_xf) + torch.mm(H, W_hf) + b_f)
    O = torch.sigmoid(torch.mm(X, W_xo) + torch.mm(H, W_ho) + b_o)  # noqa: E741
    C = F * C + I * torch.tanh(torch.mm(X, W_xc) + torch.mm(H, W_hc) + b_c)
    return O * torch.tanh(C), C


STEPS: dict[str, Callable[..., Tensors]] = {"rnn": rnn_step, "gru": gru_step, "lstm": lstm_step}


def textbook(task: Task) -> Competing:
    """The loop as textbooks have it: one-hot inputs, a step at a time, autograd."""
    device = device_of(task)
    params = [nn.Parameter(torch.from_numpy(x).to(device)) for x in task.values().values()]
    step = STEPS[task.cell]
    num_states = 2 if task.cell == "lstm" else 1
    state: Tensors = tuple(torch.zeros(task.B, task.H, device=device) for _ in range(num_states))

    def loss_of(X: torch.Tensor, Y: torch.Tensor, state: Tensors) -> tuple[torch.Tensor, Tensors]:
        *weights, W_hq, b_q = params
        outputs = []
        for X_t in nn.functional.one_hot(X.T, task.V).float():  # (B, V)
            state = step(X_t, state, *weights)
            outputs.append(torch.mm(state[0], W_hq) + b_q)
        logits = torch.cat(outputs)  # (T * B, V)
        return nn.functional.cross_entropy(logits, Y.T.reshape(-1)), state

    def training_step(X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        nonlocal state
        loss, state = loss_of(X, Y, tuple(part.detach() for part in state))
        for param in params:
            param.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            grads: list[Any] = [param.grad for param in params]
            norm = torch.sqrt(sum(torch.sum(grad**2) for grad in grads))  # type: ignore[arg-type]
            for param, grad in zip(params, grads, strict=True):
                if norm > CLIP_NORM:
                    grad *= CLIP_NORM / norm
                param.sub_(LEARNING_RATE * grad)
        return loss

    return _one_by_one(training_step, device)


def layer(task: Task) -> Competing:
    """`nn.RNN`, `nn.GRU` or `nn.LSTM` with PyTorch's own clipping and optimizer."""
    own = unrolled.recurrent_layer(task.cell, task.V, task.H, task.layers)
    net = unrolled.RNNModel(own, task.V)  # one-hot, the layer, and nn.Linear
    net.import_parameters(task.values())
    device = device_of(task)
    net.to(device)
    optimizer = torch.optim.SGD(net.parameters(), LEARNING_RATE)
    state: Any = net.begin_state(task.B, device)

    def training_step(X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        nonlocal state
        state = tuple(p.detach() for p in state) if isinstance(state, tuple) else state.detach()
        logits, state = net(X, state)
        loss = nn.functional.cross_entropy(logits, Y.T.reshape(-1))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), CLIP_NORM)
        optimizer.step()
        return loss

    return _one_by_one(training_step, device)


def _one_by_one(
    step: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], device: torch.device
) -> Competing:
    def ready(batches: list[Batch]) -> Callable[[], float]:
        tensors = [tuple(torch.from_numpy(ids).to(device) for ids in batch) for batch in batches]

        def turn() -> float:
            for X, Y in tensors:
                loss = step(X, Y)
            unrolled.backend.synchronize()
            return loss.item()

        return turn

    return ready


def product(task: Task) -> Ready:
    """``(T * B, H) x (H, H)`` by PyTorch's default library."""
    A, B = (factor.to(device_of(task)) for factor in _factors(task))
    C = torch.empty(len(A), B.shape[1], device=A.device)
    return repeated(lambda: torch.mm(A, B, out=C), unrolled.backend.synchronize)


def packed_product(task: Task) -> Ready:
    """The same by oneDNN, the weights packed outside the clock."""
    A, B = _factors(task)
    packed = torch.ops.mkldnn._reorder_linear_weight(B.T.contiguous(), len(A))
    return repeated(lambda: torch.ops.mkldnn._linear_pointwise(A, packed, None, "none", [], ""))


def _factors(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(task.seed)
    A = torch.randn(task.tokens, task.H, generator=draw)
    return A, torch.randn(task.H, task.H, generator=draw)
