"""State of PyTorch's optimizers, buffers and generators, read and restored exactly."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from unrolled.backends.namespace import Array
from unrolled.backends.state.encoding import check_arrays, check_class, decode, encode, state_of
from unrolled.errors import ParameterError

BITS = {torch.bfloat16: torch.int16}
"""Types that NumPy has not, and those whose bits are kept instead."""

IS_TENSOR = "__tensor__"


def buffers(model: nn.Module) -> dict[str, Array]:
    return dict(model.named_buffers())


def load_buffers(model: nn.Module, values: Mapping[str, npt.NDArray[Any]]) -> None:
    found = buffers(model)
    check_arrays({name: _readable(buffer) for name, buffer in found.items()}, values)
    with torch.no_grad():
        for name, buffer in found.items():
            buffer.copy_(torch.as_tensor(np.ascontiguousarray(values[name])).view(buffer.shape))


def _readable(buffer: torch.Tensor) -> npt.NDArray[Any]:
    """Return an array as ``backend.to_numpy`` gives it: bfloat16 as float32."""
    array = buffer.detach().cpu()
    values: npt.NDArray[Any] = (array.float() if array.dtype in BITS else array).numpy()
    return values


def optimizer_state(optimizer: Any, parameters: Mapping[str, Array]) -> Any:
    return state_of(optimizer, encoded)


def load_optimizer_state(optimizer: Any, tree: Any, parameters: Mapping[str, Array]) -> None:
    check_class(optimizer, tree)
    state = decode(tree["state"], decoded)
    if not isinstance(optimizer, torch.optim.Optimizer):
        optimizer.load_state_dict(state)
    else:
        try:
            optimizer.load_state_dict(state)
        except ValueError as error:  # PyTorch's, of groups and how many parameters they have
            raise ParameterError(f"the state does not fit the optimizer: {error}") from None
        groups = zip(state["param_groups"], optimizer.param_groups, strict=True)
        for saved, group in groups:
            for key, parameter in zip(saved["params"], group["params"], strict=True):
                if key in state["state"]:
                    loaded = optimizer.state[parameter]
                    optimizer.state[parameter] = _of_saved_types(loaded, state["state"][key])


def _of_saved_types(loaded: Any, saved: Any) -> Any:
    """Give what ``load_state_dict`` has loaded the types that it had.

    PyTorch casts to the parameter's type, whatever an optimizer has kept beside a parameter.
    """
    if isinstance(saved, torch.Tensor):
        same = loaded.dtype == saved.dtype
        return loaded if same else saved.to(device=loaded.device)
    if isinstance(saved, dict):
        return {key: _of_saved_types(loaded[key], value) for key, value in saved.items()}
    if isinstance(saved, (list, tuple)):
        return type(saved)(map(_of_saved_types, loaded, saved))
    return loaded


def encoded(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return None
    value = value.detach().cpu()
    if value.layout != torch.strided:
        return None
    bits = BITS.get(value.dtype)
    array = (value if bits is None else value.view(bits)).numpy().copy()
    return array if bits is None else {IS_TENSOR: str(value.dtype), "bits": array}


def decoded(tree: Any) -> Any:
    if isinstance(tree, dict):
        if IS_TENSOR not in tree:
            return None
        (dtype,) = (dtype for dtype in BITS if str(dtype) == tree[IS_TENSOR])
        return torch.from_numpy(tree["bits"].copy()).view(dtype)
    return torch.from_numpy(tree.copy())


def generators() -> dict[str, Any]:
    states = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    tree: dict[str, Any] = encode(states, encoded)
    return tree


def load_generators(tree: Any) -> None:
    states = decode(tree, decoded)
    torch.set_rng_state(states["cpu"])
    torch.cuda.set_rng_state_all(states["cuda"][: torch.cuda.device_count()])
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])


@contextmanager
def drawing_alone(seed: int, step: int, rank: int) -> Iterator[None]:
    """Make what a process draws in a step follow from these numbers.

    After it the generator is as before: loaders draw from it, in all processes the same.
    """
    before = torch.get_rng_state()
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))
    try:
        yield
    finally:
        torch.set_rng_state(before)


def not_exact(compiled: Any) -> str | None:
    return None


def is_replayable(loader: Any) -> bool:
    ours = isinstance(loader, torch.utils.data.DataLoader) and loader.generator is None
    return ours and not isinstance(loader.dataset, torch.utils.data.IterableDataset)


def set_lr(optimizer: Any, lr: float) -> None:
    if isinstance(optimizer, torch.optim.Optimizer):
        for group in optimizer.param_groups:
            group["lr"] = lr
    else:
        optimizer.lr = lr
