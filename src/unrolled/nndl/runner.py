"""``RunnerV3`` of *Neural Networks and Deep Learning*: train, evaluate, predict, save, load.

The loop is that of `unrolled.training.trainer.Trainer`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.errors import SettingError, check_fit
from unrolled.nndl.metrics import Metric, evaluate
from unrolled.parameters import read, shapes_of, to_bytes
from unrolled.training.records import Listener, StepRecord
from unrolled.writing import write_whole


class RunnerV3:
    """Trains a model, evaluates it while it trains, and keeps the best one.

    Args:
        model: any model of the framework.
        optimizer: of the framework, over the model's parameters.
        loss_fn: ``(logits, labels) -> loss``, as ``nn.CrossEntropyLoss()``.
        metric: as ``Accuracy()``; needed for `evaluate`.

    Attributes:
        train_step_losses: ``(step, loss)`` of every step, from step 0.
        train_epoch_losses: of every epoch the mean of its steps' losses.
        dev_losses: ``(step, loss)`` of every evaluation while training.
        dev_scores: the metric of each.
        best_score: the largest of them; minus infinity before the first.
        gradient_norms: ``(step, before, after)`` of every step: the global norm of the
            gradients before and after clipping by ``gradient_clip_val``.
        gradients: by parameter name, as backward has left them last.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from torch.utils.data import DataLoader
        >>> from unrolled.nndl import torch as nndl
        >>> from unrolled.data.digit_sum import published
        >>> _ = torch.manual_seed(0)
        >>> examples = published([10])[10]
        >>> train = DataLoader(nndl.DigitSumDataset(examples["train"]), 8, shuffle=True)
        >>> dev = DataLoader(nndl.DigitSumDataset(examples["dev"]), 8)
        >>> model = nndl.Model_RNN4SeqClass(nndl.SRN(32, 32), 10, 32, 32, 19)
        >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
        >>> runner = nndl.RunnerV3(model, optimizer, nn.CrossEntropyLoss(), nndl.Accuracy())
        >>> runner.train(train, dev, num_epochs=1, log_steps=0)
        >>> len(runner.train_step_losses), len(runner.train_epoch_losses)
        (38, 1)
        >>> score, loss = runner.evaluate(dev)
    """

    backend: ClassVar[Backend]
    trainer: ClassVar[Any]
    native_model: ClassVar[Any]

    def __init__(
        self, model: Any, optimizer: Any, loss_fn: Callable[..., Any], metric: Metric | None = None
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.loss_fn = loss_fn
        self.metric = metric
        self.train_step_losses: list[tuple[int, float]] = []
        self.train_epoch_losses: list[float] = []
        self.dev_losses: list[tuple[int, float]] = []
        self.dev_scores: list[float] = []
        self.gradient_norms: list[tuple[int, float, float]] = []
        self.best_score = -math.inf
        self.gradients: dict[str, Any] = {}

    def train(
        self,
        train_loader: Any,
        dev_loader: Any = None,
        num_epochs: int = 0,
        log_steps: int = 100,
        eval_steps: int = 0,
        save_path: str | Path = "best_model.safetensors",
        custom_print_log: Callable[["RunnerV3"], Any] | None = None,
        **options: Any,
    ) -> None:
        """Train the model; evaluate it on the way, and keep the best.

        Args:
            train_loader: minibatches, labels last.
            dev_loader: the same, to evaluate on.
            num_epochs: passes over ``train_loader``.
            log_steps: steps from one printed loss to the next; 0 prints none.
            eval_steps: steps from one evaluation to the next, with another one at the
                end; 0 evaluates never.
            save_path: where the model goes whenever it is better than ever before.
            custom_print_log: called with the runner after every backward, before the
                gradients are clipped and the weights are moved; the last of
                ``train_step_losses`` is this step's. What it makes of the gradients counts.
            options: of the framework's ``Trainer``, as ``gradient_clip_val=20`` and
                ``num_gpus=1``.

        Raises:
            SettingError: there is something to evaluate and no metric or no loader.
            NotFiniteError: the loss or a gradient became NaN or infinite.
        """
        if eval_steps and self.metric is None:
            raise SettingError("eval_steps needs a metric: RunnerV3(model, ..., Accuracy())")
        if eval_steps and dev_loader is None:
            raise SettingError("eval_steps needs a dev_loader to evaluate on")
        log = _Log(self, dev_loader, log_steps, eval_steps, Path(save_path), custom_print_log)
        trainer = self.trainer(num_epochs, listeners=[log], **options)
        model = self.native_model(self.model, self.loss_fn, self.optimizer)
        model.board.display = False
        loaders = {"train_dataloader": lambda: train_loader, "val_dataloader": lambda: None}
        trainer.fit(model, SimpleNamespace(**loaders))
        if log_steps:
            print("[Train] Training done!")

    def evaluate(self, dev_loader: Any, global_step: int = -1) -> tuple[float, float]:
        """Score and mean loss on other data.

        Args:
            dev_loader: minibatches, labels last.
            global_step: where in a training this is: the result is kept in ``dev_scores``
                and ``dev_losses``; -1 keeps nothing.

        Raises:
            SettingError: there is no metric, no loader, or no minibatch.
        """
        score, loss = evaluate(self.backend, self.model, dev_loader, self.loss_fn, self.metric)
        if global_step != -1:
            self.dev_losses.append((global_step, loss))
            self.dev_scores.append(score)
        return score, loss

    def predict(self, x: Any) -> Any:
        """The logits for inputs ``x``, without a graph."""
        self.backend.set_training(self.model, False)
        with self.backend.without_gradients():
            return self.model(x)

    def save_model(self, save_path: str | Path) -> None:
        """Write the model's values to a safetensors file; folders on the way are made."""
        path = Path(save_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, to_bytes(self.values()))

    def load_model(self, model_path: str | Path) -> None:
        """Take the model's values from a file of `save_model`.

        Raises:
            ParameterError: it is missing or damaged, or does not fit the model; nothing is
                changed then.
        """
        values, _ = read(model_path)
        check_fit(shapes_of(self.values()), shapes_of(values))
        self.load_values(values)

    def values(self) -> dict[str, Any]:
        """NumPy arrays of all that belongs to the model, by name."""
        places, to_numpy = self.backend.named_arrays(self.model), self.backend.to_numpy
        return {name: to_numpy(array) for name, array in places.items()}

    def load_values(self, values: Mapping[str, Any]) -> None:
        """The inverse of `values`."""
        self.backend.assign(self.backend.named_arrays(self.model), values)


@dataclass
class _Log(Listener):
    """What the published loop does between its lines: records, messages, evaluations."""

    runner: RunnerV3
    dev_loader: Any
    log_steps: int
    eval_steps: int
    save_path: Path
    custom: Callable[[RunnerV3], Any] | None
    epoch_losses: list[float] = field(default_factory=list)

    def on_gradients(self, trainer: Any, gradients: dict[str, Any]) -> None:
        runner = self.runner
        runner.gradients = {name.removeprefix("net."): g for name, g in gradients.items()}
        if self.custom is None:
            return
        runner.model = trainer.bound_model.net
        runner.train_step_losses.append((trainer.train_batch_idx, trainer.running_loss()))
        self.custom(runner)
        # it may have put other gradients into the framework's own place for them
        for name, parameter in trainer.parameters.items():
            gradient = runner.backend.gradient(parameter)
            if gradient is not None:
                gradients[name] = gradient

    def on_step(self, trainer: Any, step: StepRecord) -> None:
        runner, number = self.runner, step.step - 1
        last = trainer.max_epochs * trainer.num_train_batches - 1
        if self.custom is None:  # else it has it already
            runner.train_step_losses.append((number, step.loss))
        runner.gradient_norms.append((number, step.gradient_norm, step.clipped_norm))
        if step.on_nonfinite is None:
            self.epoch_losses.append(step.loss)
        if self.log_steps and number % self.log_steps == 0:
            norms = f"gradient norm: {step.gradient_norm:.4g}"
            if trainer.gradient_clip_val:
                norms += f" -> {step.clipped_norm:.4g} after clipping"
            print(
                f"[Train] epoch: {step.epoch - 1}/{trainer.max_epochs}, step: {number}/{last + 1}, "
                f"loss: {step.loss:.5f}, {norms}"
            )
        if self.eval_steps and ((number and number % self.eval_steps == 0) or number == last):
            self.evaluate(trainer, number)

    def evaluate(self, trainer: Any, number: int) -> None:
        """Evaluate, and keep the model if it is the best so far."""
        runner = self.runner
        runner.model = trainer.bound_model.net
        score, loss = runner.evaluate(self.dev_loader, global_step=number)
        runner.backend.set_training(trainer.model, True)
        if self.log_steps:
            print(f"[Evaluate]  dev score: {score:.5f}, dev loss: {loss:.5f}")
        if score > runner.best_score:
            runner.save_model(self.save_path)
            if self.log_steps:
                print(f"[Evaluate] best score so far: {runner.best_score:.5f} --> {score:.5f}")
            runner.best_score = score

    def on_epoch(self, trainer: Any, epoch: Any) -> None:
        self.runner.model = trainer.bound_model.net
        losses = self.epoch_losses
        self.runner.train_epoch_losses.append(
            math.fsum(losses) / len(losses) if losses else math.nan
        )
        losses.clear()
