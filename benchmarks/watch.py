"""What looking into a fused layer costs: a watched training step beside the layer's own passes.

``python benchmarks/watch.py``. One layer of PyTorch's and a linear one on its outputs, random
inputs, plain SGD; T = 35, B = 32. The step with and without `watch`, and the fused layer's
forward and backward pass by itself, take turns as in ``unrolled bench``. Given is what watching
adds to a step, in passes of the layer: one is allowed.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import nn

from unrolled.bench.race import Entrant, Race, repeated, run
from unrolled.watch import watch

T, B = 35, 32
SECONDS = 20.0  # of all turns of a kind of layer
LAYERS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class Model(nn.Module):
    """A fused layer, and a linear one on all its outputs."""

    def __init__(self, layer: nn.Module, H: int) -> None:
        super().__init__()
        self.layer, self.out = layer, nn.Linear(H, 1)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        Y: torch.Tensor = self.out(self.layer(X)[0])
        return Y


def step(kind: str, H: int, watched: bool) -> Callable[[], None]:
    """A training step."""
    torch.manual_seed(0)
    model, X = Model(LAYERS[kind](H, H), H), torch.randn(T, B, H)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    if watched:
        watch(model)

    def work() -> None:
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()

    return work


def passes(kind: str, H: int) -> Callable[[], None]:
    """Forward and backward of the layer alone."""
    torch.manual_seed(0)
    layer, X, dY = LAYERS[kind](H, H), torch.randn(T, B, H), torch.randn(T, B, H)

    def work() -> None:
        torch.autograd.grad(layer(X)[0], tuple(layer.parameters()), dY)

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hiddens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"PyTorch {torch.__version__}, {arguments.threads} threads, H = {arguments.hiddens}")
    print(f"{'':<8}{'layer, ms':>10}{'step':>10}{'watched':>10}{'added, in passes':>20}")
    for kind in LAYERS:
        competitors = {
            "layer": lambda kind=kind: repeated(passes(kind, arguments.hiddens)),
            "step": lambda kind=kind: repeated(step(kind, arguments.hiddens, False)),
            "watched": lambda kind=kind: repeated(step(kind, arguments.hiddens, True)),
        }
        entrants = [Entrant(name, name, ready) for name, ready in competitors.items()]
        race = Race(kind, {}, entrants)
        run(race, arguments.rounds, SECONDS)
        seconds = race.seconds
        rounds = zip(*seconds.values(), strict=True)
        added = sorted((watched - plain) / layer for layer, plain, watched in rounds)
        median, quarter = statistics.median(added), len(added) // 4
        print(f"{kind:<8}", end="")
        print("".join(f"{1e3 * statistics.median(s):>10.2f}" for s in seconds.values()), end="")
        print(f"{median:>10.2f}   ({added[quarter]:.2f} to {added[-1 - quarter]:.2f})")


if __name__ == "__main__":
    main()
