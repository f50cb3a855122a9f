"""Training steps recorded once, then replayed: as CUDA graphs, or as lists of operations.

A step of a small model is some hundred operations of a few microseconds. The CPU takes longer
to start them, through Python and PyTorch, than a GPU to compute them, and about as long as the
CPU itself. A CUDA graph starts them all at once, see `unrolled.kernels.graphs`; on the CPU a list
starts them without the lines and the bookkeeping, see `unrolled.kernels.listed`.

Only the operations are replayed, not the code that made them. So a trainer replays only if it
is told that it may (``Trainer(replay=True)``), if the model's code is known (see `foreign_code`
in `unrolled.torch.training`), and while nobody watches the model.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from unrolled.kernels.graphs.torch import Record, cuda_graph
from unrolled.kernels.listed.torch import NotWorthListingError, UnlistableError

SIGHTINGS = 3
"""Calls of one kind until it is worth recording; those before run as written, and warm up."""

MOST = 16
"""Kinds of calls that are recorded; other ones run as written."""

NEVER = -(2**62)
"""Sightings of a call that gains nothing, or that gives sparse tensors: how much there is in them
differs every time."""

MOST_SEEN = 1024
"""Kinds of calls that are remembered."""


def recorded_when_warm(compute: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """A CUDA graph of what has been run often enough to be warm."""
    return cuda_graph(compute, warm_up=0)


class Replayed:
    """A function of tensors, recorded when it is called in the same way again and again.

    Its results are overwritten by its next call, and have no graph to differentiate further.

    Args:
        function: takes and gives tensors, in tuples, lists and dicts.
        copied: positions of the arguments that come from a new place every time, minibatches
            for one. They are copied to where the recording reads them. All other tensors are
            read where they are, so calls are alike only if these are the same tensors.
        record: makes a recording.
        circumstances: what else a recording depends on; None: the lines must run this time.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        copied: Collection[int] = (),
        record: Record = recorded_when_warm,
        circumstances: Callable[[], Hashable] = tuple,
    ) -> None:
        self.function, self.copied, self.record = function, copied, record
        self.circumstances = circumstances
        self._seen: dict[Hashable, int] = {}
        self._recordings: dict[Hashable, _Recording] = {}
        self._works = True

    def __call__(self, *arguments: Any) -> Any:
        """What the function gives for these arguments."""
        circumstances = self.circumstances() if self._works else None
        if circumstances is None:
            return self._as_written(arguments)
        moving: list[Any] = []
        staying: list[Any] = []
        for i, argument in enumerate(arguments):
            _leaves(argument, moving if i in self.copied else staying)
        threads = torch.get_num_threads()
        key = (threads, circumstances, *map(_kind, moving), *map(_kind_and_place, staying))
        recording = self._recordings.get(key)
        if recording is None and self._is_time(key):
            recording = _Recording(self.function, self.copied, arguments)
            try:
                recording.begin(self.record)
                self._recordings[key] = recording
            except RuntimeError as error:  # an operation that must not be recorded, no memory, ...
                return self._unrecorded(error, key, recording, arguments)
        if recording is None:
            found = self._as_written(arguments)
            if any(map(_is_sparse, pytree.tree_leaves(found))):
                self._seen[key] = NEVER
            return found
        try:
            return recording(moving)
        except UnlistableError as error:  # at the first run of a list
            return self._unrecorded(error, key, recording, arguments)

    def _is_time(self, key: Hashable) -> bool:
        """Whether such a call has been made often enough to be worth recording."""
        self._seen[key] = seen = self._seen.get(key, 0) + 1
        if len(self._seen) > MOST_SEEN:
            self._seen.clear()
        return seen >= SIGHTINGS and len(self._recordings) < MOST

    def _unrecorded(
        self, error: Exception, key: Hashable, recording: "_Recording", arguments: tuple[Any, ...]
    ) -> Any:
        """What the function gives, now that it turns out not to be recordable."""
        if isinstance(error, NotWorthListingError):
            self._seen[key] = NEVER
        else:
            self._give_up(error)
        if isinstance(error, UnlistableError) and error.found is not None:
            return pytree.tree_map(_alone, recording.latest)  # its lines have run; not once more
        return self._as_written(arguments)

    def _give_up(self, error: Exception) -> None:
        self._works = False
        self._recordings.clear()
        reason, _, _ = str(error).partition("\n")
        warnings.warn(f"not replayed, as it cannot be recorded: {reason}", stacklevel=5)

    def _as_written(self, arguments: tuple[Any, ...]) -> Any:
        return pytree.tree_map(_alone, self.function(*arguments))


class _Recording:
    """One way to call a function, to be recorded.

    Attributes:
        latest: what the function gave when its lines last ran.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        copied: Collection[int],
        arguments: tuple[Any, ...],
    ) -> None:
        self.function = function
        self.arguments = [
            pytree.tree_map(_clone, x) if i in copied else x for i, x in enumerate(arguments)
        ]
        self._places = [x for i in sorted(copied) for x in pytree.tree_leaves(self.arguments[i])]
        self.latest: Any = None

    def begin(self, record: Record) -> None:
        """Record it."""
        results, self._replay = record(self._compute)
        tensors = map(_alone, results)
        self._found = pytree.tree_map_only(torch.Tensor, lambda _: next(tensors), self.latest)
        self.latest = None

    def _compute(self) -> tuple[torch.Tensor, ...]:
        self.latest = None  # no graph of a run before, see `_alone`
        self.latest = self.function(*self.arguments)
        return tuple(x for x in pytree.tree_leaves(self.latest) if isinstance(x, torch.Tensor))

    def __call__(self, moving: list[Any]) -> Any:
        for place, x in zip(self._places, moving, strict=True):
            if isinstance(x, torch.Tensor):
                place.copy_(x)
        self._replay()
        return _renewed(self._found)


def _alone(x: Any) -> Any:
    """A tensor without the graph that it comes from.

    In that are the nodes that add up the parameters' gradients. Each is bound to the stream of
    the GPU on which it was made, and serves as long as it lives; a recording is made on another
    stream, and needs its own.
    """
    return x.detach() if isinstance(x, torch.Tensor) else x


def _clone(x: Any) -> Any:
    return x.detach().clone() if isinstance(x, torch.Tensor) else x


def _is_sparse(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.layout != torch.strided


def _leaves(values: Any, found: list[Any]) -> None:
    """Add to a list what is in the containers, as PyTorch's `tree_leaves`, but without its time."""
    kind = type(values)
    if kind in (tuple, list):
        for value in values:
            _leaves(value, found)
    elif kind in (dict, OrderedDict):
        for value in values.values():
            _leaves(value, found)
    elif isinstance(values, torch.Tensor):
        found.append(values)
    else:
        found.extend(pytree.tree_leaves(values))


def _renewed(values: Any) -> Any:
    """The same in containers of its own: those of one call are not changed by the next."""
    kind = type(values)
    if kind in (tuple, list):
        return kind([_renewed(value) for value in values])
    if kind in (dict, OrderedDict):
        return kind([(key, _renewed(value)) for key, value in values.items()])
    return values if isinstance(values, torch.Tensor) else pytree.tree_map(_itself, values)


def _itself(value: Any) -> Any:
    return value


def _kind(x: Any) -> Hashable:
    """What a recording depends on."""
    if not isinstance(x, torch.Tensor):
        return x if isinstance(x, Hashable) else object()
    if x.layout != torch.strided:
        return object()  # like no other, so never recorded
    return x.shape, x.stride(), x.dtype, x.device, x.requires_grad


def _kind_and_place(x: Any) -> Hashable:
    kind = _kind(x)
    return (kind, x.data_ptr()) if type(kind) is tuple and isinstance(x, torch.Tensor) else kind
