"""`DataParallel`: the processes and devices that share every minibatch of a training."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

from unrolled.errors import RunError, SettingError
from unrolled.processes.arrival import compared
from unrolled.processes.meeting import Meeting
from unrolled.processes.messages import Hello


class DataParallel:
    """The processes and devices that share every minibatch; by default this process alone.

    A minibatch of B sequences is cut into parts of B / K, one for each of K processes or devices.
    Each computes the gradient of the mean loss of its part. Their mean is the gradient of the whole
    minibatch, as all parts have equally many targets. Every process then clips and steps by itself,
    with the same numbers, so that all have the same weights.

    A minibatch that K does not divide, as the last one of an epoch, is computed whole by all.

    Frameworks have subclasses, which ``data_parallel()`` of their public module gives. They divide
    minibatches and add gradients up; what they override does nothing here.

    Args:
        meeting: of the processes; None: there is one.
        parts: parts of a minibatch.

    Attributes:
        is_divided: whether the running minibatch is divided.
        device: where all have the weights; None: where the trainer has them.
        seed: of what each process draws in a step; None: the framework's generator goes on.
    """

    device: Any = None
    seed: int | None = None

    def __init__(self, meeting: Meeting | None = None, parts: int = 1) -> None:
        self.meeting = meeting
        self.parts = parts
        self.is_divided = parts > 1

    @property
    def processes(self) -> int:
        """How many there are."""
        return 1 if self.meeting is None else self.meeting.place.size

    @property
    def rank(self) -> int:
        """The number of this one, from 0; that of rank 0 writes the files."""
        return 0 if self.meeting is None else self.meeting.place.rank

    def agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The clock of rank 0, and whether any process was told to stop."""
        if self.meeting is None:
            return seconds, stop
        seconds, stops = self.meeting.sum([0.0 if self.rank else seconds, float(stop)])
        return seconds, stops > 0

    def all(self, condition: bool) -> bool:
        """Whether something is so in all processes."""
        return condition if self.meeting is None else self.meeting.sum([not condition]) == [0]

    def everyone(self, tree: Any) -> list[Any]:
        """What each process gives here, numbers and texts in nested lists and dicts, by rank."""
        return [tree] if self.meeting is None else self.meeting.everyone(tree)

    def how_to_go_on(self, command: str) -> None:
        """Set what is said of a training that ends because a process was lost."""
        if self.meeting is not None:
            self.meeting.how_to_go_on = command

    def before_exit(self, function: Callable[[], None]) -> None:
        """Call a function before this process ends because another one was lost."""
        if self.meeting is not None:
            self.meeting.before_exit.append(function)

    def leave(self, message: str | None = None) -> None:
        """End this process's part, with its error if there is one; the others hear of it."""
        if self.meeting is not None:
            self.meeting.leave(message)

    def check_same(self, about: Mapping[str, Any]) -> None:
        """Make sure that all processes say the same of what they are about to train.

        Raises:
            RunError: they do not; it names the process and the difference.
        """
        if self.meeting is None:
            return
        size, processes = self.processes, self.meeting.processes
        first, *others = [
            Hello(rank, size, *processes[rank], about)
            for rank, about in enumerate(self.everyone(dict(about)))
        ]
        if differ := [line for other in others for line in compared(first, other)]:
            raise RunError("\n".join(differ))

    def same_model(self, model: Any) -> Any:
        """The model of rank 0, in all processes."""
        return model

    def begin(self, trainer: Any) -> None:
        """Let a prepared training begin in all processes with the same draws and optimizer."""
        self.is_divided = self.parts > 1  # as the hidden state of a checkpoint will be

    def own_part(self, trainer: Any, batch: Any) -> Any:
        """The part of a minibatch that this process computes; whole if it cannot be divided.

        Raises:
            SettingError: not even the first minibatch can be divided.
            RunError: the processes have others, as their loaders draw from other seeds.
        """
        if self.parts == 1:
            return batch
        if self.processes > 1 and trainer.offset == 0:
            self.check_same({"first minibatch sha256": trainer.position.sha256(batch)})
        rows = len(batch[-1])
        if trainer.train_batch_idx == 0 or getattr(trainer.train_dataloader, "continues", False):
            check_divides(rows, self.parts)
        self.is_divided = rows % self.parts == 0
        return self.divided(batch) if self.is_divided else self.undivided(batch)

    def divided(self, batch: Any) -> Any:
        """This process's part of a minibatch that is divided."""
        return batch

    def undivided(self, batch: Any) -> Any:
        """A minibatch that all compute whole."""
        return batch

    def num_targets(self, batch: Any) -> int:
        """The targets of the whole minibatch that a part is of."""
        return math.prod(batch[-1].shape)

    def whole_state(self, model: Any, state: Any) -> Any:
        """The hidden state of all sequences, from that of this process's."""
        return state

    def part_of_state(self, model: Any, state: Any) -> Any:
        """The hidden state of this process's sequences, from that of all."""
        return state

    def differentiable(self, trainer: Any, objective: Callable[..., Any]) -> Callable[..., Any]:
        """``(leaves, batch, state, *context) -> ((loss, auxiliary), gradients)``.

        The loss and its gradients are those of the whole minibatch.
        """
        return self.sharing(trainer, trainer.backend.value_and_grad(objective))

    def sharing(self, trainer: Any, differentiate: Callable[..., Any]) -> Callable[..., Any]:
        """``differentiate`` of the whole minibatch, each process or device computing a part."""
        return differentiate

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let the others know if this process fails, so that they do not wait for it."""
        try:
            yield
        except BaseException as error:  # Ctrl-C, too
            self.leave(str(error) or type(error).__name__)
            raise


def check_divides(batch_size: int, parts: int) -> None:
    """Make sure that a minibatch can be cut into equal parts.

    Raises:
        SettingError: it cannot; the numbers that can are named.

    Example:
        >>> check_divides(32, 3)
        Traceback (most recent call last):
        ...
        unrolled.errors.SettingError: batch_size is 32, and 3 processes or devices do not divide it:
        take 1, 2, 4, 8, 16, 32 of them, or batch_size 30 or 33
    """
    if batch_size % parts:
        divisors = [str(n) for n in range(1, batch_size + 1) if batch_size % n == 0]
        near = [n for n in (batch_size // parts * parts, -(-batch_size // parts) * parts) if n]
        raise SettingError(
            f"batch_size is {batch_size}, and {parts} processes or devices do not divide it: take "
            f"{', '.join(divisors)} of them, or batch_size {' or '.join(map(str, near))}"
        )


def check_devices(devices: int) -> None:
    """Make sure that it is a number of devices.

    Raises:
        SettingError: it is below 1.
    """
    if devices < 1:
        raise SettingError(f"devices is {devices}; it must be at least 1")


def refuse_processes(framework: str, why: str) -> NoReturn:
    """Refuse to train by several processes, in a framework for which it is not built."""
    raise SettingError(
        f"{framework} trains by one process here: {why}. Start one, or take JAX or PyTorch: "
        "`unrolled convert RUN --to jax --out NEW` makes a run of JAX, which goes on from there"
    )


def is_sum(model: Any) -> bool:
    """Return whether a model's loss is the sum over a minibatch, not the mean."""
    return getattr(model, "reduction", "mean") == "sum"


def batch_statistics(layer: Any) -> SettingError:
    """The error about a layer whose result depends on how many parts a minibatch has."""
    return SettingError(
        f"a {type(layer).__name__} measures its minibatch, and each process or device has only a "
        "part of it: the result would depend on how many there are. Take layer or group "
        "normalization (LayerNorm, GroupNorm), which measures each example"
    )


def batch_axes(model: Any) -> Any:
    """The axis of the sequences in every array of a model's hidden state, nested as the state.

    Raises:
        SettingError: the model has no ``begin_state(batch_size)`` to tell.
    """
    if not hasattr(model, "begin_state"):
        raise SettingError(
            f"{type(model).__name__} carries a state and has no begin_state(batch_size), so it is "
            "not known where its sequences are; give it one to train it by several processes or "
            "devices"
        )

    def axis(two: Any, three: Any) -> Any:
        if isinstance(two, (tuple, list)):
            return type(two)(map(axis, two, three))
        sizes = zip(two.shape, three.shape, strict=True)
        return next(i for i, (a, b) in enumerate(sizes) if a != b)

    return axis(model.begin_state(2), model.begin_state(3))


def each_array(function: Callable[[Any, int], Any], state: Any, axes: Any) -> Any:
    """A function of every array of a hidden state and of its axis, which `batch_axes` gives."""
    if isinstance(state, (tuple, list)):
        return type(state)(map(partial(each_array, function), state, axes))
    return function(state, axes)
