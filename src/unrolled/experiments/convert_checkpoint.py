"""`newest` reads a run's last checkpoint; `Checkpoint.write` gives it to another framework."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unrolled import frameworks
from unrolled.checkpoints import folder
from unrolled.checkpoints.contents import pack, unpack
from unrolled.errors import MissingFrameworkError, ParameterError, RunError
from unrolled.runs.directory import RunDirectory
from unrolled.runs.lines import METRICS, TIMINGS, first_lines
from unrolled.runs.progress import say
from unrolled.telemetry.reading import TELEMETRY
from unrolled.training.checkpointing import CHECKPOINTS
from unrolled.training.other_framework import to_carry

LOGS = (METRICS, TIMINGS, TELEMETRY)
"""Files that are carried; what else a checkpoint names is not looked at."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that any framework can go on from.

    Attributes:
        step: that it was saved after.
        values: the parameters under the names of `Module.export_parameters`.
        state: what else means the same in every framework.
        logs: the lines that had been written by then, by the names of their files.
    """

    step: int
    values: Mapping[str, Any]
    state: dict[str, Any]
    logs: Mapping[str, bytes]

    def write(self, directory: RunDirectory) -> None:
        """Write it into another run directory, with the logs."""
        for name, content in self.logs.items():
            directory.write(name, content)
        path = directory.path / CHECKPOINTS
        score = (self.state["listeners"].get("Checkpointing") or {}).get("score")
        try:
            folder.write(path, self.step, pack(self.state, self.values), score)
        except BaseException:  # on a full disk nothing of the new run remains
            shutil.rmtree(path, ignore_errors=True)
            raise


def newest(run: Path, experiment: Any, config: Mapping[str, Any], tokens: Any) -> Checkpoint | None:
    """The newest whole checkpoint of a run, if it has one; ``experiment`` is its module.

    Raises:
        MissingFrameworkError: its parameters are those of a framework's own layers, and the
            framework is not installed.
        RunError: it holds what has no counterpart, or the logs are not those that it knows of.
    """
    found, problems = folder.newest(run / CHECKPOINTS)
    for problem in problems:
        say(problem)
    if found is None:
        return None
    try:
        state, parameters = unpack(found[1])
        values = _values(experiment, config, tokens, parameters)
        carried = to_carry(state, config["framework"], parameters)
        positions = state["listeners"].get("Logs") or {}
        logs = {n: first_lines(run / n, **positions[n]) for n in LOGS if n in positions}
        return Checkpoint(state["position"]["step"], values, carried, logs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"the checkpoint of step {found[0]} in '{run}' is none of {config['experiment']}: "
            f"{error!r:.200}"
        ) from None


def _values(
    experiment: Any, config: Mapping[str, Any], tokens: Any, parameters: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Parameters by a framework's names under those that mean the same in every framework."""
    try:
        experiment.checked(config, parameters, tokens)
    except ParameterError:  # a framework's own layers
        name = config["framework"]
        if not frameworks.is_installed(name):
            raise MissingFrameworkError(
                f"{frameworks.FRAMEWORKS[name]}, whose layers it was trained with, is not "
                f"installed here. Install it {frameworks.advice(name)}"
            ) from None
        exported: Mapping[str, Any] = (
            experiment.rebuild(name, config, tokens).load_values(parameters).export_parameters()
        )
        return exported
    return parameters
