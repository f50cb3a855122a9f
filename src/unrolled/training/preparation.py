"""Prepare a training: check the model, count the minibatches, make parameters and optimizer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.errors import SettingError


class Preparation:
    """The part of a trainer that makes everything ready for the first minibatch."""

    backend: ClassVar[Backend]
    max_epochs: int
    gpus: Sequence[Any]
    parameters: dict[str, Any]
    last_good: dict[str, Any] | None
    compile_functions: Callable[[], None]
    is_dry_run: bool = False
    """True while a model is only shown a minibatch: then nothing is plotted."""

    def prepare(self, model: Any, data: Any) -> None:
        """Make everything ready for the first minibatch; `fit` begins with it."""
        self.check_model(model)
        self.prepare_data(data)
        self.epoch = self.train_batch_idx = self.val_batch_idx = 0
        self.train_curves: set[str] = set()
        self.draws_losses = self.leaves_losses = False
        self.prepare_model(self.build(model, data))
        self.optim = self.model.configure_optimizers()
        self.parameters = self.backend.parameters(self.model)
        self.compile_functions()
        self.last_good = None

    def check_model(self, model: Any) -> None:
        """Make sure that the trainer can train a model."""
        own = f"unrolled.{self.backend.name}"
        found = getattr(model, "backend", None)
        if found is self.backend:
            return
        kind = type(model)
        what = f"a model of unrolled.{found.name}" if found else f"a {kind.__module__} module"
        raise SettingError(
            f"this trainer trains models of {own}, and {kind.__name__} is {what}. Derive it from "
            f"{own}.Module, or give it a loss: {own}.NativeModel(net, loss)"
        )

    def prepare_data(self, data: Any) -> None:
        """Take the loaders of a data module, and count their minibatches."""
        self.train_dataloader = data.train_dataloader()
        self.val_dataloader = data.val_dataloader()
        self.num_train_batches = count(self.train_dataloader)
        if not self.num_train_batches:
            raise SettingError(
                "the training loader gives no minibatch; it must give at least one an epoch"
            )
        self.num_val_batches = 0 if self.val_dataloader is None else count(self.val_dataloader)

    def build(self, model: Any, data: Any) -> Any:
        """The model on its device, with all its parameters.

        Many layers make their parameters when they first see how many inputs they get.
        They are shown a minibatch here, from a loader of its own, so that none is used up.
        """
        model = self.backend.to_device(model, self.gpus[0]) if self.gpus else model
        if self.backend.is_lazy(model):
            model.trainer = self  # its step may ask for it
            self.backend.set_training(model, False)
            with self.dry_running(), self.backend.without_gradients():
                model.loss_and_state(self.prepare_batch(next(iter(data.train_dataloader()))), None)
        return model

    @contextmanager
    def dry_running(self) -> Iterator[None]:
        """Mark that a model is only shown a minibatch."""
        self.is_dry_run = True
        try:
            yield
        finally:
            self.is_dry_run = False

    def prepare_model(self, model: Any) -> None:
        """Introduce model and trainer to each other."""
        model.trainer = self
        model.board.xlim = [0, self.max_epochs]
        self.model = model

    def prepare_batch(self, batch: Any) -> Any:
        """The minibatch on the model's device."""
        return self.backend.to_device(batch, self.gpus[0]) if self.gpus else batch


def count(loader: Any) -> int:
    """The minibatches of a loader; one that does not know is asked for them all once."""
    if hasattr(loader, "__len__"):
        return len(loader)
    if iter(loader) is loader:
        raise SettingError(
            f"a {type(loader).__name__} gives its minibatches once; every epoch needs them: give "
            "a list, or an object whose __iter__ begins anew"
        )
    return sum(1 for _ in loader)
