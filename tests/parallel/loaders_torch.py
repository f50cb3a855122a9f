"""Train by processes that have other seeds: ``loaders_torch.py DataLoader`` or ``TextData``."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from unrolled import torch as u
from unrolled.training.records import Listener


class Seen(Listener):
    """Hashes of the minibatches."""

    def __init__(self) -> None:
        self.hashes: list[str] = []

    def on_step(self, trainer: Any, step: Any) -> None:
        self.hashes.append(trainer.position.sha256(trainer.whole_batch))


def main(kind: str) -> None:
    """Train two epochs; print whether all have seen the same minibatches."""
    parallel = u.data_parallel()
    torch.manual_seed(parallel.rank)
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    if kind == "DataLoader":
        dataset = torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))
        loader = torch.utils.data.DataLoader(dataset, batch_size=8, shuffle=True)
        data: Any = SimpleNamespace(train_dataloader=lambda: loader, val_dataloader=lambda: None)
    else:
        letters = "".join(map(chr, np.random.default_rng(0).integers(97, 123, 3000)))
        data = u.TextData(letters, batch_size=8, num_steps=5)
    net: Any = u.NativeModel(nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1)), nn.MSELoss(), lr=0.1)
    if kind != "DataLoader":
        net = u.LanguageModel(len(data.vocab), 8)
    seen = Seen()
    with parallel.together():
        u.Trainer(2, listeners=[seen], data_parallel=parallel).fit(net, data)
    first, *others = parallel.everyone(seen.hashes)
    print(len(first), all(other == first for other in others))
    parallel.leave()


if __name__ == "__main__":
    main(sys.argv[1])
