"""Convert a run to another framework: ``unrolled convert``.

Models are kept under the same names and shapes whatever computes them (see
`unrolled.models.weights`), so the numbers stay as they are; what changes is who will
compute with them.
"""

from pathlib import Path
from typing import Any

from unrolled import frameworks
from unrolled.errors import RunError
from unrolled.experiments import EXPERIMENTS, get
from unrolled.locking import release
from unrolled.runs.claiming import check_free
from unrolled.runs.directory import RunDirectory

CARRIED = ("environment.json", "vocabulary.json", "summary.json")
"""Copied as they are, where the run has them: they tell how the numbers came about."""


def convert(run: Path, to: str, out: Path) -> str:
    """Make a run directory whose model belongs to another framework; return what was checked.

    If the framework is installed here, the model is built there and takes the numbers before
    anything is written.

    Raises:
        SettingError: there is no such framework.
        RunError: the run is incomplete or damaged, or ``out`` cannot be used.
    """
    frameworks.check(to)
    source = RunDirectory.open(run)
    config = source.read_config()
    experiment = _convertible(config)
    values = source.load_model()
    check_free(out)
    carried: dict[str, Any] = {
        name: source.read_json(name) for name in CARRIED if (run / name).is_file()
    }
    name, parts = frameworks.FRAMEWORKS[to], (config, values, carried.get("vocabulary.json"))
    with source.telling_damage():
        if frameworks.is_installed(to):
            experiment.restore(to, *parts)
            checked = f"its model takes all {len(values)} parameters in {name}"
        else:
            experiment.checked(*parts)
            checked = f"names and shapes fit; values not checked: {name} is not installed here"
    directory = RunDirectory.create(out)
    with directory.all_or_nothing():
        directory.write_json(
            "config.json", {**config, "framework": to, "converted_from": config["framework"]}
        )
        for name, content in carried.items():
            directory.write_json(name, content)
        directory.save_model(values)
    release(out)
    return checked


def _convertible(config: dict[str, Any]) -> Any:
    """The experiment of a run, with `checked` and what makes its model in any framework."""
    module = get(config["experiment"]).load()
    if not hasattr(module, "restore"):
        able = [name for name in EXPERIMENTS if hasattr(get(name).load(), "restore")]
        raise RunError(
            f"a run of {config['experiment']} is not converted: no command reads its models again. "
            "In Python the same model of another framework takes them by import_parameters(). "
            f"Convert a run of {' or '.join(able)}"
        )
    return module
