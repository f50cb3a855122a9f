"""A listener that keeps what a trainer reports."""

from typing import Any

from unrolled.training.records import EpochRecord, Listener, StepRecord


class Recorder(Listener):
    """Keeps the records of all steps and epochs, and the names of the gradients."""

    def __init__(self) -> None:
        self.names: list[list[str]] = []
        self.steps: list[StepRecord] = []
        self.epochs: list[EpochRecord] = []

    @property
    def losses(self) -> list[float]:
        """Of every step."""
        return [step.loss for step in self.steps]

    def on_gradients(self, trainer: Any, gradients: dict[str, Any]) -> None:
        self.names.append(list(gradients))

    def on_step(self, trainer: Any, step: StepRecord) -> None:
        self.steps.append(step)

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        self.epochs.append(epoch)
