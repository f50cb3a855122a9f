"""What several runs can be compared in, and what not."""

from collections.abc import Sequence

from unrolled.report.reading import Run

DATA = {
    "language-model": ("text", "clean", "max_tokens"),
    "linear-regression": ("noise", "num_train", "num_val"),
}
"""Settings that change what is learned: losses on different data do not compare."""


def by_experiment(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each experiment."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.experiment, []).append(run)
    return groups


def objections(runs: Sequence[Run]) -> list[str]:
    """What must not be compared among these runs, and why; empty if all may be."""
    told = []
    groups = by_experiment(runs)
    if len(groups) > 1:
        names = "; ".join(f"{name}: {_listed(group)}" for name, group in groups.items())
        told.append(
            f"These are runs of different experiments ({names}). Their losses, accuracies and "
            "gradient norms measure different things on different data and cannot be compared: "
            "each experiment has charts of its own below. What can be compared are the "
            "environments, and settings of the same meaning, such as the learning rate."
        )
    for experiment, group in groups.items():
        differing = [
            name
            for name in DATA.get(experiment, ())
            if len({str(run.settings.get(name)) for run in group}) > 1
        ]
        if differing:
            told.append(
                f"The runs {_listed(group)} learned from different data ({', '.join(differing)} "
                "differ): their losses and perplexities lie in one chart, but a lower one does "
                "not mean a better model."
            )
        unfinished = [r.name for r in group if r.summary.get("status", "finished") != "finished"]
        if unfinished and len(runs) > 1:
            told.append(f"Not finished: {', '.join(unfinished)}; compare at the same epoch only.")
    return told


def _listed(runs: Sequence[Run]) -> str:
    return ", ".join(run.name for run in runs)
