"""State of a PyTorch module for checkpoints: tensors, frozen parameters, evaluation mode."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from unrolled.backends.namespace import Array
from unrolled.errors import ParameterError, SettingError, check_fit
from unrolled.torch.through_time.parameter_names import COMPILED

ENCODED_BY_BITS = torch.float8_e4m3fn, torch.float8_e5m2
"""Types of one byte that NumPy has not."""


def unwrapped(model: Any) -> Any:
    """The module inside `torch.compile` and `DistributedDataParallel`."""
    while isinstance(model, nn.Module):
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        elif isinstance(inner := model._modules.get(COMPILED), nn.Module):
            model = inner
        else:
            break
    return model


def module_state(model: nn.Module) -> dict[str, Any]:
    """All of a module that its outputs depend on; the arrays may share its memory.

    Raises:
        SettingError: a checkpoint cannot keep one of its tensors.
    """
    _check_metrics(model)
    tensors = _tensors(model)
    arrays = {
        kind: {name: to_array(name, tensor) for name, tensor in each.items()}
        for kind, each in tensors.items()
    }
    return {
        **arrays,
        "types": {name: _type(t) for each in tensors.values() for name, t in each.items()},
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "evaluating": [name for name, part in model.named_modules() if not part.training],
        "more": more_state(model),
    }


def check_module_state(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Raise a `ParameterError` if a module's tensors have other names, shapes or types."""
    for kind, found in _tensors(model).items():
        shapes = {name: array.shape for name, array in state[kind].items()}
        check_fit({name: tuple(tensor.shape) for name, tensor in found.items()}, shapes)
        for name, tensor in found.items():
            if (was := state["types"][name]) != _type(tensor):
                raise ParameterError(f"'{name}' is {_type(tensor)} and was {was}")


def load_module_state(model: nn.Module, state: Mapping[str, Any], more: Any) -> None:
    """Put back what `module_state` gave; ``more`` is what is not in its tensors."""
    evaluating = set(state["evaluating"])
    with torch.no_grad():
        for kind, tensors in _tensors(model).items():
            for name, tensor in tensors.items():
                tensor.copy_(from_array(state[kind][name], tensor.dtype))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in state["frozen"])
    for name, part in model.named_modules():
        part.training = name not in evaluating
    if more:
        model.load_state_dict(more, strict=False)


def more_state(model: nn.Module) -> dict[str, Any]:
    """Return what else is in ``state_dict()``, from ``get_extra_state`` and hooks."""
    tensors = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tensors |= {name for name, _ in model.named_buffers(remove_duplicate=False)}
    return {name: value for name, value in model.state_dict().items() if name not in tensors}


def to_array(name: str, tensor: torch.Tensor) -> Array:
    """The values of a tensor; bfloat16 as float32, which other programs can read."""
    if nn.parameter.is_lazy(tensor):
        raise SettingError(f"'{name}' has no values yet; give the model a minibatch first")
    whole = tensor.layout is torch.strided and not hasattr(tensor, "device_mesh")
    try:
        if whole and not (tensor.is_meta or tensor.is_quantized):
            tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
            if tensor.dtype is torch.bfloat16:
                tensor = tensor.float()
            elif tensor.dtype in ENCODED_BY_BITS:
                tensor = tensor.view(torch.uint8)
            return tensor.numpy()
    except (TypeError, RuntimeError):  # NumPy has no such type
        pass
    raise SettingError(
        f"'{name}' is a {type(tensor).__name__} of type {tensor.dtype}, which a checkpoint cannot "
        "keep: it keeps dense tensors of numbers that one process has as a whole"
    )


def from_array(array: Array, dtype: torch.dtype) -> torch.Tensor:
    """The tensor that `to_array` was given."""
    tensor = torch.from_numpy(np.ascontiguousarray(array)).reshape(array.shape)
    if dtype is torch.bfloat16:  # by bits: rounding would change what is not a number
        return (tensor.view(torch.int32) >> 16).to(torch.int16).view(dtype)
    return tensor.view(dtype) if dtype in ENCODED_BY_BITS else tensor


def _tensors(model: nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """Parameters and buffers by name; tied ones have one name."""
    return {"parameters": dict(model.named_parameters()), "buffers": dict(model.named_buffers())}


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _check_metrics(model: nn.Module) -> None:
    """Raise a `SettingError` if a metric of torchmetrics would lose what it has counted."""
    for part in model.modules():
        counted = getattr(part, "metric_state", None)
        if isinstance(counted, dict) and (lost := counted.keys() - part.state_dict().keys()):
            raise SettingError(
                f"the metric {type(part).__name__} leaves {', '.join(sorted(lost))} out of its "
                "state_dict(); call metric.persistent(True) before"
            )
