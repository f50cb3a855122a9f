"""Training throughput of the from-scratch RNN beside a textbook loop and ``nn.RNN``.

``make bench``, or ``python benchmarks/throughput.py --help``; for what is compared, and
how, see ``common.py``.
"""

from collections.abc import Callable
from typing import Any

import torch
from common import BATCH_SIZE, Competitor, by_steps, race, trained
from torch import nn

from unrolled import torch as unrolled


def textbook(vocab_size: int, num_hiddens: int) -> Callable[[Any, Any], None]:
    """The loop as textbooks have it: one-hot inputs, a step at a time, autograd."""
    H, V = num_hiddens, vocab_size
    shapes = ((V, H), (H, H), (H,), (H, V), (V,))
    params = [torch.randn(s) * 0.01 if len(s) > 1 else torch.zeros(s) for s in shapes]
    for param in params:
        param.requires_grad_(True)
    state = None

    def step(X: torch.Tensor, Y: torch.Tensor) -> None:
        nonlocal state
        W_xh, W_hh, b_h, W_hq, b_q = params
        H_t = torch.zeros(BATCH_SIZE, num_hiddens) if state is None else state.detach()
        outputs = []
        for X_t in nn.functional.one_hot(X.T, V).float():
            H_t = torch.tanh(torch.mm(X_t, W_xh) + torch.mm(H_t, W_hh) + b_h)
            outputs.append(torch.mm(H_t, W_hq) + b_q)
        state = H_t
        loss = nn.functional.cross_entropy(torch.cat(outputs), Y.T.reshape(-1))
        for param in params:
            param.grad = None
        loss.backward()
        with torch.no_grad():
            grads = [param.grad for param in params]
            norm = torch.sqrt(sum(torch.sum(grad**2) for grad in grads))
            for param, grad in zip(params, grads, strict=True):
                if norm > 1:
                    grad *= 1 / norm
                param -= 1.0 * grad

    return step


def competitors(V: int, H: int, data: unrolled.TextData) -> dict[str, Competitor]:
    return {
        "textbook loop": by_steps(textbook(V, H)),
        "unrolled, from scratch": trained(unrolled, unrolled.RNNModelScratch(V, H), data),
        "nn.RNN in unrolled": trained(unrolled, unrolled.RNNModel(nn.RNN(V, H), V), data),
    }


if __name__ == "__main__":
    race(__doc__.splitlines()[0], unrolled, competitors)
