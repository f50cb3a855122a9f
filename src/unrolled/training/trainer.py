"""The one training loop."""

import math
import time
from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.errors import NotFiniteError, SettingError
from unrolled.functional.updates import clip_by_global_norm
from unrolled.training.hyperparameters import HyperParameters
from unrolled.training.records import EpochTotals, Listener, StepRecord


class Trainer(HyperParameters):
    """Fits a model to data: epochs of minibatches, each forward, backward, clip, step.

    A recurrent state is carried from one minibatch to the next, cut off from the old
    graph, where the loader says that they continue each other (``loader.continues``);
    every epoch starts without one.

    A loss or gradient that is NaN or infinite ends the training with an error; the
    model then holds the last weights that gave a finite loss.

    Args:
        max_epochs: passes over the training data.
        num_gpus: GPUs to use, as far as there are any; 0 means the CPU.
        gradient_clip_val: above 0, the global L2 norm of all gradients is limited to
            this between backward and step.
        listeners: told of every step and epoch.

    Attributes:
        epoch: the running one, from 0.
        train_batch_idx, val_batch_idx: minibatches seen so far.
        num_train_batches, num_val_batches: minibatches of an epoch.

    Example:
        >>> from unrolled import torch
        >>> data = torch.SyntheticRegressionData([2, -3.4], 4.2, seed=0)
        >>> model = torch.LinearRegressionScratch(2, lr=0.03, seed=0)
        >>> trainer = torch.Trainer(max_epochs=10)
        >>> trainer.fit(model, data)
        >>> [round(value, 1) for value in model.w.flatten().tolist()]
        [2.0, -3.4]
    """

    backend: ClassVar[Backend]
    max_epochs: int
    num_gpus: int
    gradient_clip_val: float

    def __init__(
        self,
        max_epochs: int,
        num_gpus: int = 0,
        gradient_clip_val: float = 0,
        listeners: Iterable[Listener] = (),
    ) -> None:
        self.save_hyperparameters(ignore=["listeners"])
        self.listeners = list(listeners)
        self.gpus = self.backend.devices(num_gpus)
        self.stopping = False

    def fit(self, model: Any, data: Any) -> None:
        """Train ``model`` on ``data`` for ``max_epochs``, or until `stop`.

        Raises:
            NotFiniteError: the loss or a gradient became NaN or infinite.
        """
        self.prepare(model, data)
        for listener in self.listeners:
            listener.on_fit_start(self)
        for self.epoch in range(self.max_epochs):  # noqa: B020
            self.fit_epoch()
            if self.stopping:
                break
        self._check_weights()
        self.model.board.show()

    def prepare(self, model: Any, data: Any) -> None:
        """Everything before the first minibatch; `fit` begins with it."""
        self.check_model(model)
        self.prepare_data(data)
        self.prepare_model(model)
        self.optim = self.model.configure_optimizers()
        self.parameters = self.backend.parameters(self.model)
        self.differentiate = self.backend.compile(self.backend.value_and_grad(self.objective))
        self._clip = self.backend.compile(partial(clip_by_global_norm, self.backend.xp))
        self.last_good: dict[str, Any] | None = None
        self.stopping = False
        self.epoch = self.train_batch_idx = self.val_batch_idx = 0

    def stop(self) -> None:
        """End the training after the running minibatch."""
        self.stopping = True

    @property
    def trained_model(self) -> Any:
        """The model as trained so far, to be called: the model itself, but in JAX."""
        return self.model.with_parameters(self.parameters)

    def check_model(self, model: Any) -> None:
        """Make sure that the trainer can train a model.

        Raises:
            SettingError: it is not of this framework, or has no loss.
        """
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
        self.num_train_batches = len(self.train_dataloader)
        if not self.num_train_batches:
            raise SettingError(
                "the training loader gives no minibatch; it must give at least one an epoch"
            )
        self.num_val_batches = 0 if self.val_dataloader is None else len(self.val_dataloader)

    def prepare_model(self, model: Any) -> None:
        """Introduce model and trainer to each other; move the model to its device."""
        model.trainer = self
        model.board.xlim = [0, self.max_epochs]
        self.model = self.backend.to_device(model, self.gpus[0]) if self.gpus else model

    def prepare_batch(self, batch: Any) -> Any:
        """The minibatch on the model's device."""
        return self.backend.to_device(batch, self.gpus[0]) if self.gpus else batch

    def objective(self, parameters: Any, batch: Any, state: Any) -> tuple[Any, Any]:
        """Loss and carried state as a function of the parameters, to be differentiated."""
        model = self.model.with_parameters(parameters)
        return model.loss_and_state(batch, state)  # type: ignore[no-any-return]

    def fit_epoch(self) -> None:
        """One pass over the training data, then one over the validation data."""
        self.backend.set_training(self.model, True)
        totals = EpochTotals()
        continues = getattr(self.train_dataloader, "continues", False)
        state = None
        for batch in self.train_dataloader:
            if self.stopping:
                return
            step, state = self.fit_batch(self.prepare_batch(batch), state)
            totals.steps.append(step)
            for listener in self.listeners:
                listener.on_step(self, step)
            if not continues:
                state = None
        self.backend.synchronize()
        train_s = time.perf_counter() - totals.started
        record = totals.record(self.validate(), train_s)
        self.model.epoch_end(record)
        for listener in self.listeners:
            listener.on_epoch(self, record)

    def fit_batch(self, batch: Any, state: Any) -> tuple[StepRecord, Any]:
        """Forward, backward, clip, step: one minibatch, and the state to carry on."""
        (loss, state), gradients = self.differentiate(self.parameters, batch, state)
        for listener in self.listeners:
            listener.on_gradients(self, gradients)
        gradients, norm = self.clip_gradients(self.gradient_clip_val, gradients)
        loss, norm = float(loss), float(norm)
        self._check_step(loss, norm)
        self.last_good = self.backend.snapshot(self.parameters, reuse=self.last_good)
        self.parameters = self.backend.apply_gradients(self.optim, self.parameters, gradients)
        self.train_batch_idx += 1
        record = StepRecord(
            epoch=self.epoch + 1,
            step=self.train_batch_idx,
            loss=loss,
            num_targets=math.prod(batch[-1].shape),
            gradient_norm=norm,
            clipped_norm=min(norm, self.gradient_clip_val or norm),
        )
        self.model.step_end(record)
        return record, self.backend.stop_gradient(state) if state is not None else None

    def clip_gradients(self, grad_clip_val: float, gradients: Any) -> tuple[Any, Any]:
        """The gradients, clipped if ``grad_clip_val > 0``, and their norm before it."""
        theta = grad_clip_val if grad_clip_val > 0 else math.inf
        return self._clip(gradients, theta)  # type: ignore[no-any-return]

    def validate(self) -> float | None:
        """Mean validation loss; None where there is nothing to validate on."""
        if self.val_dataloader is None:
            return None
        self.backend.set_training(self.model, False)
        total, count = 0.0, 0
        for batch in self.val_dataloader:
            batch = self.prepare_batch(batch)
            with self.backend.without_gradients():
                loss = self.validation_step(batch)
            self.val_batch_idx += 1
            if loss is not None:
                targets = math.prod(batch[-1].shape)
                total, count = total + float(loss) * targets, count + targets
        return total / count if count else None

    def validation_step(self, batch: Any) -> Any:
        """The loss of a validation minibatch; None if the model gives none."""
        return self.model.validation_step(batch)

    def _check_step(self, loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        if not math.isfinite(loss):
            what = f"the loss became {loss}"
            self._restore()
        else:
            what = f"the gradient became {norm} (the loss is still {loss:.4g})"
        raise self._not_finite(what, self.train_batch_idx + 1)

    def _check_weights(self) -> None:
        """The weights after the last step, which no further loss will tell of."""
        if self.train_batch_idx == 0:
            return
        with self.backend.without_gradients():
            # x - x is 0 for every number, however large, but for infinity and NaN
            sums = [float(self.backend.xp.sum(p - p)) for p in self.parameters.values()]
        if any(map(math.isnan, sums)):
            self._restore()
            raise self._not_finite("the weights became infinite or NaN", self.train_batch_idx)

    def _restore(self) -> None:
        if self.last_good is not None:
            self.parameters = self.backend.assign(self.parameters, self.last_good)

    def _not_finite(self, what: str, step: int) -> NotFiniteError:
        epoch = self.epoch + 1
        clip = (
            f"a gradient_clip_val below {self.gradient_clip_val:g}"
            if self.gradient_clip_val
            else "clipping (gradient_clip_val=1)"
        )
        return NotFiniteError(
            f"{what} in epoch {epoch}, step {step}; training stopped, and the model keeps the "
            f"last weights that gave a finite loss. Try a smaller lr (a tenth), or {clip}",
            epoch=epoch,
            step=step,
        )
