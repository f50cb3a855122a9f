"""The one training loop."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from unrolled.backends import Backend, Namespace
from unrolled.backends.rows import row_gradients
from unrolled.errors import SettingError
from unrolled.functional.updates import check_clip_method, clip
from unrolled.hyperparameters import HyperParameters
from unrolled.training.clipping import Clipping
from unrolled.training.divergence import Divergence
from unrolled.training.records import Backward, EpochTotals, Listener, StepRecord
from unrolled.training.rows import rows_suffice
from unrolled.training.tracing import ThroughTime, Tracer
from unrolled.training.truncation import Truncation


class Trainer(Clipping, Divergence, HyperParameters):
    """Fits a model to data: epochs of minibatches, each forward, backward, clip, step.

    A recurrent state is carried from one minibatch to the next, cut off from the old
    graph, where the loader says that they continue each other (``loader.continues``);
    every epoch starts without one.

    A loss or gradient that is NaN or infinite ends the training with an error; the
    model then holds the last weights that gave a finite loss.

    Args:
        max_epochs: passes over the training data.
        num_gpus: 0 trains on the CPU; 1 or more on the first GPU, if there is one.
        gradient_clip_val: above 0, gradients are clipped at this between backward and step;
            0 clips nothing.
        listeners: told of every step and epoch.
        gradient_clip_method: what is limited: ``"global_norm"``, the L2 norm of all gradients
            together; ``"per_tensor"``, that of each; ``"value"``, every value;
            ``"adaptive"``, that of each unit beside its weights. See
            `unrolled.functional.updates`.
        truncation: what a minibatch begins with, and how far back its gradient goes.

    Raises:
        SettingError: an unknown method, or a number that makes no sense.

    Attributes:
        epoch: the running one, from 0.
        train_batch_idx, val_batch_idx: minibatches seen so far.
        num_train_batches, num_val_batches: minibatches of an epoch.
        train_curves: what the model has plotted of its training steps.

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
    # what an __init__ of a reader's own, of the books' arguments, leaves as it is
    listeners: Sequence[Listener] = ()
    gradient_clip_method: str = "global_norm"
    truncation: Truncation = Truncation()
    gpus: Sequence[Any] = ()
    stopping: bool = False
    draws_losses: bool = False
    """Whether the loop draws training losses, so that `Module.plot_loss` need not."""
    leaves_losses: bool = False
    """Whether the model has left one to it."""
    is_rehearsing: bool = False
    """Whether a model is only shown a minibatch: then nothing is plotted."""

    def __init__(
        self,
        max_epochs: int,
        num_gpus: int = 0,
        gradient_clip_val: float = 0,
        listeners: Iterable[Listener] = (),
        gradient_clip_method: str = gradient_clip_method,
        truncation: Truncation = truncation,
    ) -> None:
        check_clip_method(gradient_clip_method)
        self.save_hyperparameters(ignore=["listeners"])
        self.listeners = list(listeners)
        self.gpus = self.backend.devices(num_gpus)

    def fit(self, model: Any, data: Any) -> None:
        """Train ``model`` on ``data`` for ``max_epochs``, or until `stop`.

        Raises:
            NotFiniteError: the loss or a gradient became NaN or infinite.
        """
        self.stopping = False  # a `stop` from now on counts, during the preparation too
        self.prepare(model, data)
        for listener in self.listeners:
            listener.on_fit_start(self)
        for self.epoch in range(self.max_epochs):  # noqa: B020
            self.fit_epoch()
            if self.stopping:
                break
        self.check_weights()
        self.model.board.show()

    def prepare(self, model: Any, data: Any) -> None:
        """Everything before the first minibatch; `fit` begins with it."""
        self.check_model(model)
        self.prepare_data(data)
        self.epoch = self.train_batch_idx = self.val_batch_idx = 0
        self.train_curves: set[str] = set()
        self.draws_losses = self.leaves_losses = False
        self.prepare_model(self.build(model, data))
        self.optim = self.model.configure_optimizers()
        self.parameters = self.backend.parameters(self.model)
        self.make_functions()
        self.starts = self.truncation.starts()
        self.last_good = None

    def make_functions(self) -> None:
        """What a step consists of, compiled where the framework compiles."""
        xp, method = self.backend.xp, self.gradient_clip_method
        self.differentiate = self.differentiable(self.objective)
        self.tracer = Tracer(self)
        self._clip = self.backend.compile(partial(clip, xp, method))
        self._join = self.backend.compile(partial(_join, xp))

    def stop(self) -> None:
        """End the training after the running minibatch, or the running validation."""
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
        if self.backend.is_deferred(model):
            model.trainer = self  # its step may ask for it
            self.backend.set_training(model, False)
            with self.rehearsing(), self.backend.without_gradients():
                model.loss_and_state(self.prepare_batch(next(iter(data.train_dataloader()))), None)
        return model

    @contextmanager
    def rehearsing(self) -> Iterator[None]:
        """While a model is only shown a minibatch."""
        self.is_rehearsing = True
        try:
            yield
        finally:
            self.is_rehearsing = False

    def prepare_model(self, model: Any) -> None:
        """Introduce model and trainer to each other."""
        model.trainer = self
        model.board.xlim = [0, self.max_epochs]
        self.model = model

    def prepare_batch(self, batch: Any) -> Any:
        """The minibatch on the model's device."""
        return self.backend.to_device(batch, self.gpus[0]) if self.gpus else batch

    def objective(self, parameters: Any, batch: Any, state: Any) -> tuple[Any, Any]:
        """Loss and carried state as a function of the parameters, to be differentiated."""
        self.draws_losses = True
        model = self.model.with_parameters(parameters)
        with row_gradients(rows_suffice(self)):
            return self.truncation.loss_and_state(self.backend, model, batch, state)

    def differentiable(self, objective: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
        """``(leaves, batch, state, *context) -> ((loss, auxiliary), gradients)``, compiled."""
        return self.backend.compile(self.backend.value_and_grad(objective))

    def context(self) -> tuple[Any, ...]:
        """What the objective needs besides parameters, minibatch and state: nothing here."""
        return ()

    def fit_epoch(self) -> None:
        """One pass over the training data, then one over the validation data.

        A subclass, or a notebook, may put a loop of its own here, of ``model.training_step``,
        ``optim``, `clip_gradients` and ``model.validation_step``. It moves the weights itself,
        and listeners hear nothing of it.
        """
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
        carried = state is not None and self.truncation.state == "carried"
        state = self.starts.state(self, batch, state)
        asked = [listener.on_batch(self, self.train_batch_idx + 1) for listener in self.listeners]
        traced = any(asked)
        (loss, new_state), gradients, through_time = self.backward(batch, state, traced)
        self._running = batch, loss
        for listener in self.listeners:
            listener.on_gradients(self, gradients)
        gradients, clipped, *norms = self.limited(gradients)
        backward = Backward(batch, state, carried, loss, gradients, clipped, through_time)
        for listener in self.listeners:
            listener.on_backward(self, backward)
        record = self._step_record(batch, loss, *norms)
        self.check_step(record, backward)
        self.last_good = self.backend.snapshot(self.parameters, self.last_good, clipped)
        self.parameters = self.backend.apply_gradients(self.optim, self.parameters, clipped)
        self.model.step_end(record)  # before the next number: its point stands where the step began
        self.train_batch_idx += 1
        return record, self.backend.stop_gradient(new_state) if new_state is not None else None

    def backward(
        self, batch: Any, state: Any, traced: bool = False
    ) -> tuple[Any, Any, ThroughTime | None]:
        """``(loss, state)`` of a minibatch, and the gradients of the parameters.

        Args:
            batch: on the model's device.
            state: what it begins with.
            traced: whether to look for gradients through time, the third result.
        """
        if traced:
            return self.tracer(self.parameters, batch, state, *self.context())
        return *self.differentiate(self.parameters, batch, state, *self.context()), None

    def trace(self, batch: Any, state: Any) -> ThroughTime:
        """The gradients through time of a minibatch with the weights as they are now."""
        return self.tracer(self.parameters, batch, state, *self.context())[2]

    def watch_layers(self) -> Any:
        """What looks into the framework's own recurrent layers; None: nothing does.

        An object with ``start()``, called before a minibatch whose layers are to be looked
        at, and ``layers()``, called after its backward pass, which gives
        `unrolled.telemetry.records.LayerRecord` by the modules' names.
        """
        return None

    def _step_record(self, batch: Any, *scalars: Any) -> StepRecord:
        """Loss and norms leave the device together."""
        loss, norm, clipped_norm = self.backend.to_numpy(self._join(scalars)).tolist()
        targets = math.prod(batch[-1].shape)
        if self.gradient_clip_method == "global_norm" and not self.reader_clips:
            clipped_norm = min(norm, self.gradient_clip_val or norm)  # exactly
        return StepRecord(
            epoch=self.epoch + 1,
            step=self.train_batch_idx + 1,
            loss=self._mean_loss(loss, targets),
            num_targets=targets,
            gradient_norm=norm,
            clipped_norm=clipped_norm,
        )

    def running_loss(self) -> float:
        """The mean loss of the running minibatch, for who hears of `Listener.on_gradients`."""
        batch, loss = self._running
        return self._mean_loss(float(loss), math.prod(batch[-1].shape))

    def _mean_loss(self, loss: float, targets: int) -> float:
        """The mean over the targets of what the model's `Module.loss` gave."""
        summed = getattr(self.model, "reduction", "mean") == "sum"
        return loss / targets if summed else loss

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
                total += self._mean_loss(float(loss), targets) * targets
                count += targets
        return total / count if count else None

    def validation_step(self, batch: Any) -> Any:
        """The loss of a validation minibatch; None if the model gives none."""
        return self.model.validation_step(batch)


def count(loader: Any) -> int:
    """The minibatches of a loader; one that does not know is asked for them all once.

    Raises:
        SettingError: it is an iterator, which gives its minibatches once.

    Example:
        >>> class Loader:
        ...     def __iter__(self):
        ...         return iter("abc")
        >>> count(Loader()), count([1, 2])
        (3, 2)
    """
    if hasattr(loader, "__len__"):
        return len(loader)
    if iter(loader) is loader:
        raise SettingError(
            f"a {type(loader).__name__} gives its minibatches once; every epoch needs them: give "
            "a list, or an object whose __iter__ begins anew"
        )
    return sum(1 for _ in loader)


def _join(xp: Namespace, scalars: tuple[Any, ...]) -> Any:
    """Scalars, or arrays of one number, as one vector."""
    return xp.stack([x if x.shape == () else xp.reshape(x, ()) for x in scalars])
