"""Carry a run to another framework.

Models are kept under the same names and shapes whatever computes them (see
`unrolled.models.layers`), so the numbers stay as they are; what changes is who will
compute with them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from unrolled import frameworks
from unrolled.errors import RunError
from unrolled.experiments import EXPERIMENTS, get
from unrolled.runs.directory import RunDirectory, check_free

CARRIED = ("environment.json", "vocabulary.json", "summary.json")
"""Copied as they are, where the run has them: they tell how the numbers came about."""


def convert(run: Path, to: str, out: Path) -> str:
    """Make a run directory whose model belongs to another framework.

    Args:
        run: the run to carry over.
        to: the framework to carry it to; if it is installed here, the model is built
            there and takes the numbers before anything is written.
        out: the new run directory.

    Returns:
        What has been checked, in words.

    Raises:
        SettingError: there is no such framework.
        RunError: the run is incomplete or damaged, or ``out`` cannot be used.
    """
    frameworks.check(to)
    source = RunDirectory.open(run)
    config = source.read_dict("config.json", "experiment", "framework", "seed", "settings")
    restore = _counterpart(config)
    values = source.load_model()
    check_free(out)
    carried: dict[str, Any] = {
        name: source.read_json(name) for name in CARRIED if (run / name).is_file()
    }
    if frameworks.is_installed(to):
        checked = f"its model takes all {len(values)} parameters in {frameworks.FRAMEWORKS[to]}"
        restore(to, config, values, carried.get("vocabulary.json"))
    else:
        checked = f"not checked: {frameworks.FRAMEWORKS[to]} is not installed here"
    directory = RunDirectory.create(out)
    directory.write_json(
        "config.json", {**config, "framework": to, "converted_from": config["framework"]}
    )
    for name, content in carried.items():
        directory.write_json(name, content)
    directory.save_model(values)
    return checked


def _counterpart(config: dict[str, Any]) -> Callable[..., Any]:
    """What makes the model of a run in any framework."""
    module = get(config["experiment"]).load()
    if not hasattr(module, "restore"):
        able = [name for name in EXPERIMENTS if hasattr(get(name).load(), "restore")]
        raise RunError(
            f"the model of {config['experiment']} has no counterpart in other frameworks: the "
            f"experiment keeps it for its own framework only. Convert a run of {' or '.join(able)}"
        )
    restore: Callable[..., Any] = module.restore
    return restore
