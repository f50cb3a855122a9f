"""Why are examples shuffled for training, and not for validation?"""

from typing import Any

import torch

from unrolled import torch as unrolled

W, B = [2, -3.4], 4.2


class Sorted(unrolled.SyntheticRegressionData):
    """The same examples, sorted by their label; shuffled for training or not."""

    def __init__(self, shuffle: bool) -> None:
        super().__init__(W, B, num_val=0, seed=0)
        self.shuffled = shuffle
        order = self.y.flatten().argsort()
        self.X, self.y = self.X[order], self.y[order]

    def get_dataloader(self, train: bool) -> Any:
        return self.get_tensorloader((self.X, self.y), train and self.shuffled)


def main() -> None:
    for shuffle in (True, False):
        model = unrolled.LinearRegressionScratch(2, lr=0.3, seed=0)
        unrolled.Trainer(max_epochs=3).fit(model, Sorted(shuffle))
        error = max((torch.tensor(W) - model.w.flatten()).abs().max(), abs(B - model.b).max())
        print(f"sorted examples, shuffle={shuffle}: largest error {error.item():.4f}")
    print("In order, each minibatch knows one end of the labels only, and the last ones of the")
    print("epoch leave their mark. Validation changes no weights: its order does not matter.")


if __name__ == "__main__":
    main()
