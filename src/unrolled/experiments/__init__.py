"""The named experiments, each a short declaration in a module of its own.

This table is light, so that the command line can list them without loading them.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.errors import SettingError, check_seed, did_you_mean

if TYPE_CHECKING:
    from unrolled.experiments.context import Context
    from unrolled.training.data_parallel import DataParallel


EXPERIMENTS = {
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
"""Experiments by name, with a line on what each shows."""


def load(name: str) -> Any:
    """The module of an experiment, with ``Settings`` and ``run(context, settings)``."""
    if name not in EXPERIMENTS:
        raise SettingError(f"unknown experiment '{name}': {did_you_mean(name, EXPERIMENTS)}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def run(
    name: str,
    assignments: tuple[str, ...] = (),
    framework: str = "torch",
    seed: int = 0,
    out: str | Path | None = None,
    log: tuple[str, ...] = (),
    checkpoint: str | None = None,
    devices: int = 1,
) -> Path:
    """Run an experiment as the command line does.

    Started by ``torchrun`` or alike, the processes train together, and that of rank 0 writes the
    run directory.

    Args:
        name: of the experiment.
        assignments: settings as ``"name=value"``.
        framework: which to run on.
        seed: of all random draws.
        out: the run directory to make; None takes ``runs/<name>-<number>``.
        log: trackers that get the records as well: ``"csv"``, ``"tensorboard"``.
        checkpoint: how often to save one, see `unrolled.training.checkpointing`; ``"off"``. None:
            every minute, of runs that take longer; of a run that is resumed as before.
        devices: of each process, that share every minibatch (JAX and TensorFlow).

    Returns:
        The run directory.

    Raises:
        UnrolledError: anything wrong with what was asked for; nothing is written then.
    """
    from unrolled import frameworks
    from unrolled.experiments.context import Context
    from unrolled.experiments.settings import parse

    module = load(name)
    frameworks.require(framework)
    settings = parse(module.Settings, assignments)
    check_seed(seed)
    data_parallel = join(framework, devices, {"experiment": name, "seed": seed})
    with data_parallel.together():
        path = Path(out) if out is not None else None
        context = Context(name, framework, seed, path, log, checkpoint, data_parallel=data_parallel)
        train(module, context, settings)
    return context.directory.path


def check_before_launch(
    name: str | None, assignments: tuple[str, ...], framework: str, parts: int, path: Path | None
) -> None:
    """Raise the error that each process would fail with; arguments as of `run` and `resume`."""
    from unrolled import frameworks
    from unrolled.experiments.settings import parse
    from unrolled.runs.directory import RunDirectory
    from unrolled.training.data_parallel import check_divides

    if path is not None:
        RunDirectory.begun(path).read_config()
    elif name is not None:
        frameworks.require(framework)
        check_divides(parse(load(name).Settings, assignments).batch_size, parts)


def join(framework: str, devices: int, about: Mapping[str, Any]) -> "DataParallel":
    """Join the other processes of a run, if there are any.

    Raises:
        SettingError: several are none of the framework's, or the environment says nonsense.
        RunError: a process has not come, or is about something else.
    """
    from unrolled import frameworks
    from unrolled.processes.place import place_from_environment
    from unrolled.training.data_parallel import DataParallel

    if devices == 1 and place_from_environment() is None:
        return DataParallel()
    joined: DataParallel = frameworks.load(framework).data_parallel(devices, about)
    return joined


def train(module: Any, context: "Context", settings: Any) -> None:
    """Run a loaded experiment, with all processes that have joined."""
    from unrolled.training.data_parallel import check_divides

    check_divides(settings.batch_size, context.data_parallel.parts)
    context.data_parallel.check_same({"settings": dataclasses.asdict(settings)})
    module.run(context, settings)


def resume(
    path: str | Path,
    assignments: tuple[str, ...] = (),
    force: bool = False,
    log: tuple[str, ...] = (),
    checkpoint: str | None = None,
    given: Mapping[str, Any] = {},
    devices: int = 1,
) -> Path:
    """Go on with a run that was interrupted or killed, from its newest checkpoint.

    What follows is to the byte what would have followed without the break.

    Args:
        path: the run directory.
        assignments: settings to change, as ``"name=value"``: more epochs, for one.
        force: go on also where it cannot be exact: with other settings, versions or threads.
        log, checkpoint: as of `run`.
        given: what the run must be of: ``experiment``, ``framework`` and ``seed``; None is any.
        devices: as of `run`. Another number of processes or devices changes roundings only.

    Returns:
        The run directory.

    Raises:
        ResumeError: it cannot be resumed, or not exactly; nothing is changed then.
    """
    from unrolled import frameworks
    from unrolled.experiments.context import Context
    from unrolled.experiments.resuming import Resumption
    from unrolled.runs.directory import RunDirectory

    framework = RunDirectory.begun(Path(path)).read_config()["framework"]
    data_parallel = join(framework, devices, {"run": str(path)})
    follows = data_parallel.rank > 0
    with data_parallel.together(), Resumption(Path(path), force, follows) as resumption:
        config = resumption.config
        resumption.check(given)
        module = load(config["experiment"])
        frameworks.require(config["framework"])
        settings = resumption.settings(module.Settings, assignments)
        check_seed(config["seed"])
        head = config["experiment"], config["framework"], config["seed"]
        context = Context(*head, None, log, checkpoint, resumption, data_parallel)
        train(module, context, settings)
    return context.directory.path
