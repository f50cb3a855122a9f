"""`build` and `train` the digit-sum classifier; `Scores` measures epochs and keeps the best."""

from collections.abc import Iterable
from typing import Any

from unrolled.data.digit_sum import NUM_CLASSES, NUM_DIGITS, SPLITS
from unrolled.experiments.compile_once import CompileOnce
from unrolled.experiments.context import Context
from unrolled.functional.losses import cross_entropy
from unrolled.models.weights import Values
from unrolled.nndl.metrics import Accuracy, evaluate
from unrolled.runs.progress import TrainingProgress, say
from unrolled.telemetry.recorder import Sink
from unrolled.training.records import EpochRecord, Listener, StepRecord

LAYERS = {
    "srn": "SRN",
    "gru": "GRU",
    "lstm": "LSTM",
    "bisrn": "BiSRN",
    "bigru": "BiGRU",
    "bilstm": "BiLSTM",
}
"""Recurrent layers by the name of their setting."""

NUM_INPUTS = 32
"""Entries of the embedding of a digit."""


def tell_of_whole_batches(batch_size: int) -> None:
    """Say so if a minibatch holds all training examples."""
    count = SPLITS["train"] * NUM_DIGITS**2
    if batch_size > count:
        say(f"batch_size={batch_size} is more than the {count} examples: each minibatch has all")


def build(
    nndl: Any,
    cell: str,
    num_hiddens: int,
    seed: int,
    forget_bias: float | None = None,
    **options: Any,
) -> Any:
    """The untrained classifier; ``forget_bias`` is an LSTM's, and drawn if it is None."""
    given: dict[str, Any] = {"seed": [seed, 3]}
    if forget_bias is not None and cell in ("lstm", "bilstm"):
        given["attrs"] = {"bf_attr": [[forget_bias] * num_hiddens]}
    layer = getattr(nndl, LAYERS[cell])(NUM_INPUTS, num_hiddens, **given)
    sizes = (NUM_DIGITS, NUM_INPUTS, num_hiddens, NUM_CLASSES)
    return nndl.Model_RNN4SeqClass(layer, *sizes, seed=[seed, 4], **options)


KEPT = ("loss", "dev_loss", "dev_accuracy", "best", "best_epoch", "values", "_sum")
"""Attributes of `Scores` that a checkpoint keeps."""


class Scores(Listener):
    """Accuracy on the validation examples after every epoch; keeps the best model.

    Attributes:
        loss: mean loss of an example in the last epoch, while it was trained on.
        dev_loss, dev_accuracy: after the last epoch.
        best, best_epoch: the largest accuracy so far and when it was first reached.
        values: the parameters of then, by name; None before the first epoch.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        self.loss = self.dev_loss = self.dev_accuracy = 0.0
        self.best, self.best_epoch = -1.0, 0
        self.values: Values | None = None
        self._sum = 0.0
        self._compiled = CompileOnce(data.backend)

    def on_step(self, trainer: Any, step: StepRecord) -> None:
        self._sum += step.loss * step.num_targets

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        self.loss, self._sum = self._sum / epoch.num_targets, 0.0
        model = trainer.bound_model
        self.dev_accuracy, self.dev_loss = self.score(model, "dev")
        if self.dev_accuracy > self.best:
            self.best, self.best_epoch = self.dev_accuracy, epoch.epoch
            # copies: PyTorch's arrays of NumPy share the memory of the parameters
            self.values = {name: v.copy() for name, v in model.export_parameters().items()}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in KEPT}

    def load_state_dict(self, state: Any) -> None:
        for name in KEPT:
            setattr(self, name, state[name])

    def score(self, model: Any, split: str) -> tuple[float, float]:
        """Accuracy and mean loss of a model on ``"dev"`` or ``"test"``."""
        backend = self.data.backend

        def loss(outputs: Any, labels: Any) -> Any:
            return cross_entropy(backend.xp, outputs, labels)

        loader, forward = self.data.loader(split), self._compiled(model)
        return evaluate(backend, model, loader, loss, Accuracy(), forward)

    def fields(self, epoch: EpochRecord) -> dict[str, Any]:
        """The measures of the last epoch, for the log."""
        return {name: getattr(self, name) for name in ("loss", "dev_loss", "dev_accuracy")}

    def line(self, epoch: EpochRecord) -> str:
        """The same for a person."""
        return f"loss {self.loss:.4f}  validation accuracy {self.dev_accuracy:.2f}"


def train(
    context: Context,
    part: str,
    model: Any,
    data: Any,
    max_epochs: int,
    keeps_best: bool = False,
    listeners: Iterable[Listener] = (),
    sinks: Iterable[Sink] = (),
    **clipping: Any,
) -> tuple[Scores, Any]:
    """Train a classifier as a part of a run, see `Context.fit`; its scores, and the trainer.

    With ``keeps_best`` the model with the best scores is kept, not the last one. If there are
    ``sinks``, they get a telemetry record of every step.
    """
    scores = Scores(data)
    trainer = context.shell.Trainer(max_epochs, listeners=[scores, *listeners], **clipping)
    report = TrainingProgress(scores.fields, scores.line, max(1, max_epochs // 5), "sequences")
    context.fit(
        trainer,
        model,
        data,
        report,
        part,
        values=lambda: scores.values if keeps_best else None,
        telemetry_every=1 if sinks else 0,
        sinks=sinks,
    )
    return scores, trainer
