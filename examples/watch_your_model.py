"""How far back does the gradient reach in a model and a training loop of your own?"""

import torch
from torch import nn

from unrolled.telemetry.diagnose import Diagnosis, as_text
from unrolled.watch import watch

STEPS, LENGTH, BATCH, HIDDEN = 40, 30, 32, 16


class Recall(nn.Module):
    """Reads a sequence and tells its first number."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn, self.out = rnn, nn.Linear(HIDDEN, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0][-1])


def train(model: nn.Module) -> None:
    """A training loop that knows nothing of unrolled."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(STEPS):
        x = torch.randn(LENGTH, BATCH, 1)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), x[0]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def main() -> None:
    for kind in (nn.RNN, nn.LSTM):
        torch.manual_seed(0)
        model = Recall(kind(1, HIDDEN))
        if kind is nn.LSTM:
            nn.init.constant_(model.rnn.bias_ih_l0[HIDDEN : 2 * HIDDEN].data, 3.0)  # forget little
        with watch(model) as watched:  # this is all
            train(model)
        layer = watched.last.layers["rnn"]
        print(
            f"{kind.__name__:4} reaches {layer.horizon_steps:2} of {LENGTH - 1} steps back; "
            f"each step leaves {layer.decay_per_step:.2f} of the gradient"
        )
        print(as_text(Diagnosis({"": watched.diagnose()}, [f"{STEPS} records"]), kind.__name__))
        print()


if __name__ == "__main__":
    main()
