"""`watch` for PyTorch models: records of gradients in any training loop."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from unrolled.watch.record_store import KEEP, Sink
from unrolled.watch.torch.states import StateNames
from unrolled.watch.torch.step_events import StepEvents


def watch(
    model: nn.Module,
    every: int = 1,
    sink: Sink | None = None,
    out: str | Path | None = None,
    keep: int = KEEP,
    through_time: bool = True,
    clips_at: float | None = None,
    scaler: Any = None,
    states: StateNames | None = None,
    overwrite: bool = False,
) -> "Watch":
    """Watch a model's gradients from now on; your training loop stays as it is.

    A step is complete when an optimizer that holds the model's parameters has moved them;
    what happens in between (several backward passes, clipping) is seen by itself. Nothing of
    the training is changed, and no random number is drawn.

    Args:
        model: any module, also inside `torch.compile`, Lightning or Accelerate.
        every: steps from one record to the next, beginning with the first.
        sink: called with every `TelemetryRecord`.
        out: run directory to make, for `unrolled report` and `unrolled diagnose`. If it holds
            something, the next free name is taken (``runs/mine-2``) and a warning says so.
        keep: records kept in memory.
        through_time: look into recurrent layers; costs about one more forward and backward
            pass of each, on the steps that are recorded.
        clips_at: the threshold that your loop clips at, if you want to be told that it
            never acts; all else about clipping is seen without it.
        scaler: the loss scaler of your loop, whose factor is divided out: a
            `torch.amp.GradScaler` (in Lightning ``trainer.precision_plugin.scaler``, in
            Accelerate ``accelerator.scaler``), or any other object with ``scale(loss)``.
        states: by the name of a module of yours the argument of its ``forward`` that takes in
            the hidden state: ``{"decoder": "h"}``, of a tuple's first part ``"state.0"``. If
            the batch is not the state's first axis, its axis too: ``{"decoder": ("h", 1)}``.
        overwrite: replace a run that ``out`` already holds.

    Returns:
        A handle: ``last``, ``records``, ``loss(value)``, ``step()`` for weights that you move
        by hand, ``tap(h, name)``, ``diagnose()``, ``close()``; use it with ``with``
        or close it to leave the model exactly as it was.

    Raises:
        SettingError: ``every`` or ``keep`` is below 1, ``model`` is no module, ``scaler`` no
            scaler, or ``states`` names what there is not.
        RunError: ``out`` cannot be made, or what is to be replaced is no run.

    Example:
        >>> import torch
        >>> model = torch.nn.LSTM(3, 5)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> watched = watch(model)
        >>> model(torch.ones(7, 2, 3))[0][-1].sum().backward()
        >>> optimizer.step()
        >>> record = watched.last
        >>> len(record.layers["lstm"].hidden_gradient_mean), record.clip_coefficient
        (7, 1.0)
        >>> watched.close()
    """
    return Watch(model, every, sink, out, keep, through_time, clips_at, scaler, states, overwrite)


class Watch(StepEvents):
    """A watched model; made by `watch`.

    Attributes:
        model: the model.
        every: steps from one record to the next.
        steps: complete steps so far.
        skipped: backward passes thrown away by a loss scaler, as far as they were seen.
        notes: by layer, what could not be traced and why.
    """

    def loss(self, value: Any) -> None:
        """Tell the loss of a minibatch, before the optimizer's step; the mean is recorded.

        Args:
            value: a number or tensor. It is not needed for losses that the model itself
                returns: a scalar, or a ``loss`` in its output.
        """
        if self._logs():
            self.forward_trace.told.append(
                value.detach() if isinstance(value, torch.Tensor) else value
            )

    def tap(self, h: torch.Tensor, name: str) -> torch.Tensor:
        """Mark the state of a recurrence that is written out without a module.

        Args:
            h: the hidden state of a step, ``(B, H)``, as it goes on to the next.
            name: of the layer; all taps of a name make its time steps, in order.

        Returns:
            ``h`` itself.
        """
        if self._sees():
            self.states.add(name, h, self.recurrences.last_state(name))
        return h

    @torch.no_grad()
    def step(self) -> None:
        """Say that you have moved the weights by hand, without an optimizer.

        Call it after every update. Steps of optimizers are seen by themselves. Without a backward
        pass since the last step it does nothing.
        """
        if self.closed or self.stepping is not None or not self.current.fresh:
            return
        self._take_new(look=True)
        self.by_hand, mine = True, self._fresh()
        if self._logs():
            self.current.take_clipped(mine)
            if self.current.before.keys() >= mine.keys():
                self.current.updated(mine)
        self.current.stepped |= mine.keys()
        self._complete()
