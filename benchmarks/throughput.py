"""Training throughput of the from-scratch RNN beside a textbook loop and ``nn.RNN``.

``make bench``, or ``python benchmarks/throughput.py --help``. All in one process, in turn
(A B C A B C ...), on the published minibatches of *The Time Machine*, float32, whole
training steps with clipping and SGD. Only the ratios mean something on a shared machine.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from unrolled import torch as unrolled
from unrolled.data.text import clean, time_machine

BATCH_SIZE, NUM_STEPS = 32, 35


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


def trained(model: Any, data: Any) -> Callable[[Any, Any], None]:
    """One minibatch of the library's own trainer, all its checks and records included."""
    trainer = unrolled.Trainer(1, gradient_clip_val=1)
    trainer.prepare(model, data)
    state = None

    def step(X: torch.Tensor, Y: torch.Tensor) -> None:
        nonlocal state
        _, state = trainer.fit_batch((X, Y), state)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hiddens", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--rounds", type=int, default=12, help="epochs of each competitor")
    parser.add_argument("--json", help="write the figures to this file too")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    text = clean(time_machine())
    data = unrolled.TextData(text, BATCH_SIZE, NUM_STEPS, max_tokens=10000, seed=0)
    V = len(data.vocab)
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, V = {V}, ", end="")
    print(f"B = {BATCH_SIZE}, T = {NUM_STEPS}; median, and the ratio's spread over the rounds")
    figures = []
    for H in arguments.hiddens:
        competitors = {
            "textbook loop": textbook(V, H),
            "unrolled, from scratch": trained(unrolled.RNNModelScratch(V, H), data),
            "nn.RNN in unrolled": trained(unrolled.RNNModel(nn.RNN(V, H), V), data),
        }
        seconds: dict[str, list[float]] = {name: [] for name in competitors}
        for round_ in range(arguments.rounds + 1):
            batches = list(data.train_dataloader())
            for name, step in competitors.items():
                started = time.perf_counter()
                for X, Y in batches:
                    step(X, Y)
                if round_:  # the first one warms up
                    seconds[name].append((time.perf_counter() - started) / len(batches))
        base = seconds["textbook loop"]
        print(f"\n{f'H = {H}':<24}{'thousand tokens/s':>20}{'times the textbook loop':>28}")
        for name, taken in seconds.items():
            speed = BATCH_SIZE * NUM_STEPS / statistics.median(taken) / 1000
            ratios = sorted(b / t for b, t in zip(base, taken, strict=True))
            ratio = statistics.median(ratios)
            print(f"{name:<26}{speed:>18.1f}{ratio:>16.2f}   ({ratios[0]:.2f} to {ratios[-1]:.2f})")
            figures.append({"H": H, "name": name, "ktokens_per_s": speed, "ratio": ratio})
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
