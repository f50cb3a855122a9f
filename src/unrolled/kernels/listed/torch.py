"""A computation on the CPU as the list of its operations, to be run again without its lines.

A training step of a small model is some hundred lines of Python and a few dozen operations, each
with PyTorch's bookkeeping for automatic differentiation. Around the arithmetic of 256 hidden
units that takes a quarter of the time. What the operations are is the same at every step. So
they are listed once, as PyTorch's dispatcher and the native kernels meet them, the backward pass
included; then the list runs by itself: every operation reads and writes the same memory as the
first time. It is to a CPU what a CUDA graph is to a GPU.

Not listed is what nobody is told of, arithmetic in NumPy for one. So the first run of a list is
compared with the computation itself, bit by bit.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from unrolled.kernels.native import loading
from unrolled.kernels.native.interface import Norms
from unrolled.kernels.native.recording import pointers

Tensors = tuple[torch.Tensor, ...]

MOST_BYTES = 2**28
"""What a list may keep; a computation on more memory spends no time worth saving on its lines."""

aten = torch.ops.aten

UNDEFINED = (
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.empty_strided.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
)
"""Operations that give memory without numbers in it: nothing to do again."""

UNTOLD = (aten.native_batch_norm.default,)
"""Operations that change what they are given, running means, without saying so."""

DECIDING = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
"""Marks of operations whose numbers decide what comes next, ``loss.item()`` for one."""

LOOKING = {
    torch.Tensor.tolist,
    torch.Tensor.numpy,
    torch.Tensor.__array__,
    torch.Tensor.__dlpack__,
    torch._pack_padded_sequence,  # its lengths say which sequences run on
}
"""The same among functions that the dispatcher never hears of."""

LAYERS = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu}
"""Functions that look at numbers if they are given a packed sequence, at how long each is."""


class UnlistableError(RuntimeError):
    """A computation that does more, or other things the next time, than its list says.

    Attributes:
        found: what it gave when this was found out, if it came to its end.
    """

    found: Tensors | None = None


class NotWorthListingError(UnlistableError):
    """One that needs much memory, and so spends little of its time on its lines."""


def listed(compute: Callable[[], Tensors]) -> tuple[Tensors, Callable[[], None]]:
    """A computation's results, and what computes them again into the same tensors.

    Args:
        compute: reads tensors that stay where they are.

    Raises:
        UnlistableError: it decides by numbers, changes what was there before, or keeps too much
            memory; or, when it is first replayed, it gives other results than its list.
    """
    kind = _ListingCompiled if "torch._dynamo" in sys.modules else _Listing
    listing = kind()
    with _no_draws_if_it_fails(), listing, _Looking(listing), loading.telling(listing.note):
        results = compute()
    if listing.why_not is not None:
        listing.why_not.found = results
        raise listing.why_not
    listing.share_memory(results)
    return results, _Replay(listing.steps, listing.fixed, results, compute)


@contextmanager
def _no_draws_if_it_fails() -> Iterator[torch.Tensor]:
    """Give back what was drawn for nothing: whoever trains goes on as if nobody had tried."""
    draws = torch.get_rng_state()
    try:
        yield draws
    except Exception:
        torch.set_rng_state(draws)
        raise


@dataclass
class _Step:
    """One operation.

    Attributes:
        run: does it again.
        tensors: that it reads and writes.
    """

    run: Callable[[], Any]
    tensors: Tensors = ()


class _Replay:
    """Runs a list of operations, the first time beside the computation itself.

    The first call finds what the computation gave while it was written down, and does nothing.
    """

    def __init__(
        self,
        steps: list[_Step],
        memory: Any,
        results: Tensors,
        compute: Callable[[], Tensors],
    ) -> None:
        self.steps, self.results = [step.run for step in steps], results
        self.memory = memory  # what the native kernels write to is known to nobody else
        self.done = True
        self.unproven: Callable[[], Tensors] | None = compute

    def __call__(self) -> None:
        if self.done:
            self.done = False
        elif self.unproven is not None:
            self._prove(self.unproven)
            self.unproven = None
        else:
            for step in self.steps:
                step()

    def _prove(self, compute: Callable[[], Tensors]) -> None:
        # the lines first: they may read what is left of the last step, which the list overwrites
        with _no_draws_if_it_fails() as draws:
            expected = compute()
        after = torch.get_rng_state()
        torch.set_rng_state(draws)
        for step in self.steps:
            step()
        alike = torch.equal(torch.get_rng_state(), after)
        torch.set_rng_state(after)
        if not (alike and all(map(_same, self.results, expected))):
            error = UnlistableError("its operations alone give other numbers than its lines")
            error.found = expected
            raise error


def _same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    alike = (found.shape, found.dtype) == (expected.shape, expected.dtype)
    return alike and torch.allclose(found, expected, rtol=0, atol=0, equal_nan=True)


class _Looking(TorchFunctionMode):
    """Looks out for functions that look at numbers without an operation."""

    def __init__(self, listing: "_Listing") -> None:
        super().__init__()
        self.listing = listing

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in LOOKING or (function in LAYERS and _is_packed(*args, **kwargs)):
            self.listing.give_up(UnlistableError(f"{function.__name__} looks at numbers"))
        return function(*args, **kwargs)


def _is_packed(x: Any, second: Any = None, *rest: Any, **options: Any) -> bool:
    """Whether a layer is called with ``(data, batch_sizes, ...)``, not ``(X, state, ...)``."""
    second = options.get("batch_sizes", second)
    return isinstance(second, torch.Tensor) and not second.is_floating_point()


class _Listing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down the operations that run inside it.

    A list keeps the memory of every tensor, but not the tensors themselves: PyTorch takes over
    a gradient without copying it only where nobody else holds it.

    Attributes:
        steps: the operations.
        fixed: memory that belongs to one tensor from the first step to the last.
        why_not: what was met that cannot be listed. The computation goes on all the same, as its
            lines may have left something behind already and must not run twice.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch imports its compiler, which takes a second and 70 MB

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[_Step] = []
        self.fixed: list[torch.UntypedStorage] = []
        self.why_not: UnlistableError | None = None
        self._memory: dict[int, torch.UntypedStorage] = {}  # by where it begins
        self._own: set[int] = set()  # memory that is written anew every time
        self._given: set[int] = set()  # memory that came with its numbers
        self._pointers: list[int] = []  # into memory, of the native library's

    def note(self, name: str, call: Any, workspace: int) -> bool:
        """Write down a call of the native library, see `loading.telling`."""
        if isinstance(call, Norms):
            self.give_up(UnlistableError(f"{name} reads tables of addresses, which do not last"))
        if self.why_not is not None:
            return True
        self.steps.append(_Step(partial(loading.make, name, call, workspace)))
        self._pointers += [pointer for _, pointer in pointers(call)]
        return True

    def give_up(self, why: UnlistableError) -> None:
        """Write down nothing more, and let go of all memory."""
        self.why_not = self.why_not or why
        self.steps.clear()
        self._memory.clear()

    def share_memory(self, results: Tensors) -> None:
        """Let tensors take the memory of others that no later step needs.

        While it was written down every tensor had memory of its own. It would stay so, and the
        caches would be too small for what a step of a few operations touches.
        """
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for i, step in enumerate(self.steps):
            for place in map(_place, step.tensors):
                first.setdefault(place, i)
                last[place] = i
        lasting = self._given | {*map(_place, results)} | {*map(self._holder, self._pointers)}
        moving = {place for place in first if place in self._memory} - lasting
        self.fixed = [memory for place, memory in self._memory.items() if place not in moving]
        free: dict[int, list[torch.UntypedStorage]] = defaultdict(list)  # by size
        taken: dict[int, torch.UntypedStorage] = {}
        for i, step in enumerate(self.steps):
            places = [_place(x) for x in step.tensors]
            for place in moving.intersection(places):
                if first[place] == i:
                    own = self._memory[place]
                    waiting = free[own.nbytes()]
                    taken[place] = waiting.pop() if waiting else own
            for x, place in zip(step.tensors, places, strict=True):
                if place in taken:
                    x.set_(taken[place], x.storage_offset(), x.shape, x.stride())
            for place in moving.intersection(places):
                if last[place] == i:
                    free[taken[place].nbytes()].append(taken[place])

    def _holder(self, pointer: int) -> int:
        """Where the memory begins that an address is in; 0 if it is not the list's."""
        for place, memory in self._memory.items():
            if place <= pointer < place + memory.nbytes():
                return place
        return 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        try:
            writes = self.why_not is None and self._writes(operation, args, kwargs)
        except UnlistableError as why:
            self.give_up(why)
        found = operation(*args, **kwargs)
        try:
            if self.why_not is None:
                self._write_down(operation, args, kwargs, found, writes)
        except UnlistableError as why:
            self.give_up(why)
        return found

    def _write_down(self, operation: Any, args: Any, kwargs: Any, found: Any, writes: bool) -> None:
        """Write down an operation that has run."""
        before = {_place(x) for x in _tensors((args, kwargs))}
        results = _tensors(found)
        made = [x for x in results if _place(x) not in before]  # the others are views
        args, kwargs = pytree.tree_map(_memory, (args, kwargs))
        given = tuple(_tensors((args, kwargs)))
        if made and (writes or len(made) < len(results)):
            raise UnlistableError(
                f"{operation} both makes tensors and works on those that it is given"
            )
        if writes:
            self.steps.append(_Step(partial(operation, *args, **kwargs), given))
        elif operation is aten.lift_fresh.default:
            self._given |= before - self._own
            self._keep(*results)
        elif made:
            self._own.update(map(_place, made))
            self._keep(*made)
            if operation not in UNDEFINED:
                places = tuple(map(_memory, made))
                run = _again(operation, args, kwargs, places)
                self.steps.append(_Step(run, (*given, *places)))

    def _writes(self, operation: Any, args: Any, kwargs: Any) -> bool:
        """Whether an operation may be listed, and writes to tensors that it is given.

        It may change what the list makes anew every time. What came from outside changes for
        good, and numbers that came with their memory are not there a second time: over those
        it may write, but not add to them.
        """
        if any(mark in operation.tags for mark in DECIDING):
            raise UnlistableError(f"{operation} looks at numbers")
        arguments = operation._schema.arguments
        given = dict(zip((argument.name for argument in arguments), args, strict=False)) | kwargs
        changed = [a for a in arguments if a.alias_info is not None and a.alias_info.is_write]
        if operation in UNTOLD:
            raise UnlistableError(f"{operation} may change what was there before")
        for argument in changed:
            for place in map(_place, _tensors(given.get(argument.name))):
                if argument.is_out and place in self._given:
                    self._own.add(place)
                elif place not in self._own:
                    raise UnlistableError(f"{operation} changes what was there before")
        return bool(changed)

    def _keep(self, *tensors: torch.Tensor) -> None:
        for x in tensors:
            self._memory[_place(x)] = x.untyped_storage()
        if sum(storage.nbytes() for storage in self._memory.values()) > MOST_BYTES:
            raise NotWorthListingError(f"it works on more than {MOST_BYTES >> 20} MB")


class _ListingCompiled(_Listing):  # type: ignore[no-untyped-call]
    """The same where parts of a model may be compiled: the compiler must not try it on this."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return True

    def __torch_dispatch__(self, *operation: Any, **options: Any) -> Any:
        return super().__torch_dispatch__(*operation, **options)


def _tensors(values: Any) -> list[torch.Tensor]:
    return [x for x in pytree.tree_leaves(values) if isinstance(x, torch.Tensor)]


def _place(x: torch.Tensor) -> int:
    """Where the memory of a tensor begins, views included."""
    if x.layout != torch.strided or not x.is_cpu:
        raise UnlistableError(f"a {x.layout} tensor on {x.device}")
    return x.untyped_storage().data_ptr()


def _memory(x: Any) -> Any:
    """Another tensor on the same memory; anything else as it is."""
    if not isinstance(x, torch.Tensor):
        return x
    alias = torch.empty(0, dtype=x.dtype)  # not x.detach(), which could not be moved
    return alias.set_(x.untyped_storage(), x.storage_offset(), x.shape, x.stride())


def _again(operation: Any, args: Any, kwargs: Any, places: Tensors) -> Callable[[], Any]:
    """What runs an operation once more, with its results in these places."""
    writing, names = _writing_form(operation)
    if len(names) == len(places):
        return partial(writing, *args, **kwargs, **dict(zip(names, places, strict=True)))

    def copied() -> None:
        for place, new in zip(places, _tensors(operation(*args, **kwargs)), strict=True):
            place.copy_(new)

    return copied


@cache
def _writing_form(operation: Any) -> tuple[Any, tuple[str, ...]]:
    """The form of an operation that writes its results to given tensors, and their names there."""
    wanted = [(a.name, str(a.type)) for a in operation._schema.arguments]
    packet = operation.overloadpacket
    for other in (getattr(packet, name) for name in packet.overloads()):
        arguments = other._schema.arguments
        if [(a.name, str(a.type)) for a in arguments if not a.is_out] == wanted:
            names = tuple(a.name for a in arguments if a.is_out)
            if names:
                return other, names
    return operation, ()
