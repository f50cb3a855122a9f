"""The named experiments, each a short declaration in a module of its own.

This table is light, so that the command line can list them without loading them.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unrolled.errors import SettingError, check_seed, did_you_mean


@dataclass(frozen=True)
class Experiment:
    """An experiment: its name on the command line, and what it shows, in one line."""

    name: str
    summary: str

    def load(self) -> Any:
        """Its module, with ``Settings`` and ``run(context, settings)``."""
        return importlib.import_module(f"{__name__}.{self.name.replace('-', '_')}")


SUMMARIES = {
    "linear-regression": (
        "recover known weights by minibatch SGD, from scratch or with the framework's layer"
    ),
    "language-model": (
        "a recurrent network learns The Time Machine (or your text) character by character"
    ),
    "digit-sum": "how long SRN, LSTM and GRU remember: add the first two digits of a sequence",
    "gradient-explosion": (
        "gradients that explode and die, clipped ones that live, and a network that learns"
    ),
}
EXPERIMENTS = {name: Experiment(name, summary) for name, summary in SUMMARIES.items()}


def get(name: str) -> Experiment:
    """The experiment of this name; without one a `SettingError` names the nearest."""
    if name not in EXPERIMENTS:
        raise SettingError(f"unknown experiment '{name}': {did_you_mean(name, EXPERIMENTS)}")
    return EXPERIMENTS[name]


def run(
    name: str,
    assignments: tuple[str, ...] = (),
    framework: str = "torch",
    seed: int = 0,
    out: str | Path | None = None,
    log: tuple[str, ...] = (),
    checkpoint: str | None = None,
) -> Path:
    """Run an experiment as the command line does.

    Args:
        name: of the experiment.
        assignments: settings as ``"name=value"``.
        framework: which to run on.
        seed: of all random draws.
        out: the run directory to make; None takes ``runs/<name>-<number>``.
        log: trackers that get the records as well: ``"csv"``, ``"tensorboard"``.
        checkpoint: how often to save one, see `unrolled.training.checkpointing`; ``"off"``. None:
            every minute, of runs that take longer; of a run that is resumed as before.

    Returns:
        The run directory.

    Raises:
        UnrolledError: anything wrong with what was asked for; nothing is written then.
    """
    from unrolled import frameworks
    from unrolled.experiments.context import Context
    from unrolled.experiments.settings import parse

    module = get(name).load()
    frameworks.require(framework)
    settings = parse(module.Settings, assignments)
    check_seed(seed)
    context = Context(
        name, framework, seed, Path(out) if out is not None else None, log, checkpoint
    )
    module.run(context, settings)
    return context.directory.path


def resume(
    path: str | Path,
    assignments: tuple[str, ...] = (),
    force: bool = False,
    log: tuple[str, ...] = (),
    checkpoint: str | None = None,
    given: Mapping[str, Any] = {},
) -> Path:
    """Go on with a run that was interrupted or killed, from its newest checkpoint.

    What follows is to the byte what would have followed without the break.

    Args:
        path: the run directory.
        assignments: settings to change, as ``"name=value"``: more epochs, for one.
        force: go on also where it cannot be exact: with other settings, versions or threads.
        log, checkpoint: as of `run`.
        given: what the run must be of: ``experiment``, ``framework`` and ``seed``; None is any.

    Returns:
        The run directory.

    Raises:
        ResumeError: it cannot be resumed, or not exactly; nothing is changed then.
    """
    from unrolled import frameworks
    from unrolled.experiments.context import Context
    from unrolled.experiments.resuming import Resumption

    with Resumption(Path(path), force) as resumption:
        config = resumption.config
        resumption.check(given)
        module = get(config["experiment"]).load()
        frameworks.require(config["framework"])
        settings = resumption.settings(module.Settings, assignments)
        check_seed(config["seed"])
        head = config["experiment"], config["framework"], config["seed"]
        context = Context(*head, None, log, checkpoint, resumption)
        module.run(context, settings)
    return context.directory.path
