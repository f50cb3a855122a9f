"""The gradient-explosion experiment: unclipped, clipped, and a network that learns.

Three trainings from the same start: ``unclipped`` and ``clipped`` at the published settings,
and ``learns``, clipped likewise but with Adam at a small rate. The run directory, beside
what every run has:

- ``telemetry.jsonl``: a line for each part and step, a
  `unrolled.telemetry.records.TelemetryRecord` and ``"part"``: the norm of every parameter's
  gradient before and after clipping, the gradient at every hidden state, and the share of
  saturated units;
- ``metrics.jsonl``: a line for each part and epoch, with ``loss`` (mean over the
  sequences), ``dev_loss`` and ``dev_accuracy``;
- ``charts.json``: the norms of W, U and b against the step, as data in the form of
  `unrolled.report.spec`; every title says which norm it shows;
- ``model.safetensors``: of every part the last model;
- ``summary.json``: see `unrolled.experiments.norms.Norms.summary`.
"""

from dataclasses import dataclass
from typing import Any

from unrolled.experiments import digit_sum_training
from unrolled.experiments.context import Context
from unrolled.experiments.norms import SETTLED, Norms
from unrolled.experiments.settings import setting
from unrolled.functional.clipping import CLIP_METHODS
from unrolled.report.spec import Axis, Chart, Picture, Series
from unrolled.runs.progress import say


@dataclass(frozen=True)
class Settings:
    """Settings of ``gradient-explosion``; the defaults are the published run."""

    length: int = setting(20, "digits of a sequence", least=3, most=10**4)
    num_hiddens: int = setting(32, "hidden units", least=1, most=10**4)
    batch_size: int = setting(64, "sequences of a minibatch", least=1)
    lr: float = setting(0.2, "learning rate of SGD, on a summed loss", above=0)
    max_epochs: int = setting(50, "passes over the 300 training examples", least=1)
    gradient_clip_val: float = setting(20.0, "what the second and third training clip at", above=0)
    gradient_clip_method: str = setting(
        "global_norm", f"how: {', '.join(CLIP_METHODS)}", choices=CLIP_METHODS
    )
    adam_lr: float = setting(0.003, "learning rate of Adam, in the third training", above=0)
    adam_epochs: int = setting(200, "passes of the third training; 0 leaves it out", least=0)


def run(context: Context, settings: Settings) -> None:
    """Train three times from the same start, and tell what became of the gradients."""
    seed = context.seed
    context.shell.backend.seed(seed)
    context.begin(settings)
    digit_sum_training.tell_of_whole_batches(settings.batch_size)
    clip = {
        "gradient_clip_val": settings.gradient_clip_val,
        "gradient_clip_method": settings.gradient_clip_method,
    }
    sgd = {"optimizer": "sgd", "lr": settings.lr}
    adam = {"optimizer": "adam", "lr": settings.adam_lr}
    at = f"clipped at {settings.gradient_clip_val:g} ({settings.gradient_clip_method})"
    plans: dict[str, tuple[str, int, Any, Any]] = {
        "unclipped": (f"SGD at {settings.lr:g}, unclipped", settings.max_epochs, sgd, {}),
        "clipped": (f"SGD at {settings.lr:g}, {at}", settings.max_epochs, sgd, clip),
        "learns": (f"Adam at {settings.adam_lr:g}, {at}", settings.adam_epochs, adam, clip),
    }
    results: dict[str, Any] = {}
    pictures: list[Picture] = []
    for part, (title, epochs, optimizer, clipping) in plans.items():
        if not epochs or context.status == "interrupted":
            continue
        say(f"\n{part}: {title}")
        data = context.nndl.DigitSumData(settings.length, settings.batch_size, seed)
        options = {"reduction": "sum", **optimizer}
        net = digit_sum_training.build(context.nndl, "srn", settings.num_hiddens, seed, **options)
        norms = Norms()
        scores, trainer = digit_sum_training.train(
            context, part, net, data, epochs, listeners=[norms], sinks=[norms.add], **clipping
        )
        accuracies = {
            f"{split}_accuracy": scores.score(trainer.bound_model, split)[0]
            for split in ("dev", "test")
        }
        if norms.saturated:
            results[part] = {"training": title, **accuracies, **norms.summary()}
            pictures += charts(part, title, norms, clips=bool(clipping))
    context.directory.write_json("charts.json", [picture.as_dict() for picture in pictures])
    say("\n" + explain(results))
    context.finish({"parts": results})


def charts(part: str, title: str, norms: Norms, clips: bool) -> list[Picture]:
    """The norms against the step: the first 40 unclipped, the first 100 clipped."""
    shown = 100 if clips else 40
    kinds = {"before": norms.before} | ({"after": norms.after} if clips else {})
    return [
        Chart(
            f"norms-{part}-{kind}",
            f"Gradient norms {kind} clipping: {title}",
            Axis("step"),
            Axis(f"L2 norm {kind} clipping", "log"),
            [
                Series(name, list(range(1, len(line[:shown]) + 1)), line[:shown], colour=i)
                for i, (name, line) in enumerate(lines.items())
            ],
        )
        for kind, lines in kinds.items()
    ]


LEARNED = 0.2
"""A test accuracy that says that something was learned: twice what guessing gives."""


def explain(results: dict[str, Any]) -> str:
    """What became of the gradients, in words."""
    lines = []
    for part, found in results.items():
        W = found["W"]
        lines.append(
            f"{part}: the gradient of W went from {W['first']:.3g} to {W['peak']:.3g} at step "
            f"{W['peak_step']}"
        )
        if found["dead_step"]:
            lines.append(
                f"  and was dead from step {found['dead_step']} on, with "
                f"{found['saturated_when_dead']:.1%} of the units saturated: tanh lets nothing back"
            )
        elif W["median"] is not None:
            after = W["clipped_median"]
            clipped = f", and {after:.3g} when clipped" if after != W["median"] else ""
            lines.append(
                f"  and lived: its median after step {SETTLED} is {W['median']:.3g}{clipped}"
            )
        lines.append(f"  test accuracy {found['test_accuracy']:.2f}")
    if {"unclipped", "clipped"} <= results.keys():
        lines.append(verdict(*(results[p] for p in ("unclipped", "clipped"))))
    if "learns" in results:
        training, reached = (results["learns"][key] for key in ("training", "test_accuracy"))
        lines.append(
            f"What learns is a smaller step: {training} reaches {reached:.2f}."
            if reached > LEARNED
            else f"A smaller step, {training}, reaches {reached:.2f}: it has not learned yet."
        )
    return "\n".join(lines)


def verdict(unclipped: dict[str, Any], clipped: dict[str, Any]) -> str:
    """Say what clipping did and did not do, as it was measured."""
    kept = unclipped["dead_step"] is not None and clipped["dead_step"] is None
    alive = "Clipping kept the gradient alive." if kept else "Clipping made no difference of life."
    gained = clipped["test_accuracy"] > max(LEARNED, unclipped["test_accuracy"] + 0.1)
    learned = "It made the network learn" if gained else "It did not make the network learn"
    return (
        f"{alive} {learned}: test accuracy {clipped['test_accuracy']:.2f}, and\n"
        f"{unclipped['test_accuracy']:.2f} without clipping, where guessing gives 0.10."
    )
