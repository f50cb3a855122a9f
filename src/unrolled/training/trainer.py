"""``Trainer``: the training loop, forward, backward, clip, step, and the carried hidden state."""

import math
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.functional.clipping import check_clip_method
from unrolled.hyperparameters import HyperParameters
from unrolled.training.checkpointing import Checkpointing, as_checkpointing
from unrolled.training.clipping import Clipping
from unrolled.training.data_parallel import DataParallel
from unrolled.training.losses import Losses
from unrolled.training.not_finite import check_policy, check_weights
from unrolled.training.preparation import Preparation
from unrolled.training.records import Backward, Listener, StepRecord
from unrolled.training.tracing import ThroughTime
from unrolled.training.truncation import Truncation


class Trainer(Preparation, Clipping, Losses, HyperParameters):
    """Fits a model to data: epochs of minibatches, each forward, backward, clip, step.

    The hidden state is carried from one minibatch to the next, cut off from the old
    graph, where the loader says that they continue each other (``loader.continues``);
    every epoch starts without one.

    A loss or gradient that is NaN or infinite ends the training with an error, unless
    ``on_nonfinite`` says otherwise; the model then holds the last weights that gave a finite loss.

    Args:
        max_epochs: passes over the training data.
        num_gpus: 0 trains on the CPU; 1 or more on the first GPU, if there is one.
        gradient_clip_val: above 0, gradients are clipped at this between backward and step;
            0 clips nothing.
        listeners: told of every step and epoch.
        gradient_clip_method: ``"global_norm"``, ``"per_tensor"``, ``"value"`` or
            ``"adaptive"``, see `unrolled.functional.clipping`.
        truncation: what a minibatch begins with, and how far back its gradient goes.
        checkpoint: a run directory to save checkpoints in, every ten minutes and at the end, or a
            `Checkpointing` that says how often.
        on_nonfinite: what to do at a loss or gradient that is NaN or infinite: ``"stop"``,
            ``"skip"`` the minibatch, or go back to the last checkpoint (``"rollback"``) and on with
            the next minibatch, see `unrolled.training.recovery`.
        data_parallel: the processes or devices that share every minibatch, from
            ``data_parallel()`` of the framework's public module; None: this process alone.

    Raises:
        SettingError: an unknown method, or a number that makes no sense.

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
    # defaults for subclasses whose __init__ does not call this one
    listeners: Sequence[Listener] = ()
    gradient_clip_method: str = "global_norm"
    truncation: Truncation = Truncation()
    checkpoint: Checkpointing | None = None
    on_nonfinite: str = "stop"
    gpus: Sequence[Any] = ()
    stopping: bool = False
    _told_to_stop: bool = False
    data_parallel: DataParallel = DataParallel()

    def __init__(
        self,
        max_epochs: int,
        num_gpus: int = 0,
        gradient_clip_val: float = 0,
        listeners: Iterable[Listener] = (),
        gradient_clip_method: str = gradient_clip_method,
        truncation: Truncation = truncation,
        checkpoint: Any = None,
        on_nonfinite: str = on_nonfinite,
        data_parallel: DataParallel | None = None,
    ) -> None:
        check_clip_method(gradient_clip_method)
        check_policy(on_nonfinite)
        self.save_hyperparameters(ignore=["listeners", "checkpoint", "data_parallel"])
        self.listeners = list(listeners)
        self.checkpoint = None if checkpoint is None else as_checkpointing(checkpoint)
        self.gpus = self.backend.devices(num_gpus)
        if data_parallel is not None:
            self.data_parallel = data_parallel

    def fit(self, model: Any, data: Any, resume: Any = None, force: bool = False) -> None:
        """Train ``model`` on ``data`` for ``max_epochs``, or until `stop`.

        Args:
            model: what to train.
            data: a data module.
            resume: a run directory, to go on from its newest checkpoint: what follows is, to the
                byte, what would have followed if the training had never ended.
            force: go on also where it cannot be the same: with other settings, versions or
                threads.

        Raises:
            NotFiniteError: the loss or a gradient became NaN or infinite.
            RunError: no whole checkpoint is there, or (without ``force``) it would not be the same.
        """
        epochs = self.epochs(model, data, resume, force)
        with self.data_parallel.together(), closing(epochs):  # also after an error
            for _ in epochs:
                self.fit_epoch()

    def steps(self, model: Any, data: Any) -> Iterator[StepRecord]:
        """Train as `fit` does, and give the record of each step; a loop that breaks off ends it.

        Raises:
            NotFiniteError: the loss or a gradient became NaN or infinite.
            SettingError: ``fit_epoch`` is not the library's own, so its steps are not known.

        Example:
            >>> from unrolled import torch
            >>> data = torch.SyntheticRegressionData([2, -3.4], 4.2, seed=0)
            >>> trainer, model = torch.Trainer(1), torch.LinearRegressionScratch(2, lr=0.03, seed=0)
            >>> [step.step for step in trainer.steps(model, data) if step.loss < 3]
            [30, 31, 32]
        """
        self.check_sees_steps("steps()", "call fit()")
        for _ in self.epochs(model, data):
            yield from self.epoch_steps()

    def epochs(
        self, model: Any, data: Any, resume: Any = None, force: bool = False
    ) -> Generator[int, None, None]:
        """Prepare the training, give the number of every epoch to train, and check the result."""
        self.stopping = self._told_to_stop = False  # a `stop` from now on counts
        self.prepare(model, data)
        self._agree()
        self.recovery.begin(self)
        self.notify("on_fit_start")
        if resume is not None:
            as_checkpointing(resume).restore(self, force)
        for self.epoch in range(self.epoch, self.max_epochs):  # noqa: B020
            self.position.begin(self.epoch)
            yield self.epoch
            self._agree()
            if self.stopping:
                break
        check_weights(self)
        self.notify("on_fit_end")
        self.model.board.show()

    def stop(self) -> None:
        """End the training after the running minibatch, or the running validation."""
        self._told_to_stop = True

    def _agree(self) -> None:
        """Let all processes have one clock, and stop at the same minibatch."""
        now = time.monotonic()
        self.now, self.stopping = self.data_parallel.agree(now, self._told_to_stop)

    def fit_epoch(self) -> None:
        """Train on every minibatch once, then validate.

        A subclass, or a notebook, may put a loop of its own here, which moves the weights by
        ``model.training_step``, ``optim`` and `clip_gradients`; listeners hear nothing of it.
        """
        for _ in self.epoch_steps():
            pass

    def epoch_steps(self) -> Iterator[StepRecord]:
        """Take one optimizer step for each minibatch left of the epoch, then validate."""
        self.backend.set_training(self.model, True)
        started, before = time.perf_counter(), self.sums.num_targets
        for batch in self.minibatches():
            step, self.hidden_state = self.fit_batch(batch, self.hidden_state)
            self.sums.add(step)
            self.offset += 1
            self.notify("on_step", step)
            given = time.perf_counter()
            yield step
            started += time.perf_counter() - given  # the caller's time is no training
        if self.stopping:
            return
        self.backend.synchronize()
        timing = time.perf_counter() - started, self.sums.num_targets - before
        record = self.sums.record(self.epoch + 1, self.train_batch_idx, self.validate(), *timing)
        self.begin_epoch()
        self.model.epoch_end(record)
        self.notify("on_epoch", record)

    def minibatches(self) -> Iterator[Any]:
        """The minibatches left of the epoch, each as what this process computes of it."""
        continues = getattr(self.train_dataloader, "continues", False)
        for batch in self.position.minibatches(self.offset):
            self._agree()
            if self.stopping:
                return
            self.whole_batch = batch
            if not continues:
                self.hidden_state = None
            yield self.data_parallel.own_part(self, self.prepare_batch(batch))

    def fit_batch(self, batch: Any, state: Any) -> tuple[StepRecord, Any]:
        """Forward, backward, clip, step: one minibatch, and the state to carry on."""
        carried = state is not None and self.truncation.state == "carried"
        state = self.truncation.first_state(self, batch, state)
        self.recovery.before_step(self)
        traced = any(self.notify("on_batch", self.train_batch_idx + 1))
        (loss, new_state), gradients, through_time = self.backward(batch, state, traced)
        self._running = batch, loss
        self.notify("on_gradients", gradients)
        gradients, clipped, *norms = self.clip(gradients)
        backward = Backward(batch, state, carried, loss, gradients, clipped, through_time)
        self.notify("on_backward", backward)
        record = self.record(batch, loss, *norms)
        if not (math.isfinite(record.loss) and math.isfinite(record.gradient_norm)):
            return self.recovery.recover(self, record, backward)
        self.recovery.in_a_row = 0
        self.step(clipped)
        self.model.step_end(record)  # before the next number: its point is where the step began
        self.train_batch_idx = record.step
        return record, None if new_state is None else self.backend.stop_gradient(new_state)

    def backward(
        self, batch: Any, state: Any, traced: bool = False
    ) -> tuple[Any, Any, ThroughTime | None]:
        """``(loss, state)`` of a minibatch, the gradients, and if traced those through time."""
        if traced:
            return self.tracer(self.parameters, batch, state, *self.context)
        return *self.differentiate(self.parameters, batch, state, *self.context), None

    def step(self, gradients: Any) -> None:
        """Move the weights, and keep a copy of those that gave the last finite loss."""
        self.last_good = self.backend.snapshot(self.parameters, self.last_good, gradients)
        self.parameters = self.backend.apply_gradients(self.optim, self.parameters, gradients)

    def notify(self, event: str, *what: Any) -> list[Any]:
        """Call a method of every listener, named in `Listener`; gives what they return."""
        answers = []
        for listener in self.listeners:
            answers.append(getattr(listener, event)(self, *what))
        return answers
