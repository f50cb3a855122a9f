"""Does linear regression learn from weights that start at zero? Does a hidden layer?"""

import torch
from torch import nn

from unrolled import torch as unrolled

W, B = [2, -3.4], 4.2


def main() -> None:
    data = unrolled.SyntheticRegressionData(W, B, seed=0)
    model = unrolled.LinearRegressionScratch(2, lr=0.03, sigma=0.0)
    unrolled.Trainer(max_epochs=10).fit(model, data)
    error = (torch.tensor(W) - model.w.flatten()).abs().max().item()
    print(f"linear regression from w = 0: largest error {error:.4f} after 10 epochs. It learns:")
    print("its loss is a bowl with one lowest point, and any start leads there.")

    torch.manual_seed(0)
    hidden = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    for param in hidden.parameters():
        nn.init.zeros_(param)
    net = unrolled.NativeModel(hidden, nn.MSELoss(), lr=0.03)
    unrolled.Trainer(max_epochs=10).fit(net, data)
    kinds = len({tuple(row) for row in hidden[0].weight.tolist()})
    print(f"a hidden layer from zero: its 8 units hold {kinds} different weight vector(s).")
    print("Units that start equal get equal gradients: the layer stays as good as one unit.")


if __name__ == "__main__":
    main()
