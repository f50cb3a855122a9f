"""Can automatic differentiation fit a temperature to a spectrum? Planck's law."""

import torch

from unrolled import torch as unrolled

TEMPERATURE = 5772.0  # kelvin, the sun's
HC_OVER_K = 14387.769  # micrometre kelvin


class Planck(unrolled.Module):
    """Radiance per wavelength, c / (l^5 (exp(h c / (l k T)) - 1)), up to a scale c.

    Both parameters are of the size of 1, which is what gradient descent wants: the
    temperature in thousands of kelvin, and the scale against one that is known roughly.
    """

    def __init__(self) -> None:
        super().__init__()
        self.T = torch.nn.Parameter(torch.tensor(4.0))
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, wavelength: torch.Tensor) -> torch.Tensor:
        return self.scale * radiance(wavelength, 1000 * self.T)

    def loss(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return ((y_hat - y) ** 2 / 2).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.02)


def radiance(wavelength: torch.Tensor, temperature: object) -> torch.Tensor:
    return 10 / (wavelength**5 * (torch.exp(HC_OVER_K / (wavelength * temperature)) - 1))


class Spectrum(unrolled.DataModule):
    """Wavelengths from 0.3 to 3 micrometres; radiance with 1% of noise."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_size, self.seed = 50, 0
        self.wavelength = torch.linspace(0.3, 3, 300)
        noise = 1 + 0.01 * torch.randn(300, generator=torch.Generator().manual_seed(0))
        self.radiance = 0.8 * radiance(self.wavelength, TEMPERATURE) * noise

    def get_dataloader(self, train: bool) -> object:
        return self.get_tensorloader((self.wavelength, self.radiance), train) if train else None


def main() -> None:
    model = Planck()
    unrolled.Trainer(max_epochs=150).fit(model, Spectrum())
    print(f"fitted T = {1000 * model.T.item():.0f} K, true {TEMPERATURE:.0f} K; ", end="")
    print(f"scale {model.scale.item():.3f}, true 0.8")


if __name__ == "__main__":
    main()
