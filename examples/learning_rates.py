"""How does the learning rate change the fall of the loss?"""

from unrolled import torch as unrolled
from unrolled.errors import NotFiniteError
from unrolled.training.records import EpochRecord, Listener


class Losses(Listener):
    """Keeps the loss of every epoch."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_epoch(self, trainer: object, epoch: EpochRecord) -> None:
        self.values.append(epoch.loss)


def main() -> None:
    data = unrolled.SyntheticRegressionData([2, -3.4], 4.2, seed=0)
    for lr in (0.001, 0.01, 0.03, 0.3, 1.0, 3.0):
        losses = Losses()
        model = unrolled.LinearRegressionScratch(2, lr=lr, seed=0)
        end = ""
        try:
            unrolled.Trainer(5, listeners=[losses]).fit(model, data)
        except NotFiniteError as error:
            end = f"   stopped in step {error.step}: not finite"
        print(f"lr {lr:<6g}" + "".join(f"{value:>11.3g}" for value in losses.values) + end)
    print("Small rates creep, 0.3 is at the noise after one epoch, and beyond about 2 (2 over")
    print("the curvature, which is 1 here) every step overshoots by more than it gains.")


if __name__ == "__main__":
    main()
