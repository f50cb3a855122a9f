"""Array operations, gradients and optimizer steps in PyTorch."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

# of several processes each would warn that `unrolled.torch.data_parallel` lets DDP look for
# parameters that a loss does without; PyTorch reads this when it is imported
if "WORLD_SIZE" in os.environ:
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch
from torch import nn

from unrolled import native
from unrolled.backends.loss.torch import cross_entropy
from unrolled.backends.namespace import Array, Namespace, python_scan
from unrolled.backends.protocol import StateFunctions
from unrolled.backends.rows import FEW, MANY, SparseRows, asked
from unrolled.backends.state import torch as torch_state

name = "torch"

state: StateFunctions = torch_state

SMALLEST_SHARE = 2**17
"""Numbers to read under which a thread is not worth starting."""


def _count_above(x: torch.Tensor, least: float) -> torch.Tensor:
    # into numbers: PyTorch compares into bools and counts those several times as slowly
    with torch.no_grad():
        ones = torch.empty_like(x, dtype=torch.float32)
        return torch.gt(x, least, out=ones).sum()


def _sum_squares(x: torch.Tensor) -> torch.Tensor:
    # dot, not sum(x * x): no array for the squares
    flat = (x.coalesce().values() if x.is_sparse else x).reshape(-1)
    return torch.dot(flat, flat)


def in_transform() -> bool:
    """Whether one of `torch.func`'s transforms runs: its tensors hold no numbers to look at, and
    it cannot look into operations of ours.
    """
    return torch._C._functorch.peek_interpreter_stack() is not None


def sparse_gradient(W: torch.Tensor, ids: torch.Tensor) -> bool:
    """Whether the gradient of a table shall hold only the rows that ids look up.

    Hooks of others get whole gradients, and so does what a computed table was made of.
    """
    if not asked.get() or W.shape[0] < max(MANY, FEW * ids.numel() + 1):
        return False
    return W.is_leaf and not (W._backward_hooks or W._post_accumulate_grad_hooks)


def _take(W: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    # embedding, not W[ids]: its backward adds up rows in parallel
    return nn.functional.embedding(ids, W, sparse=sparse_gradient(W, ids))


def _one_hot(ids: torch.Tensor, depth: int) -> torch.Tensor:
    # not PyTorch's own, which makes integers of 64 bits, and looks whether one is negative
    places, kind = ids.long().unsqueeze(-1), torch.float32
    zeros = ids.new_zeros((*ids.shape, depth), dtype=kind)
    return zeros.scatter(-1, places, torch.ones_like(places, dtype=kind))


def norms(
    arrays: Sequence[torch.Tensor], minus: Sequence[torch.Tensor] = ()
) -> torch.Tensor | None:
    """``||a||`` of each array, or ``||a - b||``, by the native kernels: one vector of float64.

    None where they cannot: elsewhere than on the CPU, without a compiler, for sparse tensors.
    """
    if not _native_can_read(*arrays, *minus):
        return None
    out, numbers = torch.empty(len(arrays), dtype=torch.float64), sum(map(torch.numel, arrays))
    threads = max(1, min(torch.get_num_threads(), numbers // SMALLEST_SHARE))
    native.norms(arrays, out, minus, threads=threads)
    return out


def layer_numbers(
    dH: torch.Tensor,
    D: torch.Tensor,
    before: torch.Tensor,
    after: torch.Tensor,
    limit: float,
    relu: bool,
) -> torch.Tensor | None:
    """The numbers of `unrolled.telemetry.through_time.layer_numbers`, arguments as there.

    By the native kernels, for ``limit`` and ``relu`` see there; None where they cannot.
    """
    if not _native_can_read(dH, D, before, after):
        return None
    out = after.new_empty(3 * len(after) + 1, requires_grad=False)
    where = {"before" if before.dim() == 3 else "first": before}
    numbers = 2 * dH.numel() + D.numel()
    threads = max(1, min(torch.get_num_threads(), numbers // SMALLEST_SHARE))
    native.layer_numbers(dH, D, after, out, limit=limit, relu=relu, threads=threads, **where)
    return out


def _native_can_read(*arrays: torch.Tensor) -> bool:
    """Return whether arrays are contiguous, on the CPU, and all of one type of the kernels."""
    dtype, strided = arrays[0].dtype, torch.strided
    if dtype not in (torch.float32, torch.float64) or not native.available()[0]:
        return False
    for x in arrays:
        if not x.is_cpu or x.layout != strided or x.dtype != dtype or not x.is_contiguous():
            return False
    return True


def _clip_together(
    arrays: list[torch.Tensor], theta: float
) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor] | None:
    # on a CPU numbers can be looked at, and arithmetic with a single one is Python's: as tensors
    # each operation takes as long as all of this
    each = norms(arrays) if arrays else None
    if each is None:
        return None
    norm = math.hypot(*each.tolist())
    scale = 1 / max(norm / theta, 1.0)  # see `unrolled.functional.updates.clip_coefficient`
    clipped = arrays if scale == 1 else list(torch._foreach_mul(arrays, scale))
    before, after = arrays[0].new_tensor([norm, norm * scale]).unbind()
    return clipped, before, after


xp = Namespace(
    exp=torch.exp,
    log=torch.log,
    sqrt=torch.sqrt,
    tanh=torch.tanh,
    sigmoid=torch.sigmoid,
    abs=torch.abs,
    sign=torch.sign,
    maximum=torch.maximum,
    sum=torch.sum,
    mean=torch.mean,
    amax=torch.amax,
    sum_squares=_sum_squares,
    reshape=torch.reshape,
    transpose=lambda x: x.transpose(0, 1),
    gram=lambda x: torch.bmm(x, x.mT),
    concat=torch.cat,
    stack=torch.stack,
    # unbind, not x[t]: the backward of x[t] fills a whole array of zeros for every t
    unstack=torch.unbind,
    flip=lambda x: x.flip(0),
    zeros_like=torch.zeros_like,
    take=_take,
    add_rows=lambda rows, ids, V: torch.ops.aten.embedding_dense_backward(rows, ids, V, -1, False),
    pick=lambda x, ids: x.gather(1, ids[:, None])[:, 0],
    argmax=lambda x: torch.argmax(x, -1),
    count_above=_count_above,
    one_hot=_one_hot,
    is_integer=lambda x: not (x.is_floating_point() or x.is_complex()),
    stop_gradient=torch.detach,
    scan=python_scan(torch.stack, torch.unbind),
    cross_entropy=cross_entropy,
    row_norms=lambda x: torch.linalg.vector_norm(x, dim=-1, dtype=torch.float64).to(x.dtype),
    norms=norms,
    layer_numbers=layer_numbers,
    clip_together=_clip_together,
)


def asarray(values: Any, device: Any = None) -> torch.Tensor:
    return torch.as_tensor(values, device=device)


def to_numpy(array: torch.Tensor) -> npt.NDArray[Any]:
    array = array.detach().cpu()
    if array.dtype is torch.bfloat16:  # NumPy has no such type; float32 holds its numbers
        array = array.float()
    values: npt.NDArray[Any] = (array.to_dense() if array.is_sparse else array).numpy()
    return values


def initialize(values: Mapping[str, npt.NDArray[Any]], device: Any = None) -> dict[str, Array]:
    return {
        name: nn.Parameter(torch.tensor(value, device=device)) for name, value in values.items()
    }


def parameters(model: nn.Module) -> dict[str, Array]:
    return dict(model.named_parameters())


def named_arrays(model: nn.Module) -> dict[str, Array]:
    return dict(model.named_parameters(remove_duplicate=False))


def is_lazy(model: nn.Module) -> bool:
    return any(map(nn.parameter.is_lazy, model.parameters()))


def gradient(array: torch.Tensor) -> torch.Tensor | None:
    return array.grad


def tie(model: nn.Module, place: str, to: str) -> None:
    path, _, leaf = place.rpartition(".")
    setattr(model.get_submodule(path), leaf, model.get_parameter(to))


def assign(parameters: Mapping[str, Array], values: Mapping[str, Any]) -> dict[str, Array]:
    with torch.no_grad():
        for name, parameter in parameters.items():
            value = values[name]
            if isinstance(value, SparseRows):
                parameter.index_copy_(0, value.ids, value.values)
            else:
                parameter.copy_(torch.as_tensor(value))
    return dict(parameters)


def snapshot(
    parameters: Mapping[str, Array],
    reuse: Mapping[str, Array | SparseRows] | None = None,
    gradients: Mapping[str, Array] | None = None,
) -> dict[str, Array | SparseRows]:
    reuse, gradients = reuse or {}, gradients or {}
    copies: dict[str, Array | SparseRows] = {}
    kept: list[torch.Tensor] = []
    news: list[torch.Tensor] = []
    for name, parameter in parameters.items():
        gradient, earlier = gradients.get(name), reuse.get(name)
        if gradient is not None and gradient.is_sparse:
            ids = gradient.indices()[0]
            copies[name] = SparseRows(ids, parameter.detach().index_select(0, ids))
        elif isinstance(earlier, torch.Tensor):
            copies[name] = earlier
            kept.append(earlier)
            news.append(parameter.detach())
        else:
            copies[name] = parameter.detach().clone()
    if kept:
        torch._foreach_copy_(kept, news)
    return copies


def value_and_grad(
    function: Callable[..., tuple[Array, Any]],
) -> Callable[..., tuple[tuple[Array, Any], dict[str, Array]]]:
    # backward(), not autograd.grad: only the former runs the hooks that people and
    # distributed engines hang on parameters, and leaves .grad where readers look for it
    def differentiate(
        parameters: Mapping[str, Array], *arguments: Any
    ) -> tuple[tuple[Array, Any], dict[str, Array]]:
        for parameter in parameters.values():
            parameter.grad = None
        value, auxiliary = function(parameters, *arguments)
        value.backward()
        gradients = {}
        for name, parameter in parameters.items():
            gradient = parameter.grad
            if gradient is not None:  # of an id that comes twice: one row
                gradients[name] = gradient.coalesce() if gradient.is_sparse else gradient
        return (value.detach(), auxiliary), gradients

    return differentiate


def apply_gradients(
    optimizer: Any, parameters: Mapping[str, Array], gradients: Mapping[str, Array]
) -> dict[str, Array]:
    for name, parameter in parameters.items():
        parameter.grad = gradients.get(name)
    with torch.no_grad():  # an optimizer of one's own may leave that to the loop
        optimizer.step()
    return dict(parameters)


def stop_gradient(arrays: Any) -> Any:
    if isinstance(arrays, tuple):
        return tuple(map(stop_gradient, arrays))
    return arrays.detach()


def without_gradients() -> AbstractContextManager[Any]:
    return torch.no_grad()


@contextmanager
def full_precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def set_training(model: nn.Module, training: bool) -> None:
    model.train(training)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    before = [(module, module.training) for module in model.modules()]  # some may be frozen
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def compile(function: Callable[..., Any]) -> Callable[..., Any]:
    return function  # eager: every line runs as it is read


def dry_run(function: Callable[..., Any], *arguments: Any) -> None:
    function(*arguments)


def seed(seed: int) -> None:
    torch.manual_seed(seed)


def fresh_seed() -> int:
    return int(torch.randint(2**31, ()).item())


def devices(num_gpus: int) -> list[torch.device]:
    count = torch.cuda.device_count()
    # of several processes on a machine each has chosen its own, see `unrolled.torch.data_parallel`
    first = torch.cuda.current_device() if num_gpus and count else 0
    return [torch.device("cuda", i) for i in range(first, min(first + num_gpus, count))]


def cpu() -> torch.device:
    return torch.device("cpu")


def to_device(target: Any, device: Any) -> Any:
    """A tensor or module, or a tuple or list of them, on the device; the rest as it is."""
    if isinstance(target, (tuple, list)):
        return type(target)(to_device(part, device) for part in target)
    return target.to(device) if hasattr(target, "to") else target


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def describe() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return {
        "version": str(torch.__version__),  # of a class of its own
        "devices": ["cpu", *gpus, *mps],
        "threads": torch.get_num_threads(),
        "numpy": np.__version__,
    }
