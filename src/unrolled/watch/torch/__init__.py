"""`watch` for PyTorch models: records of gradients in any training loop."""

from pathlib import Path
from typing import Any

from torch import nn

from unrolled.watch.record_store import KEEP, Sink
from unrolled.watch.torch.states import StateNames
from unrolled.watch.torch.watch import Watch

__all__ = ["Watch", "watch"]


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
) -> Watch:
    """Watch a model's gradients from now on; your training loop stays as it is.

    A step is complete when an optimizer that holds the model's parameters has moved them;
    what happens in between (several backward passes, clipping) is seen by itself. Nothing of
    the training is changed, and no random number is drawn.

    In a training by several processes call it in each of them, after ``init_process_group``. The
    gradients are the reduced ones, ``notes["processes"]`` says what is of one process only, and
    process 0 alone writes ``out``.

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
