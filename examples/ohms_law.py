"""Can automatic differentiation fit a resistance? Ohm's law, U = R I."""

import torch

from unrolled import torch as unrolled

RESISTANCE = 47.0  # ohm


class Ohm(unrolled.Module):
    """U = R I; the only parameter is R in ohm."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.R = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        return self.R * current

    def loss(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return ((y_hat - y) ** 2 / 2).mean()


class Measurements(unrolled.DataModule):
    """Currents from 0 to 2 ampere, and voltages measured to 0.1 volt."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_size, self.seed = 20, 0
        noise = 0.1 * torch.randn(200, generator=torch.Generator().manual_seed(0))
        self.current = torch.linspace(0, 2, 200)
        self.voltage = RESISTANCE * self.current + noise

    def get_dataloader(self, train: bool) -> object:
        return self.get_tensorloader((self.current, self.voltage), train) if train else None


def main() -> None:
    data, model = Measurements(), Ohm(lr=0.1)
    unrolled.Trainer(max_epochs=20).fit(model, data)
    exact = (data.current @ data.voltage / (data.current @ data.current)).item()
    print(f"fitted R = {model.R.item():.3f} ohm, true {RESISTANCE} ohm, ", end="")
    print(f"least squares in closed form {exact:.3f} ohm")


if __name__ == "__main__":
    main()
