"""What do absolute error and Huber's loss make of one label of 10,000?"""

from collections.abc import Callable
from typing import Any

import torch

from unrolled import torch as unrolled
from unrolled.functional import losses

W, B = [2, -3.4], 4.2


class Regression(unrolled.LinearRegressionScratch):
    """Linear regression with a loss of one's choice."""

    def __init__(self, loss: Callable[..., Any]) -> None:
        super().__init__(2, lr=0.03, seed=0)
        self.chosen = loss

    def loss(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.chosen(unrolled.backend.xp, y_hat, y)


def main() -> None:
    for corrupted in (False, True):
        print("with y_5 = 10000:" if corrupted else "clean labels:")
        for loss in (losses.squared_loss, losses.absolute_loss, losses.huber_loss):
            data = unrolled.SyntheticRegressionData(W, B, seed=0)
            if corrupted:
                data.y[5] = 10000
            model = Regression(loss)
            unrolled.Trainer(max_epochs=10).fit(model, data)
            error = max((torch.tensor(W) - model.w.flatten()).abs().max(), abs(B - model.b).max())
            print(f"  {loss.__name__:<14} largest error {error.item():.4f}")
    print("The squared loss pulls in proportion to the error and follows the one wrong label;")
    print("the other two pull no harder than 1 for it. Huber's loss settles as well.")


if __name__ == "__main__":
    main()
