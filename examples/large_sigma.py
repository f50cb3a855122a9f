"""What if the weights start from N(0, 1000^2)?"""

import torch

from unrolled import torch as unrolled

W, B = [2, -3.4], 4.2


def main() -> None:
    data = unrolled.SyntheticRegressionData(W, B, seed=0)
    for sigma in (0.01, 1000.0):
        for epochs in (3, 10, 20):
            model = unrolled.LinearRegressionScratch(2, lr=0.03, sigma=sigma, seed=0)
            unrolled.Trainer(epochs).fit(model, data)
            error = (torch.tensor(W) - model.w.flatten()).abs().max().item()
            print(f"sigma {sigma:>7g}, {epochs:>2} epochs: largest error in w {error:.4f}")
    print("Every update takes off the same share of what is missing, so a start 1000 times")
    print("as far away needs log(1000 / 3.4) / -log(0.97), some 190 updates or 6 epochs, more.")


if __name__ == "__main__":
    main()
