"""`Checkpoints` saves the state of a training loop written by hand, and restores it exactly."""

import os
import time
import warnings
import weakref
from pathlib import Path
from typing import Any

from torch import nn

from unrolled.backends import torch as backend
from unrolled.checkpoints import folder
from unrolled.checkpoints.contents import pack, unpack
from unrolled.checkpoints.schedule import MOST, Schedule
from unrolled.differences import differences
from unrolled.errors import ParameterError, ResumeError, RunError, SettingError
from unrolled.locking import hold_while
from unrolled.torch.object_state import (
    check_objects_state,
    load_or_leave,
    named,
    objects_state,
    put_parameters,
    take_parameters,
)
from unrolled.training.checkpointing import CHECKPOINTS
from unrolled.training.position import generators
from unrolled.training.surroundings import check_same, no_fit, rounding

_open: "weakref.WeakValueDictionary[Path, Checkpoints]" = weakref.WeakValueDictionary()


class Checkpoints:
    """Saves and restores what a PyTorch training loop of your own consists of.

    A restored loop computes what it would have computed without the break, to the bit: on the same
    machine, with the same versions and number of threads. Kept are the objects that you name, and
    always the random generators of PyTorch (CPU and GPUs), NumPy and Python. A checkpoint is a
    folder ``<directory>/checkpoints/step-000123`` without pickled objects, and is written whole or
    not at all: see `unrolled.checkpoints.folder`.

    Args:
        directory: where to save; it is made if it is missing, and locked for this process until
            `close`.
        objects: modules (parameters, all buffers, what is frozen, what is in evaluation mode; also
            inside `torch.compile` and `DistributedDataParallel`), optimizers, `torch.Generator`
            and `numpy.random.Generator`, and what else has ``state_dict()`` and
            ``load_state_dict()``: schedulers, a ``GradScaler``, torchdata's
            ``StatefulDataLoader``. They are told apart by their classes, and those of one class by
            their order.
        schedule: when `save` saves, ``"every=1000steps"`` or ``"every=10min"``, and how many of the
            last checkpoints are kept: ``"every=10min,keep=3"``; by default at every call.
        keep: how many of the last checkpoints to keep, besides the one with the lowest score; by
            default what ``schedule`` says, or 2.

    Raises:
        SettingError: nothing of an object can be kept, an optimizer moves what none of the modules
            has, or the schedule counts epochs.
        RunError: another process uses the directory (it is named), or it cannot be made.

    Your own variables are not kept, nor are gradients: save after ``optimizer.step()``.

    Example, exact at the end of an epoch, where a ``DataLoader`` is about to draw a new order from
    PyTorch's generator:

        >>> import tempfile
        >>> import torch
        >>> import unrolled
        >>> def train(directory, epochs):
        ...     torch.manual_seed(0)
        ...     x = torch.randn(64, 3)
        ...     dataset = torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))
        ...     batches = torch.utils.data.DataLoader(dataset, batch_size=16, shuffle=True)
        ...     model = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Dropout(0.1))
        ...     optimizer = torch.optim.Adam(model.parameters())
        ...     checkpoints = unrolled.Checkpoints(directory, model, optimizer)
        ...     step = checkpoints.restore()
        ...     for epoch in range(step // len(batches), epochs):
        ...         for x, y in batches:
        ...             optimizer.zero_grad()
        ...             torch.nn.functional.mse_loss(model(x), y).backward()
        ...             optimizer.step()
        ...             step += 1
        ...         checkpoints.save(step)
        ...     checkpoints.close()
        ...     return model[0].weight
        >>> directory = tempfile.mkdtemp()
        >>> stopped = train(directory, epochs=1)
        >>> resumed = train(directory, epochs=3)
        >>> straight = train(tempfile.mkdtemp(), epochs=3)
        >>> torch.equal(resumed, straight), torch.equal(stopped, straight)
        (True, False)

    To go on in the middle of an epoch, save after every step, and draw each epoch's order from a
    generator of its own, so that it follows from the number of the epoch::

        step = checkpoints.restore()
        done, offset = divmod(step, len(dataset) // 16)
        for epoch in range(done, epochs):
            order = torch.Generator().manual_seed(1000 + epoch)
            batches = DataLoader(dataset, 16, shuffle=True, drop_last=True, generator=order)
            for x, y in itertools.islice(batches, offset, None):
                ...
                step += 1
                checkpoints.save(step)
            offset = 0

    This is exact if the dataset draws nothing when it is read. If it does (augmentation), read only
    what is left, without ``islice`` and workers::

            left = torch.randperm(len(dataset), generator=order)[offset * 16 :].tolist()
            batches = DataLoader(Subset(dataset, left), 16, drop_last=True, generator=order)

    Or give torchdata's ``StatefulDataLoader`` as one of the objects.
    """

    def __init__(
        self,
        directory: str | Path,
        *objects: Any,
        schedule: str | None = None,
        keep: int | None = None,
    ) -> None:
        if not isinstance(directory, (str, os.PathLike)):
            raise SettingError(
                f"directory is a {type(directory).__name__}; the first argument is the path to "
                "save in, then follow the objects"
            )
        self._schedule, self.keep = _parsed(schedule, keep)
        self._objects = named(objects)
        self._wrappers = {
            name: "none" if given is inner else type(given).__name__
            for given, (name, inner) in zip(objects, self._objects.items(), strict=True)
        }
        objects_state(self._objects)  # an object that cannot be kept is told now
        self.directory = Path(directory).absolute()
        self.folder = self.directory / CHECKPOINTS
        self._lock()
        self._step: int | None = None  # of the last call of save or restore
        self._last = time.monotonic()

    def save(self, step: int, score: float | None = None) -> bool:
        """Save a checkpoint if one is due, and return whether it was.

        Args:
            step: how many optimizer steps were taken, see `restore`.
            score: a number, the lower the better: the checkpoint with the lowest is kept, too.

        Raises:
            SettingError: the step is none, or lower than that before.
            RunError: the checkpoint cannot be written (earlier ones are intact), or the directory
                holds checkpoints and `restore` was not called.
        """
        step = self._checked(step)
        before, self._step = self._step or 0, step
        if not self._is_due(step, before):
            return False
        objects = objects_state(self._objects)
        parameters = take_parameters(objects)
        state = {
            "position": {"step": step},
            "objects": objects,
            "generators": generators(backend),
            "surroundings": self._surroundings(),
        }
        folder.write(self.folder, step, pack(state, parameters), score)
        folder.prune(self.folder, self.keep)
        self._last = time.monotonic()
        return True

    def restore(self, force: bool = False) -> int:
        """Restore the newest whole checkpoint; return how many steps were taken, 0 without any.

        A warning names newer checkpoints that are damaged.

        Args:
            force: go on also where versions, threads or devices differ, so that what follows is
                not exact; a warning names them.

        Raises:
            ResumeError: the checkpoint is of other objects, or (without ``force``) what follows
                would not be exact, or every checkpoint is damaged. The objects are as before.
        """
        self._check_open()
        found, problems = folder.newest(self.folder)
        if found is None and not problems:
            self._step = 0
            return 0
        if found is None:
            text = f"'{self.folder}' holds no whole checkpoint; remove it to begin anew"
            raise ResumeError("\n".join([text, *problems]))
        step, files = found
        state, parameters = unpack(files)
        if "objects" not in state:
            raise ResumeError(
                f"the checkpoints in '{self.folder}' are of unrolled's Trainer; go on with "
                "Trainer.fit(..., resume=DIRECTORY), or take another directory"
            )
        try:
            put_parameters(state["objects"], parameters)
            check_objects_state(self._objects, state["objects"])
            why = differences(state["surroundings"], self._surroundings())
            told = [*problems, *check_same([], why, force)]
            load_or_leave(self._objects, state["objects"], state["generators"])
        except (ParameterError, KeyError, IndexError, TypeError, ValueError) as error:
            raise no_fit(self.folder, error) from error
        for text in told:
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        self._step, self._last = step, time.monotonic()
        return step

    def close(self) -> None:
        """Let other processes use the directory; nothing can be saved or restored any more."""
        self._finalizer()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _lock(self) -> None:
        if earlier := _open.get(self.directory):  # of the same notebook, say
            earlier.close()
        self._finalizer = hold_while(self, self.directory)
        _open[self.directory] = self

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise RunError(
                f"the Checkpoints of '{self.directory}' are closed: by close(), or because you "
                "made others of this directory; use those"
            )

    def _checked(self, step: Any) -> int:
        """The step itself, if a checkpoint of it may be saved now."""
        self._check_open()
        try:
            number = -1 if isinstance(step, bool) else int(step.__index__())
        except (AttributeError, TypeError):
            number = -1
        if not 0 <= number <= MOST:
            raise SettingError(
                f"step is {step!r:.40}; it must be a whole number from 0 on: how many optimizer "
                "steps were taken"
            )
        if self._step is None and (there := folder.steps(self.folder)):
            raise RunError(
                f"'{self.folder}' holds checkpoints, the last of step {there[-1]:,}: call "
                "restore() before the loop to go on from it, or take another directory"
            )
        if number < (self._step or 0):
            raise SettingError(
                f"step is {number:,} and was {self._step:,} before; count on from what restore() "
                "returns"
            )
        return number

    def _is_due(self, step: int, before: int) -> bool:
        schedule = self._schedule
        if schedule is not None and schedule.unit == "steps":  # not every step may be told
            return step // int(schedule.every) > before // int(schedule.every)
        return schedule is None or schedule.due(step, None, time.monotonic() - self._last)

    def _surroundings(self) -> dict[str, Any]:
        modules = [each for each in self._objects.values() if isinstance(each, nn.Module)]
        devices = {str(tensor.device) for each in modules for tensor in each.parameters()}
        return {
            **rounding(backend, ", ".join(sorted(devices)) or "cpu"),
            "wrapper of": self._wrappers,
        }


def _parsed(schedule: str | None, keep: int | None) -> tuple[Schedule | None, int]:
    """The schedule and how many checkpoints to keep."""
    if schedule is None:
        return None, Schedule(1, "steps", 2 if keep is None else keep).keep
    found = Schedule.parse(schedule)
    if found is None:
        raise SettingError("schedule is off; leave it out to save at every call of save()")
    if found.unit == "epochs":
        raise SettingError(
            "schedule counts epochs, which save(step) is not told: leave it out and call save() "
            "at the end of an epoch, or write every=1000steps or every=10min"
        )
    return found, found.keep if keep is None else Schedule(1, "steps", keep).keep
