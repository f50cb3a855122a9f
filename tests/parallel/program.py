"""Train the cases given and save what came out: ``program.py FRAMEWORK DEVICES FOLDER CASES``.

It runs in as many processes as the environment says; rank 0 writes the files.
"""

import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.telemetry.recorder import Telemetry
from unrolled.training.records import Listener
from unrolled.training.truncation import Truncation

STEPS, TAIL = 20, 5
"""How many steps there are, and how many of them, at the end, are compared."""

SAVED = "every=15steps"
"""When a checkpoint is saved: where the last steps begin."""


@dataclass(frozen=True)
class Case:
    """A training.

    Attributes:
        layer: whether the model is the framework's own layer.
        rows: examples of a linear regression; 0: a language model.
        reduction: of the loss, in a linear regression.
        resume: the folder of a case that was saved, to go on from there.
    """

    name: str
    cell: str = "rnn"
    layer: bool = False
    num_layers: int = 1
    random: bool = False
    method: str = "global_norm"
    vocab: int = 20
    double: bool = False
    state: str = "carried"
    back_steps: int | None = None
    rows: int = 0
    reduction: str = "mean"
    save: bool = False
    resume: str | None = None


def main(framework: str, devices: int, folder: Path, cases: list[Case]) -> None:
    """Train them all, one after the other, by processes that meet once."""
    u = importlib.import_module(f"unrolled.{framework}")
    parallel = u.data_parallel(devices=devices, about={"cases": [case.name for case in cases]})
    for case in cases:
        found = trained(u, parallel, case, folder / case.name)
        if parallel.rank == 0:
            np.savez(folder / f"{case.name}.npz", **found)


def trained(u: Any, parallel: Any, case: Case, folder: Path) -> dict[str, Any]:
    """The numbers of the last `TAIL` steps of a training, by name."""
    u.backend.seed(7)
    data, model = data_and_model(u, case)
    watch = Watch()
    records: list[Any] = []
    trainer = u.Trainer(
        8 if case.rows else 1,
        gradient_clip_val=0.05,
        gradient_clip_method=case.method,
        listeners=[Telemetry(5, [records.append]), watch],
        truncation=Truncation(case.state, case.back_steps),
        checkpoint=u.Checkpointing(folder, SAVED) if case.save else None,
        data_parallel=parallel,
    )
    if case.resume:
        trainer.fit(model, data, resume=case.resume)
    else:
        for step in trainer.steps(model, data):
            if step.step == STEPS:
                break
    if trainer.checkpoint is not None:
        trainer.checkpoint.wait()
    found = watch.numbers(trainer.backend)
    for name, array in u.backend.named_arrays(trainer.bound_model).items():
        found[f"weight {name}"] = _numpy(u.backend, array)
    for record in records:
        if record.step > STEPS - TAIL:
            _flatten(record.as_dict(), f"telemetry {record.step}", found)
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


class Watch(Listener):
    """Keeps steps, and the gradients of the last one; stops after `STEPS`."""

    takes_rows = True

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.gradients: dict[str, Any] = {}

    def on_backward(self, trainer: Any, backward: Any) -> None:
        before, after = backward.gradients, backward.clipped
        self.gradients = {f"gradient {name}": g for name, g in before.items()}
        self.gradients |= {f"clipped gradient {name}": g for name, g in after.items()}
        self.gradients = {n: _numpy(trainer.backend, g) for n, g in self.gradients.items()}

    def on_step(self, trainer: Any, step: Any) -> None:
        self.steps.append(step)
        if step.step == STEPS:
            trainer.stop()

    def numbers(self, backend: Any) -> dict[str, Any]:
        """What was kept, by name."""
        fields = ("step", "loss", "num_targets", "gradient_norm", "clipped_norm")
        last = self.steps[-TAIL:]
        return {name: [getattr(step, name) for step in last] for name in fields} | self.gradients


def data_and_model(u: Any, case: Case) -> tuple[Any, Any]:
    """What is trained on, and what is trained."""
    if case.rows:
        data = u.SyntheticRegressionData([2, -3.4], 4.2, num_train=case.rows, num_val=8, seed=0)
        return data, regression(u) if case.reduction == "sum" else u.LinearRegressionScratch(
            2, lr=0.03
        )
    letters = np.random.default_rng(0).integers(200, 200 + case.vocab, 6000)
    data = u.TextData(
        "".join(map(chr, letters)),
        batch_size=8,
        num_steps=5,
        seed=0,
        use_random_iter=case.random,
        max_tokens=1200,
    )
    vocab = len(data.vocab)
    if case.layer:
        model = u.RNNModel(u.recurrent_layer(case.cell, vocab, 8, case.num_layers), vocab, lr=1.0)
    else:
        model = u.LanguageModel(vocab, 8, case.cell, case.num_layers, lr=1.0, seed=0)
    return data, doubled(u, model) if case.double else model


def regression(u: Any) -> Any:
    """A plain model of the framework's, with the sum of the squared errors as loss."""
    if u.backend.name == "torch":
        from torch import nn

        return u.NativeModel(nn.Linear(2, 1), nn.MSELoss(reduction="sum"), lr=0.001)
    if u.backend.name == "jax":
        from flax import linen

        def loss(y_hat: Any, y: Any) -> Any:
            return ((y_hat - y) ** 2).sum()

        return u.NativeModel(linen.Dense(1), loss, lr=0.001, reduction="sum")
    import keras

    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    return u.NativeModel(net, keras.losses.MeanSquaredError(reduction="sum"), lr=0.001)


def doubled(u: Any, model: Any) -> Any:
    """The model in float64."""
    if u.backend.name == "torch":
        return model.double()
    model = model.initialize()  # with JAX_ENABLE_X64=1
    parameters = u.backend.parameters(model)
    return model.with_parameters({n: p.astype("float64") for n, p in parameters.items()})


def _numpy(backend: Any, array: Any) -> Any:
    dense = array.to_dense() if getattr(array, "is_sparse", False) else array
    dense = dense.detach() if hasattr(dense, "detach") else dense
    return np.array(backend.to_numpy(dense))


def _flatten(tree: Any, name: str, found: dict[str, Any]) -> None:
    """The numbers of a telemetry record by their places in it."""
    if isinstance(tree, dict):
        for key, part in tree.items():
            _flatten(part, f"{name} {key}", found)
    elif isinstance(tree, (list, tuple)) or type(tree) in (int, float):
        found[name] = [np.nan if x is None else x for x in np.ravel(tree)]


if __name__ == "__main__":
    kind, count, where, what = sys.argv[1:]
    main(kind, int(count), Path(where), [Case(**case) for case in json.loads(what)])
