"""A training in PyTorch that draws from every generator, has buffers, curves and Adam."""

import math
import random
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from torture.processes import send
from unrolled import torch as unrolled
from unrolled.errors import NotFiniteError
from unrolled.telemetry.recorder import Telemetry
from unrolled.training.records import Listener

EPOCHS, MORE = 100, 200
"""Of five steps each; a training that is resumed has more, which changes nothing before them."""


class Noise(nn.Module):
    """Adds draws of PyTorch, NumPy and Python."""

    factor = 1.0

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return X
        return X * self.factor + torch.randn(3) + float(np.random.normal()) + random.gauss(0, 1)


class Data(unrolled.DataModule):
    """Loaders of PyTorch, the first of which shuffles."""

    def __init__(self) -> None:
        X = torch.arange(60.0).reshape(20, 3) / 60
        self.sets = TensorDataset(X, X.sum(1, keepdim=True))

    def get_dataloader(self, train: bool) -> Any:
        return DataLoader(self.sets, batch_size=4, shuffle=train)


class End(Listener):
    """Kills the process, stops the training, or breaks the model, after so many steps."""

    def __init__(self, kill_after: int, stop_after: int, break_after: int) -> None:
        self.kill_after, self.stop_after, self.break_after = kill_after, stop_after, break_after

    def on_step(self, trainer: Any, step: Any) -> None:
        if step.step == self.kill_after:
            trainer.checkpoint.wait()  # as which checkpoint there is would depend on the moment
            send(signal.SIGKILL)
        if step.step == self.stop_after:
            trainer.stop()
        trainer.model.net[3].factor = math.nan if step.step == self.break_after else 1.0


def train(
    run: Path,
    resume: bool = False,
    kill_after: int = 0,
    stop_after: int = 13,
    break_after: int = 0,
    seed: int = 0,
) -> None:
    """Train, with a checkpoint after every second step; what is learned is written beside it."""
    unrolled.backend.seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    layers = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.3), Noise(), nn.Linear(3, 1)
    net = nn.Sequential(*layers)
    adam = torch.optim.Adam(net.parameters(), lr=0.01, amsgrad=True)
    model = unrolled.NativeModel(net, nn.functional.mse_loss, adam)
    saved = unrolled.Checkpointing(run, "every=2steps,keep=1")
    epochs = MORE if resume else EPOCHS
    trainer = unrolled.Trainer(epochs, checkpoint=saved, gradient_clip_val=1)
    records: list[Any] = []  # of every second step
    ends = End(kill_after, stop_after, break_after)
    trainer.listeners += [Telemetry(None, [records.append]), ends]
    if resume and break_after:
        layers[3].factor = math.nan
    with suppress(NotFiniteError):
        trainer.fit(model, Data(), resume=run if resume else None)
    values = {name: value.detach().numpy() for name, value in net.state_dict().items()}
    np.savez(run / "learned.npz", **values)
    points = {label: np.array(line) for label, line in model.board.points.items()}
    np.savez(run / "curves.npz", **points)
    np.savez(run / "records.npz", np.array([record.step for record in records[-1:]]))
