"""The engines for PyTorch on GPUs, and the problems by which they are measured."""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch.autograd.graph import saved_tensors_hooks

from unrolled.backends.torch import synchronize
from unrolled.errors import SettingError
from unrolled.functional import bptt
from unrolled.functional.recurrent import CELLS
from unrolled.kernels.analytic_backward import Passes
from unrolled.kernels.autograd import torch as autograd
from unrolled.kernels.autograd.torch import Tensors
from unrolled.kernels.cudnn import torch as cudnn
from unrolled.kernels.gpu.choice import Choices, Make, first, measure
from unrolled.kernels.graphs.torch import Graphs

LARGEST_ONE_HOT = 4096
"""Rows of a table up to which its ids may become one-hot rows for a fused layer."""

ORDINARY = (35, 32, 28, 256)
"""Steps, sequences, inputs and hidden units by which `report` compares the engines."""

Engine = Callable[..., tuple[torch.Tensor, Tensors]]
"""``(cell, X, state, weights, taps) -> (outputs, last)``."""

choices = Choices()
"""Of this process."""


class Argument(NamedTuple):
    """What of a tensor decides how long it takes to compute with it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    differentiated: bool


class Problem(NamedTuple):
    """A recurrence as far as its numbers do not matter.

    Attributes:
        cell: name in `unrolled.functional.bptt.GATES`.
        X: inputs ``(T, B, D)``, or ids ``(T, B)``.
        state, weights, taps: see `unrolled.kernels.autograd.torch.recur`.
        device: where.
        differentiated: whether there will be a backward pass.
        tf32: whether PyTorch multiplies float32 with 11 bits.
    """

    cell: str
    X: Argument
    state: tuple[Argument, ...]
    weights: tuple[Argument, ...]
    taps: tuple[Argument, ...]
    device: torch.device
    differentiated: bool
    tf32: bool

    @classmethod
    def of(
        cls,
        cell: str,
        X: torch.Tensor,
        state: Tensors,
        weights: Sequence[torch.Tensor],
        taps: Tensors,
    ) -> "Problem":
        """What a call is about."""
        (x,), of_state, of_weights, of_taps = (
            tuple(Argument(tuple(x.shape), x.dtype, x.requires_grad) for x in part)
            for part in ((X,), state, weights, taps)
        )
        tensors = (X, *state, *weights, *taps)
        differentiated = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
        device = weights[0].device
        return cls(cell, x, of_state, of_weights, of_taps, device, differentiated, _tf32())

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """All of them."""
        return (self.X, *self.state, *self.weights, *self.taps)

    def __str__(self) -> str:
        (T, B), H = self.X.shape[:2], self.weights[1].shape[0]
        way = "forward and back" if self.differentiated else "forward"
        through_time = " through time" if self.taps else ""
        return f"{self.cell}, {T} steps of {B} sequences, {H} units, {way}{through_time}"


class Trial:
    """A problem with random numbers, the same for every engine, that leave the user's alone."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @cached_property
    def tensors(self) -> tuple[torch.Tensor, Tensors, Tensors, Tensors, torch.Tensor]:
        """X, state, weights, taps, and a gradient with respect to the outputs."""
        problem = self.problem
        generator = torch.Generator(problem.device).manual_seed(0)
        rows, H = problem.weights[0].shape

        def draw(argument: Argument) -> torch.Tensor:
            shape, dtype, differentiated = argument
            numbers = torch.empty(shape, dtype=dtype, device=problem.device)
            if not dtype.is_floating_point:
                return numbers.random_(0, rows, generator=generator)
            numbers.normal_(0, H**-0.5, generator=generator)  # keeps a recurrence tame
            return numbers.requires_grad_(differentiated)

        state, weights = (tuple(map(draw, part)) for part in (problem.state, problem.weights))
        taps = tuple(torch.zeros_like(draw(tap), requires_grad=True) for tap in problem.taps)
        dY = draw(Argument((*problem.X.shape[:2], H), problem.weights[0].dtype, False))
        return draw(problem.X), state, weights, taps, dY

    def run(self, engine: Engine) -> Tensors:
        """All that an engine computes, computed."""
        # what the user has switched on at this place of a program, hooks on tensors that are
        # kept for the backward pass for one, is not meant for a trial
        with (
            torch.set_grad_enabled(self.problem.differentiated),
            saved_tensors_hooks(lambda x: x, lambda x: x),
        ):
            X, state, weights, taps, dY = self.tensors
            outputs, last = engine(self.problem.cell, X, state, weights, taps)
            found: Tensors = (outputs, *last)
            if self.problem.differentiated:
                leaves = [x for x in (X, *state, *weights, *taps) if x.requires_grad]
                found += torch.autograd.grad(found, leaves, (dY, *map(torch.ones_like, last)))
        synchronize()
        return tuple(x.detach() for x in found)


def distance(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> float:
    """The largest difference of two tensors, as a part of the expected one.

    Example:
        >>> distance([torch.tensor([3.0, 4.0])], [torch.tensor([3.0, 4.5])])
        0.1
    """
    norm = partial(torch.linalg.vector_norm, dtype=torch.float64)
    pairs = [(a.to_dense(), b.to_dense()) for a, b in zip(expected, found, strict=True)]
    return max(float(norm(a - b) / norm(a).clamp(min=1e-6)) for a, b in pairs)


def makers(problem: Problem) -> dict[str, Make]:
    """By name, what makes an engine for a problem; first the one to take unmeasured."""

    def triton(by_steps: bool) -> Passes:
        late = "tensorflow" in sys.modules and "triton" not in sys.modules
        if late and find_spec("triton"):
            raise ImportError("once TensorFlow is loaded, loading Triton crashes: load it before")
        module = importlib.import_module("unrolled.kernels.triton.torch")
        passes: Passes = module.Triton(by_steps, problem.differentiated, problem.tf32)
        return passes

    made: dict[str, Callable[[], Passes]] = {
        "PyTorch's operations": lambda: bptt,
        "a CUDA graph of them": lambda: Graphs(bptt, problem.differentiated),
        "persistent Triton": lambda: triton(False),
        "a CUDA graph of Triton by steps": lambda: Graphs(triton(True), problem.differentiated),
    }
    ours: dict[str, Make] = {name: partial(_written, make) for name, make in made.items()}
    rows_are_few = problem.weights[0].shape[0] <= LARGEST_ONE_HOT
    if problem.taps or not (problem.X.dtype.is_floating_point or rows_are_few):
        return ours
    return {"cuDNN": lambda: _vendor} | ours


def _written(make: Callable[[], Passes]) -> Engine:
    return partial(autograd.recur, make())


def _vendor(
    cell: str,
    X: torch.Tensor,
    state: Tensors,
    weights: Sequence[torch.Tensor],
    taps: Tensors,
) -> tuple[torch.Tensor, Tensors]:
    return cudnn.recur(cell, X, state, weights, bptt.GATES[cell])


def recur(
    cell: str,
    X: torch.Tensor,
    state: Tensors,
    weights: Sequence[torch.Tensor],
    taps: Tensors = (),
    precision: str = "float32",
) -> tuple[torch.Tensor, Tensors]:
    """See `unrolled.kernels.recur`."""
    if precision != "float32":
        raise SettingError(
            f"precision={precision} is for CPUs, these weights are on {weights[0].device}. Take "
            "precision=float32, and torch.autocast or torch.set_float32_matmul_precision('high')"
        )
    problem = Problem.of(cell, X, state, weights, taps)
    if _in_graph(problem):
        engine: Engine = choices.known(problem) or first(makers(problem))
        return engine(cell, X, state, weights, taps)
    if not _may_measure(problem):
        engine = first(makers(problem))
        return engine(cell, X, state, weights, taps)
    with torch.cuda.device_of(weights[0]):  # type: ignore[no-untyped-call]
        engine = choices.take(problem, makers(problem), Trial(problem).run, distance)
        return engine(cell, X, state, weights, taps)


def _may_measure(problem: Problem) -> bool:
    """Whether nothing forbids to compute something else first, or to let time decide."""
    types = {a.dtype for a in problem.arguments if a.dtype.is_floating_point}
    return len(types) == 1 and not (
        torch.compiler.is_compiling()
        or torch.is_autocast_enabled(problem.device.type)
        or torch.are_deterministic_algorithms_enabled()
        or torch.backends.cudnn.deterministic
    )


def _in_graph(problem: Problem) -> bool:
    """Whether a CUDA graph of the caller's is being recorded."""
    if torch.compiler.is_compiling() or problem.device.type != "cuda":
        return False
    return torch.cuda.is_current_stream_capturing()


def _tf32() -> bool:
    if torch.compiler.is_compiling():
        return False  # it could not ask, and does not measure
    matmul = torch.backends.cuda.matmul
    # from PyTorch 2.9 on; where it is set, asking in the older way is an error
    setting = getattr(matmul, "fp32_precision", None)
    return bool(matmul.allow_tf32) if setting is None else setting not in ("none", "ieee")


def report(device: torch.device, sizes: tuple[int, int, int, int] = ORDINARY) -> Iterator[str]:
    """For every cell a sentence: which engine is the fastest there, and why not another.

    Args:
        device: where to measure.
        sizes: steps T, sequences B, inputs D, hidden units H.
    """
    T, B, D, H = sizes
    for cell in CELLS.values():
        weights = [
            torch.zeros(shape, device=device, requires_grad=True)
            for shape in cell.shapes(D, H).values()
        ]
        state = tuple(torch.zeros(B, H, device=device) for _ in range(cell.num_states))
        problem = Problem.of(cell.engine, torch.zeros(T, B, D, device=device), state, weights, ())
        with torch.cuda.device_of(weights[0]):  # type: ignore[no-untyped-call]
            _, verdict = measure(makers(problem), Trial(problem).run, distance)
        yield f"{problem}: {verdict}"
