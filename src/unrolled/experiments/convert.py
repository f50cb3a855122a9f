"""Convert a run to another framework: ``unrolled convert``.

Models are kept under the same names and shapes whatever computes them (see
`unrolled.models.weights`), so the numbers stay as they are; what changes is who will
compute with them. A run that has checkpoints can be resumed in the other framework: its newest
one is carried, too, and what was logged until then.
"""

from pathlib import Path
from typing import Any

from unrolled import frameworks
from unrolled.errors import MissingFrameworkError, RunError
from unrolled.experiments import EXPERIMENTS, convert_checkpoint, load
from unrolled.locking import leave, release
from unrolled.runs.claiming import check_free
from unrolled.runs.directory import RunDirectory
from unrolled.runs.ending import no_end, resumable

CARRIED = ("environment.json", "vocabulary.json", "summary.json")
"""Copied as they are, where the run has them: they tell how the numbers came about."""


def convert(run: Path, to: str, out: Path) -> str:
    """Make a run directory whose model belongs to another framework; return what was checked.

    If the framework is installed here, the model is built there and takes the numbers before
    anything is written. Of a run that was killed there is no model, but a checkpoint.

    Raises:
        SettingError: there is no such framework.
        RunError: the run is incomplete and has no checkpoint, is still running or damaged, or
            ``out`` cannot be used.
        MissingFrameworkError: the run was killed, and its checkpoint is one of layers of a
            framework that is not installed.
    """
    frameworks.check(to)
    end = no_end(run)
    was_killed = end is not None and not end.is_running and resumable(run)
    source = RunDirectory(run) if was_killed else RunDirectory.open(run)
    config = source.read_config()
    experiment = _convertible(config)
    carried: dict[str, Any] = {
        name: source.read_json(name) for name in CARRIED if (run / name).is_file()
    }
    tokens = carried.get("vocabulary.json")
    checkpoint, told = _checkpoint(run, out, experiment, config, tokens, was_killed)
    values = checkpoint.values if was_killed and checkpoint else source.load_model()
    check_free(out)
    name, parts = frameworks.FRAMEWORKS[to], (config, values, tokens)
    with source.telling_damage():
        if frameworks.is_installed(to):
            experiment.restore(to, *parts)
            checked = f"its model takes all {len(values)} parameters in {name}"
        else:
            experiment.checked(*parts)
            checked = f"names and shapes fit; values not checked: {name} is not installed here"
    directory = RunDirectory.create(out)
    with directory.all_or_nothing():
        # an engine that was chosen is one of the framework's
        used = {n: value for n, value in config.get("used", {}).items() if n != "engine"}
        own = {"framework": to, "converted_from": config["framework"], "used": used}
        directory.write_json("config.json", {**config, **own})
        for name, content in carried.items():
            directory.write_json(name, content)
        if not was_killed:
            directory.save_model(values)
        if checkpoint is not None:
            checkpoint.write(directory)
    (leave if was_killed else release)(out)
    return f"{checked}{told}"


def _checkpoint(
    run: Path, out: Path, experiment: Any, config: dict[str, Any], tokens: Any, needed: bool
) -> tuple[convert_checkpoint.Checkpoint | None, str]:
    """The checkpoint to carry, if there is one, and what is to be said of it."""
    try:
        found = convert_checkpoint.newest(run, experiment, config, tokens)
    except MissingFrameworkError as error:
        if needed:
            raise
        return None, f". It cannot be resumed there, as its checkpoints are not carried: {error}"
    if found is None and needed:
        RunDirectory.open(run)  # says what is missing
    if found is None:
        return None, ""
    return found, f". To go on after step {found.step:,}: unrolled run --resume {out}"


def _convertible(config: dict[str, Any]) -> Any:
    """The experiment of a run, with `checked` and what makes its model in any framework."""
    module = load(config["experiment"])
    if not hasattr(module, "restore"):
        able = [name for name in EXPERIMENTS if hasattr(load(name), "restore")]
        raise RunError(
            f"a run of {config['experiment']} is not converted: no command reads its models again. "
            "In Python the same model of another framework takes them by import_parameters(). "
            f"Convert a run of {' or '.join(able)}"
        )
    return module
