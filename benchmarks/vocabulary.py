"""How time and memory grow with the vocabulary, on the input side and in the loss.

``python benchmarks/vocabulary.py``. PyTorch, ``N = B T`` tokens of a minibatch, every figure
from a process of its own, as the most memory of a process is only known for the whole of it.

The parts: looking rows of ``W_xh`` up; all that a training step does with the table (look-up,
gradient, norm, clipping, copy of the last good weights, SGD) with its gradient as a whole
and as the rows that were looked up, which is what trains; the loss as the formula, in the
project's form, and as PyTorch's own.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from unrolled.backends import torch as backend
from unrolled.backends.rows import row_gradients
from unrolled.functional import losses
from unrolled.functional.clipping import clip
from unrolled.torch import SGD

xp = backend.xp


def looking_up(N: int, H: int, V: int) -> Callable[[], Any]:
    """Rows of ``W_xh`` for ids."""
    W, ids = torch.randn(V, H), torch.randint(0, V, (N,))
    return lambda: xp.take(W, ids)


def training(sparse: bool) -> Callable[[int, int, int], Callable[[], Any]]:
    """A training step of ``W_xh`` alone."""

    def ready(N: int, H: int, V: int) -> Callable[[], Any]:
        table, ids = torch.nn.Parameter(torch.randn(V, H)), torch.randint(0, V, (N,))
        parameters, optimizer, dA = {"W": table}, SGD([table], 0.1), torch.randn(N, H)
        differentiate = backend.value_and_grad(
            lambda parameters: (torch.sum(xp.take(parameters["W"], ids) * dA), None)
        )
        copy = backend.snapshot(parameters)

        def step() -> None:
            nonlocal copy
            with row_gradients(sparse):
                _, gradients = differentiate(parameters)
            clipped, _, _ = clip(xp, "global_norm", gradients, {}, 1.0)
            copy = backend.snapshot(parameters, copy, clipped)
            backend.apply_gradients(optimizer, parameters, clipped)

        return step

    return ready


def loss(function: Callable[[Any, Any], Any]) -> Callable[[int, int, int], Callable[[], Any]]:
    """A loss and its gradient."""

    def ready(N: int, H: int, V: int) -> Callable[[], Any]:
        logits, targets = torch.randn(N, V, requires_grad=True), torch.randint(0, V, (N,))
        return lambda: torch.autograd.grad(function(logits, targets), logits)

    return ready


def formula(logits: torch.Tensor, targets: torch.Tensor) -> Any:
    """The formula under automatic differentiation, however many logits there are."""
    losses.MANY_LOGITS = sys.maxsize
    return losses.cross_entropy(xp, logits, targets)


PARTS = {
    "rows looked up": looking_up,
    "step, whole gradient": training(False),
    "step, by rows": training(True),
    "loss, the formula": loss(formula),
    "loss, unrolled": loss(lambda *case: losses.cross_entropy(xp, *case)),
    "loss, PyTorch's own": loss(torch.nn.functional.cross_entropy),
}


def inside(name: str, N: int, H: int, V: int) -> dict[str, float]:
    """One part: time of the clock and of the processors, and memory beyond what goes in."""
    run = PARTS[name](N, H, V)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, busy = [], []
    for _ in range(5):
        started, worked = time.perf_counter(), time.process_time()
        run()
        seconds.append(time.perf_counter() - started)
        busy.append(time.process_time() - worked)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "ms": 1e3 * statistics.median(seconds),
        "busy_ms": 1e3 * statistics.median(busy),
        "grown_mb": grown * 1024 / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=32 * 35, help="of a minibatch, N")
    parser.add_argument("--hiddens", type=int, default=512)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[28, 1000, 10000, 50000])
    parser.add_argument("--inside", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        name, *sizes = arguments.inside
        print(json.dumps(inside(name, *map(int, sizes))))
        return
    N, H = arguments.tokens, arguments.hiddens
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, N = {N}, H = {H}")
    for V in arguments.vocabularies:
        print(f"\nV = {V:,}: logits {N * V * 4 / 1e6:,.1f} MB, W_xh {V * H * 4 / 1e6:,.1f} MB")
        for name in PARTS:
            command = [sys.executable, __file__, "--inside", name, *map(str, (N, H, V))]
            found = json.loads(subprocess.run(command, check=True, stdout=-1).stdout)
            print(f"  {name:<22}{found['ms']:>10.2f} ms{found['busy_ms']:>10.2f} ms busy", end="")
            print(f"{found['grown_mb']:>10.1f} MB")


if __name__ == "__main__":
    main()
