"""State of Gluon's trainers and MXNet's optimizers, read and restored exactly."""

import types
from collections.abc import Mapping
from typing import Any

import mxnet as mx
import numpy as np
import numpy.typing as npt
from mxnet import gluon

from unrolled.backends.namespace import Array
from unrolled.backends.state.encoding import (
    NotATreeError,
    check_arrays,
    check_class,
    class_name,
    decode,
    encode,
    state_of,
)
from unrolled.errors import ParameterError, SettingError

NOT_STATE = ("param_dict", "sym_info", "lr_scheduler", "_index_update_count")
"""Attributes of MXNet's optimizers: what they move, what is kept on its own, and a second name."""

COUNTS = "_all_index_update_counts"
"""The attribute that has, for each device, how many steps each parameter has taken."""

IS_NP = "__mx.np__"


def buffers(model: gluon.Block) -> dict[str, Array]:
    places = model._collect_params_with_prefix().items()
    return {name: p.data() for name, p in places if p.grad_req == "null" and p._data is not None}


def load_buffers(model: gluon.Block, values: Mapping[str, npt.NDArray[Any]]) -> None:
    found = buffers(model)
    check_arrays({name: array.asnumpy() for name, array in found.items()}, values)
    for name, array in found.items():
        array[:] = mx.np.array(values[name], dtype=array.dtype, ctx=array.ctx)


def optimizer_state(optimizer: Any, parameters: Mapping[str, Array]) -> Any:
    if not isinstance(optimizer, gluon.Trainer):
        return state_of(optimizer, _encoded)
    if optimizer._kvstore is not None and optimizer._update_on_kvstore:
        raise SettingError(
            "this gluon.Trainer leaves its steps to a key-value store, whose state cannot be "
            "read: make it with update_on_kvstore=False"
        )
    rule = optimizer._optimizer
    scaler = getattr(optimizer, "_amp_loss_scaler", None)
    return {
        "class": class_name(rule),
        "moves": _moved(optimizer, parameters),
        "rule": _attributes(rule),
        "schedule": _attributes(rule.lr_scheduler),
        "scaler": _attributes(scaler),
        "states": [_kept(rule, updater.states) for updater in optimizer._updaters],
    }


def load_optimizer_state(optimizer: Any, tree: Any, parameters: Mapping[str, Array]) -> None:
    if not isinstance(optimizer, gluon.Trainer):
        check_class(optimizer, tree)
        optimizer.load_state_dict(decode(tree["state"], _decoded))
        return
    rule = optimizer._optimizer
    check_class(rule, tree)
    if len(tree["states"]) != len(optimizer._updaters):
        raise ParameterError(
            f"the state is of training on {len(tree['states'])} devices, the trainer has "
            f"{len(optimizer._updaters)}"
        )
    moved = _moved(optimizer, parameters)
    if sorted(moved) != sorted(tree["moves"]):
        raise ParameterError(
            f"the state is of {', '.join(tree['moves'])}; the trainer moves {', '.join(moved)}"
        )
    places = {i: moved.index(name) for i, name in enumerate(tree["moves"])}
    rule_tree = tree["rule"] | {"attributes": _renumbered(tree["rule"]["attributes"], places)}
    _load_attributes(rule, rule_tree)
    rule._index_update_count = getattr(rule, COUNTS)[0]
    _load_attributes(rule.lr_scheduler, tree["schedule"])
    _load_attributes(getattr(optimizer, "_amp_loss_scaler", None), tree["scaler"])
    for updater, states, context in zip(
        optimizer._updaters, tree["states"], optimizer._contexts, strict=True
    ):
        with context:
            updater.states = decode(_by_place(states, places), _decoded)
        updater.states_synced = dict.fromkeys(updater.states, True)


def _moved(trainer: gluon.Trainer, parameters: Mapping[str, Array]) -> list[str]:
    """The names of the parameters that a trainer moves, in its order.

    Gluon sorts them by names that it makes up, ``dense9_weight`` after ``dense10_weight``: the
    order depends on how many layers there have been before.
    """
    names = {id(array): name for name, array in parameters.items()}
    unknown = [p.name for p in trainer._params if id(p.list_data()[0]) not in names]
    if unknown:
        raise ParameterError(
            f"the gluon.Trainer moves {unknown[0]}, which is no parameter of the model: make the "
            "layer that has it a child of the model, or give it a trainer of its own"
        )
    return [names[id(p.list_data()[0])] for p in trainer._params]


def _renumbered(attributes: Any, places: Mapping[int, int]) -> Any:
    """The attributes of an optimizer, in whose dicts parameters have their places as keys."""
    moved = {
        name: _by_place(value, places) if isinstance(value, dict) and name != COUNTS else value
        for name, value in attributes.items()
    }
    counts = attributes[COUNTS].items()
    return moved | {COUNTS: {device: _by_place(count, places) for device, count in counts}}


def _by_place(values: Mapping[Any, Any], places: Mapping[int, int]) -> dict[Any, Any]:
    return {places.get(key, key): value for key, value in values.items()}


def _attributes(part: Any) -> Any:
    """Return the attributes of an optimizer or a learning rate schedule, and its class.

    A function is kept by its name only: it has nothing that changes.
    """
    if part is None or isinstance(part, types.FunctionType):
        return None
    kept = {name: value for name, value in vars(part).items() if name not in NOT_STATE}
    return {"class": class_name(part), "attributes": _kept(part, kept)}


def _load_attributes(part: Any, tree: Any) -> None:
    if tree is None:
        return
    if part is None:
        raise ParameterError(f"the state has a {tree['class']}, which the trainer has not")
    check_class(part, tree)
    vars(part).update(decode(tree["attributes"], _decoded))


def _kept(part: Any, value: Any) -> Any:
    try:
        return encode(value, _encoded)
    except NotATreeError as found:
        raise SettingError(
            f"the {class_name(part)} of the gluon.Trainer has {found} among its attributes or "
            "states, which a checkpoint cannot keep: it keeps numbers, texts, lists, tuples, "
            "dicts and arrays"
        ) from None


def _encoded(value: Any) -> Any:
    if isinstance(value, mx.np.ndarray):
        return {IS_NP: value.asnumpy()}
    if isinstance(value, mx.nd.NDArray) and value.stype == "default":
        return value.asnumpy()
    return None


def _decoded(tree: Any) -> Any:
    if isinstance(tree, dict):
        return mx.np.array(tree[IS_NP], dtype=tree[IS_NP].dtype) if IS_NP in tree else None
    return mx.nd.array(tree, dtype=tree.dtype)


def generators() -> dict[str, Any]:
    return {}  # MXNet lets nobody read the state of its generators: see `seed_step`


def load_generators(tree: Any) -> None:
    """Nothing: see `seed_step`."""


def seed_step(seed: int, step: int) -> None:
    # milliseconds: MXNet then seeds about a thousand generators, beside the caller
    mx.random.seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))


def not_exact(compiled: Any) -> str | None:
    return None


def is_replayable(loader: Any) -> bool:
    return isinstance(loader, gluon.data.DataLoader)


def set_lr(optimizer: Any, lr: float) -> None:
    if isinstance(optimizer, gluon.Trainer):
        optimizer.set_learning_rate(lr)
    else:
        optimizer.lr = lr
