"""The whole state of a training as a tree, and the way back: what a checkpoint holds."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from unrolled.backends.rows import SparseRows
from unrolled.data.batching import EpochLoader
from unrolled.differences import differences
from unrolled.errors import check_fit
from unrolled.parameters import shapes_of
from unrolled.training.not_finite import ROLLBACK
from unrolled.training.position import generators, load_generators
from unrolled.training.records import EpochSums, Listener
from unrolled.training.surroundings import rounding

MAY_CHANGE = ("max_epochs", "checkpoint", "plot_train_per_epoch", "plot_valid_per_epoch")
"""Hyperparameters that change no number of the steps which both trainings take."""

OF_MODELS = ("lr", "engine", "precision")
"""Attributes of models that change the numbers, also where they keep no hyperparameters."""


def training_state(trainer: Any, epoch: int, offset: int) -> dict[str, Any]:
    """The state of a training whose next minibatch is the ``offset``-th of an epoch, both from 0.

    Its arrays are copies: the training may go on.
    """
    backend, model = trainer.backend, trainer.model
    whole_state = trainer.data_parallel.whole_state(model, trainer.hidden_state)
    return {
        "position": {
            "epoch": epoch,
            "offset": offset,
            "step": trainer.train_batch_idx,
            "validation_step": trainer.val_batch_idx,
        },
        "sums": dataclasses.asdict(trainer.sums),
        **learned(trainer),
        "hidden_state": _to_numpy(backend, whole_state),
        "recovery": trainer.recovery.state(trainer),
        "generators": generators(backend),
        "trainer": trainer.own_state(),
        "data": trainer.position.state(offset, trainer.whole_batch),
        "board": model.board.state_dict(),
        "listeners": {name: listener.state_dict() for name, listener in _listeners(trainer)},
        "settings": hyperparameters(trainer),
        "surroundings": as_surroundings(trainer),
        "parts": trainer.data_parallel.parts,
        "draws": backend.state.not_exact(trainer.differentiate),
    }


def load_training_state(trainer: Any, state: Mapping[str, Any]) -> None:
    """Bring a prepared training into the state that `training_state` gave."""
    backend, position = trainer.backend, state["position"]
    check_fit(shapes_of(trainer.parameters), shapes_of(state["parameters"]))
    trainer.epoch, trainer.offset = position["epoch"], position["offset"]
    trainer.train_batch_idx = position["step"]
    trainer.val_batch_idx = position["validation_step"]
    trainer.sums = EpochSums(*(state["sums"][each.name] for each in dataclasses.fields(EpochSums)))
    load_learned(trainer, state)
    rates = state["settings"]["model"].get("lr"), getattr(trainer.model, "lr", None)
    if None not in rates and rates[0] != rates[1]:  # the optimizer's state has the one before
        backend.state.set_lr(trainer.optim, rates[1])
    trainer.recovery.load_state(trainer, state["recovery"])
    hidden_state = _from_numpy(backend, state["hidden_state"], trainer.device)
    trainer.hidden_state = trainer.data_parallel.part_of_state(trainer.model, hidden_state)
    trainer.load_own_state(state["trainer"])
    trainer.model.board.load_state_dict(state["board"])
    trainer.position.load_state(state["data"], trainer.offset)
    for name, listener in _listeners(trainer):
        if state["listeners"].get(name) is not None:
            listener.load_state_dict(state["listeners"][name])
    load_generators(backend, state["generators"])


def learned(trainer: Any) -> dict[str, Any]:
    """Return weights, buffers, optimizer state and last good weights.

    Arrays may share the memory of the framework's.
    """
    backend = trainer.backend
    return {
        "parameters": _to_numpy(backend, trainer.parameters),
        "buffers": _to_numpy(backend, backend.state.buffers(trainer.bound_model)),
        "optimizer": backend.state.optimizer_state(trainer.optim, trainer.parameters),
        "last_good": _to_numpy(backend, trainer.last_good),
    }


def load_learned(trainer: Any, state: Mapping[str, Any]) -> None:
    """Put back what `learned` gave; its arrays may be the framework's from then on."""
    backend = trainer.backend
    trainer.parameters = backend.assign(trainer.parameters, state["parameters"])
    backend.state.load_buffers(trainer.bound_model, state["buffers"])
    backend.state.load_optimizer_state(trainer.optim, state["optimizer"], trainer.parameters)
    trainer.last_good = _from_numpy(backend, state["last_good"], trainer.device)


def has_position(state: Mapping[str, Any]) -> bool:
    """Return whether a state has a position in the training."""
    position = state.get("position")
    names = ("epoch", "offset", "step", "validation_step")
    return isinstance(position, dict) and all(type(position.get(name)) is int for name in names)


def not_the_same(trainer: Any, state: Mapping[str, Any]) -> list[str]:
    """Return the settings and data that differ from those of a checkpoint, in words."""
    found = differences(state["settings"], hyperparameters(trainer))
    loader = trainer.train_dataloader
    sha256 = loader.sha256 if isinstance(loader, EpochLoader) else None
    if sha256 != state["data"].get("sha256"):
        found.append("the training data are others")
    return found


def not_exact(trainer: Any, state: Mapping[str, Any]) -> list[str]:
    """Return what changes roundings or random draws, in words."""
    draws = [] if state["draws"] is None else [state["draws"]]
    before, now = state["surroundings"], as_surroundings(trainer)
    if other_parts(trainer, state):  # then each process has another share of the cores
        before, now = _without_threads(before), _without_threads(now)
    return differences(before, now) + draws


def _without_threads(surroundings: Mapping[str, Any]) -> dict[str, Any]:
    framework = {n: value for n, value in surroundings["framework"].items() if n != "threads"}
    return {**surroundings, "framework": framework}


def other_parts(trainer: Any, state: Mapping[str, Any]) -> list[str]:
    """Return that minibatches are divided otherwise than those before a checkpoint, if so."""
    before, now = state.get("parts", 1), trainer.data_parallel.parts
    if before == now:
        return []
    return [
        f"goes on in {now} {'part' if now == 1 else 'parts'} where there "
        f"{'was' if before == 1 else 'were'} {before}: only roundings differ, and what the model "
        "draws at random, if it does (dropout)"
    ]


def hyperparameters(trainer: Any) -> dict[str, Any]:
    """Return the hyperparameters of trainer, model and data that JSON can hold."""
    found = {}
    for part, owner in (("trainer", trainer), ("model", trainer.model), ("data", trainer.data)):
        kept = dict(getattr(owner, "hparams", {}))
        if part == "model":
            kept |= {name: getattr(owner, name) for name in OF_MODELS if hasattr(owner, name)}
            kept.pop("seed", None)  # of values that are replaced
        found[part] = {n: _plain(v) for n, v in kept.items() if n not in MAY_CHANGE and _says(v)}
    if trainer.on_nonfinite == ROLLBACK:  # then it depends on the checkpoints, too
        schedule = trainer.checkpoint.schedule
        found["trainer"]["checkpoint"] = f"every={schedule.every}{schedule.unit}"
    return found


def _says(value: Any) -> bool:
    """Whether JSON can say what a hyperparameter is."""
    if isinstance(value, (tuple, list)):
        return all(map(_says, value))
    return value is None or isinstance(value, (bool, int, float, str)) or _is_record(value)


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _plain(value: Any) -> Any:
    if _is_record(value):
        return {n: _plain(v) for n, v in dataclasses.asdict(value).items() if _says(v)}
    return [_plain(part) for part in value] if isinstance(value, (tuple, list)) else value


def as_surroundings(trainer: Any) -> dict[str, Any]:
    """Return the surroundings of a training that decide how it rounds."""
    return rounding(trainer.backend, str(trainer.gpus[0]) if trainer.gpus else "cpu")


def _listeners(trainer: Any) -> Iterator[tuple[str, Listener]]:
    """The listeners that have a state, by name; a second one of a class gets a number."""
    seen: dict[str, int] = {}
    for listener in trainer.listeners:
        kind = type(listener)
        if kind.state_dict is not Listener.state_dict:
            seen[kind.__name__] = number = seen.get(kind.__name__, 0) + 1
            yield kind.__name__ if number == 1 else f"{kind.__name__} {number}", listener


def _to_numpy(backend: Any, value: Any) -> Any:
    """Copies of a framework's arrays, nested anyhow, as arrays of NumPy."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {name: _to_numpy(backend, part) for name, part in value.items()}
    if isinstance(value, SparseRows):
        return {"ids": _to_numpy(backend, value.ids), "rows": _to_numpy(backend, value.values)}
    if isinstance(value, (tuple, list)):
        return type(value)(_to_numpy(backend, part) for part in value)
    return np.array(backend.to_numpy(value))


def _from_numpy(backend: Any, value: Any, device: Any) -> Any:
    """The inverse of `_to_numpy`."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        parts = {name: _from_numpy(backend, part, device) for name, part in value.items()}
        return SparseRows(parts["ids"], parts["rows"]) if set(parts) == {"ids", "rows"} else parts
    if isinstance(value, (tuple, list)):
        return type(value)(_from_numpy(backend, part, device) for part in value)
    return backend.asarray(value, device)
