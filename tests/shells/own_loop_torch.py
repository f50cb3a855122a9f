"""A PyTorch loop as people write them, in a process of its own; its end as a digest.

Arguments: a directory, a mode, before which flush to the disk to kill it, and a seed. Modes:
"epochs" saves at their ends, and the loader draws from PyTorch's generator; "steps" saves at every
one; "drawn" does so, with data that draw when they are read.
"""

import hashlib
import itertools
import os
import random
import signal
import sys
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import unrolled

EPOCHS, SIZE = 3, 4


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.table.weight.requires_grad_(False)
        self.rnn = nn.LSTM(6, 5, num_layers=2, dropout=0.3, batch_first=True)
        self.norm, self.dropout, self.out = nn.BatchNorm1d(5), nn.Dropout(0.2), nn.Linear(5, 1)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return self.out(self.dropout(self.norm(self.rnn(self.table(x))[0][:, -1]))) * self.seen


class Drawn(TensorDataset):
    """Draws whenever it is read."""

    def __getitem__(self, place: int) -> Any:
        x, y = super().__getitem__(place)
        return x, y + torch.rand(1) + np.random.rand()


def make(seed: int) -> list[Any]:
    for draw_from in (torch.manual_seed, np.random.seed, random.seed):
        draw_from(seed)
    model = Net()
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=0.01)
    optimizers = torch.optim.lr_scheduler
    warmup = optimizers.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 9))
    return [model, optimizer, warmup, optimizers.ReduceLROnPlateau(optimizer, patience=1)]


def train(
    directory: Any, mode: str, seed: int = 0, stop: int = 0, left_out: int | None = None
) -> str:
    """Train on from the checkpoints in a directory; the digest of all that there is in the end.

    Args:
        directory: of the checkpoints.
        mode: see above.
        seed: of the objects and draws that a checkpoint is to replace.
        stop: the step to end after; 0: none.
        left_out: the number of an object that the checkpoints do not keep.
    """
    objects = model, optimizer, warmup, plateau = make(seed)
    torch.manual_seed(seed + 1)
    numbers = torch.Generator().manual_seed(5)  # the data are the same for every seed
    x = torch.randint(11, (7 * SIZE, 6), generator=numbers)
    dataset = TensorDataset(x, x.float().mean(1, keepdim=True))
    kept = [each for place, each in enumerate(objects) if place != left_out]
    with unrolled.Checkpoints(directory, *kept) as checkpoints:
        step = checkpoints.restore()
        done, offset = divmod(step, len(dataset) // SIZE)
        for epoch in range(done, EPOCHS):
            order = None if mode == "epochs" else torch.Generator().manual_seed(9 + epoch)
            if mode == "drawn":
                left = torch.randperm(len(x), generator=order)[offset * SIZE :].tolist()
                batches = iter(
                    DataLoader(Subset(Drawn(*dataset.tensors), left), SIZE, generator=order)
                )
            else:
                loader = DataLoader(dataset, SIZE, shuffle=True, generator=order)
                batches = itertools.islice(loader, offset, None)
            for inputs, targets in batches:
                noise = random.random() + np.random.rand()
                loss = nn.functional.mse_loss(model(inputs), targets + noise)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                warmup.step()
                plateau.step(loss.item())
                step += 1
                if mode != "epochs":
                    checkpoints.save(step)
                if step == stop:
                    return ""
            offset = 0
            if mode == "epochs":
                checkpoints.save(step)
    tensors = [*model.parameters(), *model.buffers(), torch.rand(1)]
    tensors += [t for state in optimizer.state.values() for t in state.values()]
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().numpy().tobytes())
    rest = step, warmup.get_last_lr(), plateau.state_dict(), random.random(), np.random.rand()
    found.update(repr(rest).encode())
    return found.hexdigest()


def kill_at(number: int) -> None:
    """Kill this process before it flushes a file to the disk for the n-th time."""
    calls, fsync = itertools.count(1), os.fsync

    def killing(handle: int) -> None:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    os.fsync = killing


if __name__ == "__main__":
    kill_at(int(sys.argv[3]))
    print(train(sys.argv[1], sys.argv[2], seed=int(sys.argv[4])))
