"""State of the objects of a PyTorch loop for checkpoints: modules, optimizers, schedulers, ..."""

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
from torch import nn

from unrolled.backends import torch as backend
from unrolled.backends.state.encoding import NotATreeError, class_name, decode, encode
from unrolled.backends.state.torch import decoded, encoded, load_optimizer_state
from unrolled.errors import ParameterError, SettingError
from unrolled.frameworks import FRAMEWORKS, NEEDS
from unrolled.torch.module_state import (
    check_module_state,
    load_module_state,
    module_state,
    unwrapped,
)
from unrolled.training.position import generators, load_generators

OTHERS = {*FRAMEWORKS, "keras"}.union(*NEEDS.values()) - {"torch"}

REBUILT = Counter, OrderedDict
"""Kinds of dicts that a tree does not tell from others."""


def named(objects: Sequence[Any]) -> dict[str, Any]:
    """The objects by class; a second one of a class gets a number.

    Raises:
        SettingError: a checkpoint can keep nothing of one of them, or one is there twice.
    """
    if not objects:
        raise SettingError("nothing to save is given; name the model, the optimizer, ...")
    found: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for place, given in enumerate(objects, 1):
        inner = unwrapped(given)
        kind = type(inner).__name__
        _check_kind(place, inner)
        if any(inner is each for each in found.values()):
            raise SettingError(f"object {place}, a {kind}, is given twice; leave it out once")
        seen[kind] = number = seen.get(kind, 0) + 1
        found[kind if number == 1 else f"{kind} {number}"] = inner
    return found


def _check_kind(place: int, given: Any) -> None:
    if isinstance(given, (nn.Module, torch.Generator, np.random.Generator)):
        return
    kind = type(given)
    if OTHERS & {cls.__module__.partition(".")[0] for cls in kind.__mro__}:
        raise SettingError(
            f"object {place} is a {kind.__module__}.{kind.__name__}, not of PyTorch. Checkpoints "
            "is for loops in PyTorch; in other frameworks: Trainer(checkpoint=DIRECTORY)"
        )
    missing = [m for m in ("state_dict", "load_state_dict") if not hasattr(given, m)]
    if missing or isinstance(given, type):
        what = f"the class {given.__name__}" if isinstance(given, type) else f"a {kind.__name__}"
        raise SettingError(
            f"object {place} is {what}, of which a checkpoint can keep nothing. Give "
            "modules, optimizers, generators, and what else has state_dict() and "
            "load_state_dict(state)"
        )


def objects_state(objects: Mapping[str, Any]) -> dict[str, Any]:
    """The trees of all objects, by name; arrays may share the memory of tensors.

    Raises:
        SettingError: something cannot be kept.
    """
    names = _parameter_names(objects)
    return {name: _state(name, given, names) for name, given in objects.items()}


def _state(name: str, given: Any, names: Mapping[int, str]) -> dict[str, Any]:
    if isinstance(given, nn.Module):
        state = module_state(given)
        return {**state, "more": _encode(name, state["more"])}
    if isinstance(given, torch.Generator):
        return {"state": _encode(name, given.get_state())}
    if isinstance(given, np.random.Generator):
        return {"state": _encode(name, given.bit_generator.state)}
    own = {"moves": _moves(name, given, names)} if _is_optimizer(given) else {}
    return {**own, "class": class_name(given), "state": _encode(name, given.state_dict())}


def check_objects_state(objects: Mapping[str, Any], states: Mapping[str, Any]) -> None:
    """Raise a `ParameterError` if the trees are of other objects; change nothing."""
    if objects.keys() != states.keys():
        raise ParameterError(
            f"it holds {', '.join(states) or 'nothing'}; given are {', '.join(objects) or 'none'}. "
            "Give objects of the same classes; of one class in the same order"
        )
    names = _parameter_names(objects)
    for name, given in objects.items():
        if isinstance(given, nn.Module):
            try:
                check_module_state(given, states[name])
            except ParameterError as error:
                raise ParameterError(f"{name}: {error}") from None
        elif _is_optimizer(given):
            _check_moves(name, _moves(name, given, names), states[name]["moves"])


def load_objects_state(objects: Mapping[str, Any], states: Mapping[str, Any]) -> None:
    """Put back what `objects_state` gave."""
    for name, given in objects.items():
        state = states[name]
        if isinstance(given, nn.Module):
            load_module_state(given, state, decode(state["more"], decoded))
        elif isinstance(given, torch.Generator):
            given.set_state(decode(state["state"], decoded))
        elif isinstance(given, np.random.Generator):
            given.bit_generator.state = decode(state["state"], decoded)
        elif _is_optimizer(given):
            load_optimizer_state(given, state, {})
        else:
            now = given.state_dict()
            given.load_state_dict(_of_the_same_kinds(decode(state["state"], decoded), now))


def load_or_leave(objects: Mapping[str, Any], states: Mapping[str, Any], draws: Any) -> None:
    """Put the objects and the random generators back, or none where one of them raises an error."""
    before = deepcopy((objects_state(objects), generators(backend)))
    try:
        load_objects_state(objects, states)
        load_generators(backend, draws)
    except BaseException:  # Ctrl-C, too
        load_objects_state(objects, before[0])
        load_generators(backend, before[1])
        raise


def take_parameters(states: Mapping[str, Any]) -> dict[str, Any]:
    """Take the parameters out of the trees; those of a single model keep its own names."""
    models = {name: each for name, each in states.items() if "parameters" in each}
    return {
        place if len(models) == 1 else f"{name}.{place}": values
        for name, each in models.items()
        for place, values in each.pop("parameters").items()
    }


def put_parameters(states: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Undo `take_parameters`."""
    models = [name for name, each in states.items() if "buffers" in each]
    for name in models:
        head = "" if len(models) == 1 else f"{name}."
        found = {n.removeprefix(head): v for n, v in parameters.items() if n.startswith(head)}
        states[name]["parameters"] = found


def _of_the_same_kinds(kept: Any, now: Any) -> Any:
    """A decoded state with the kinds of dicts that an object has now."""
    if isinstance(kept, dict) and isinstance(now, Mapping):
        parts = {k: _of_the_same_kinds(v, now.get(k)) for k, v in kept.items()}
        rebuilt: Any = type(now)
        return rebuilt(parts) if rebuilt in REBUILT else parts
    if isinstance(kept, (list, tuple)) and isinstance(now, (list, tuple)):
        return type(kept)(map(_of_the_same_kinds, kept, chain(now, repeat(None))))
    return kept


def _encode(name: str, value: Any) -> Any:
    """The tree of a state; an error names the part of it that cannot be kept."""
    try:
        return encode(value, encoded)
    except (NotATreeError, TypeError) as error:  # TypeError: PyTorch's, of types that NumPy has not
        found: Exception = error
    place = "it"
    for key, part in value.items() if isinstance(value, Mapping) else []:
        try:
            encode({key: part}, encoded)
        except (NotATreeError, TypeError) as error:
            place, found = repr(key), error
            break
    raise SettingError(
        f"state_dict() of {name} has in {place} {found}, which a checkpoint cannot keep: let it "
        "return numbers, texts, tensors, arrays, and lists, tuples and dicts of such"
    )


def _is_optimizer(given: Any) -> bool:
    return isinstance(given, torch.optim.Optimizer)


def _parameter_names(objects: Mapping[str, Any]) -> dict[int, str]:
    """The names of the parameters of all modules, by their identities."""
    models = {name: given for name, given in objects.items() if isinstance(given, nn.Module)}
    return {
        id(parameter): f"{name}.{place}"
        for name, model in reversed(models.items())  # the first one names what several have
        for place, parameter in model.named_parameters()
    }


def _moves(
    name: str, optimizer: torch.optim.Optimizer, names: Mapping[int, str]
) -> list[list[str]]:
    """The names of the parameters that an optimizer moves, for each group."""
    for number, group in enumerate(optimizer.param_groups, 1):
        for place, parameter in enumerate(group["params"], 1):
            if id(parameter) not in names:
                raise SettingError(
                    f"{name} moves a parameter of shape {tuple(parameter.shape)} (the "
                    f"{place}. of group {number}) that none of the given modules has, so it would "
                    "be lost; give the model, too, or the tensors as a torch.nn.ParameterList"
                )
    return [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]


def _check_moves(name: str, now: list[list[str]], was: list[list[str]]) -> None:
    for number, (these, those) in enumerate(zip(now, was, strict=False), 1):
        for this, that in zip(these, those, strict=False):
            if this != that:
                raise ParameterError(f"{name} moves {this} in group {number} where {that} was")
    sizes = [[len(group) for group in groups] for groups in (now, was)]
    if sizes[0] != sizes[1]:
        raise ParameterError(f"{name} has groups of {sizes[0]} parameters; they were {sizes[1]}")
