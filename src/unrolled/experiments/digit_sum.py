"""The digit-sum experiment: how accuracy falls as sequences become longer.

The run directory, beside what every run has:

- ``metrics.jsonl``: a line for each part (``"srn-10"``: cell and length) and epoch, with
  ``loss``, ``dev_loss`` and ``dev_accuracy``;
- ``charts.json``: accuracy against length, and an LSTM's gates and cell state over one
  sequence, as data in the form of `unrolled.report.spec`;
- ``model.safetensors``: of every part the model with the best validation accuracy;
- ``summary.json``: under ``"accuracy"`` for each part the accuracies of that model and of
  the last one.
"""

from dataclasses import dataclass
from typing import Any

from unrolled.data.digit_sum import LENGTHS, as_arrays
from unrolled.data.digit_sum import published as published_data
from unrolled.experiments import digit_sum_training
from unrolled.experiments.context import Context
from unrolled.experiments.settings import setting
from unrolled.report.spec import Axis, Chart, Heatmap, Picture, Series
from unrolled.runs.progress import say

SHOWN = 67
"""The test example whose gates are kept: 6 and 7, and one digit that does not count."""


@dataclass(frozen=True)
class Settings:
    """Settings of ``digit-sum``; the defaults are the published ones at three of the lengths.

    But for one: an LSTM's forget gates begin open, with a bias of 1, as R. Jozefowicz et al.
    recommend (An empirical exploration of recurrent network architectures, 2015). Drawn
    around 0 they begin half closed, and what was read 20 steps ago is halved as often.
    """

    cells: tuple[str, ...] = setting(
        ("srn", "lstm"),
        f"layers to compare: {', '.join(digit_sum_training.LAYERS)}",
        choices=tuple(digit_sum_training.LAYERS),
    )
    lengths: tuple[int, ...] = setting(
        (10, 20, 30),
        f"digits of a sequence; published: {', '.join(map(str, LENGTHS))}",
        least=3,
        most=10**4,
    )
    max_epochs: int = setting(500, "passes over the 300 training examples", least=1)
    num_hiddens: int = setting(32, "hidden units of a layer and direction", least=1, most=10**4)
    batch_size: int = setting(8, "sequences of a minibatch", least=1)
    lr: float = setting(0.001, "learning rate of Adam", above=0)
    forget_bias: float | None = setting(
        1.0, "bias of an LSTM's forget gate to begin with; none: drawn, as published"
    )


def run(context: Context, settings: Settings) -> None:
    """Train every cell at every length, and compare what they remember."""
    shell, seed = context.shell, context.seed
    shell.backend.seed(seed)
    context.begin(settings, used={"forget_bias": "drawn"} if settings.forget_bias is None else {})
    digit_sum_training.tell_of_whole_batches(settings.batch_size)
    parts = [(cell, length) for length in settings.lengths for cell in settings.cells]
    results: dict[str, Any] = {}
    pictures: list[Picture] = []
    for number, (cell, length) in enumerate(parts, 1):
        part = f"{cell}-{length}"
        say(f"\n{cell}, length {length} ({number} of {len(parts)})")
        data = context.nndl.DigitSumData(length, settings.batch_size, seed)
        options = {"forget_bias": settings.forget_bias, "lr": settings.lr}
        net = digit_sum_training.build(context.nndl, cell, settings.num_hiddens, seed, **options)
        scores, trainer = digit_sum_training.train(
            context, part, net, data, settings.max_epochs, keeps_best=True
        )
        if scores.values is not None:
            last_test_accuracy, _ = scores.score(trainer.bound_model, "test")
            best = trainer.bound_model.import_parameters(scores.values)
            test_accuracy, _ = scores.score(best, "test")
            results[part] = {
                "cell": cell,
                "length": length,
                "dev_accuracy": scores.best,
                "best_epoch": scores.best_epoch,
                "last_dev_accuracy": scores.dev_accuracy,
                "last_loss": scores.loss,
                "last_test_accuracy": last_test_accuracy,
                "test_accuracy": test_accuracy,
            }
            say(describe(results[part]))
            if cell == "lstm" and length == min(settings.lengths):
                pictures += gates(shell, best, length)
        if context.status == "interrupted":
            break
    pictures = [*accuracy_charts(results), *pictures]
    context.directory.write_json("charts.json", [picture.as_dict() for picture in pictures])
    say("\n" + explain(results))
    context.finish({"accuracy": results})


def describe(found: dict[str, Any]) -> str:
    """A part's result in a line.

    Example:
        >>> describe({"dev_accuracy": 0.9, "best_epoch": 268, "test_accuracy": 0.88,
        ...           "last_dev_accuracy": 0.85, "last_test_accuracy": 0.86})
        'best on validation in epoch 268: 0.90, on test 0.88; after the last epoch 0.85 and 0.86'
    """
    return (
        f"best on validation in epoch {found['best_epoch']}: {found['dev_accuracy']:.2f}, on test "
        f"{found['test_accuracy']:.2f}; after the last epoch {found['last_dev_accuracy']:.2f} and "
        f"{found['last_test_accuracy']:.2f}"
    )


def explain(results: dict[str, Any]) -> str:
    """The accuracies as a table, and what to look for in it.

    Example:
        >>> found = {"cell": "srn", "length": 10, "dev_accuracy": 0.8, "test_accuracy": 0.75,
        ...          "last_dev_accuracy": 0.7, "last_test_accuracy": 0.65}
        >>> print(explain({"srn-10": found}))
        accuracy        validation / test      after the last epoch
        srn-10          0.80 / 0.75            0.70 / 0.65
        Guessing the most frequent sum gives 0.10. A longer sequence is harder: what the first two
        digits were must survive every step after them.
    """
    lines = [f"{'accuracy':<16}{'validation / test':<23}after the last epoch"]
    for part, found in results.items():
        best = f"{found['dev_accuracy']:.2f} / {found['test_accuracy']:.2f}"
        last = f"{found['last_dev_accuracy']:.2f} / {found['last_test_accuracy']:.2f}"
        lines.append(f"{part:<16}{best:<23}{last}")
    return "\n".join(lines) + (
        "\nGuessing the most frequent sum gives 0.10. A longer sequence is harder: what the first "
        "two\ndigits were must survive every step after them."
    )


def accuracy_charts(results: dict[str, Any]) -> list[Picture]:
    """Accuracy against length, a line for each cell and split."""
    series = []
    for colour, cell in enumerate(dict.fromkeys(found["cell"] for found in results.values())):
        own = [found for found in results.values() if found["cell"] == cell]
        own.sort(key=lambda found: found["length"])
        lengths = [found["length"] for found in own]
        for split, name, dash in (("dev", "validation", "solid"), ("test", "test", "dashed")):
            values = [found[f"{split}_accuracy"] for found in own]
            series.append(Series(f"{cell}, {name}", lengths, values, colour=colour, dash=dash))
    if not series:
        return []
    x, y = Axis("length of the sequence"), Axis("accuracy", limits=(0, 1))
    caption = "Of the model with the best validation accuracy; 100 examples of each kind."
    title = "Accuracy against length"
    return [Chart("accuracy-length", title, x, y, series, caption=caption)]


def gates(shell: Any, model: Any, length: int) -> list[Picture]:
    """An LSTM's gates and cell state over one test sequence, as heatmaps."""
    backend = shell.backend
    X, y = as_arrays([published_data([length])[length]["test"][SHOWN]])  # (1, L), (1,)
    with backend.without_gradients():
        digits = backend.asarray(X)
        inside = model.rnn_model.gates(model.embedding(digits))
        values = {name: backend.to_numpy(array)[:, 0] for name, array in inside.items()}  # (L, H)
        predicted = int(backend.to_numpy(model(digits)).argmax())
    caption = (
        f"The network reads {' '.join(map(str, X[0]))}; the sum is {y[0]}, its answer {predicted}."
    )
    steps = list(range(1, length + 1))
    labels = [f"{step}: {digit}" for step, digit in zip(steps, X[0], strict=True)]
    titles = {name: f"{name.capitalize()} gate" for name in ("input", "forget", "output")}
    return [
        Heatmap(
            f"gates-{name}",
            f"{title} over one sequence",
            Axis("time step, with the digit that is read"),
            Axis("hidden unit"),
            Axis(title.lower(), limits=None if name == "cell" else (0, 1)),
            steps,
            list(range(len(values[name][0]))),
            values[name].tolist(),
            map="diverging" if name == "cell" else "sequential",
            caption=caption,
            column_labels=labels,
        )
        for name, title in (titles | {"cell": "Cell state"}).items()
    ]
