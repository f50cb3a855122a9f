"""A stranger's training by several processes, whose records it writes as JSON: ``K RANK OUT``."""

import json
import os
import sys
from pathlib import Path

import torch
from torch import distributed, nn

from unrolled.watch.torch import watch


def main(size: int, rank: int, out: Path, store: str) -> None:
    """Train a small GRU, and record every second step."""
    torch.manual_seed(0)
    net = nn.ModuleDict({"rnn": nn.GRU(5, 16, batch_first=True), "out": nn.Linear(16, 3)})
    net.forward = lambda x: net["out"](net["rnn"](x)[0])
    model: nn.Module = net
    if size > 1:
        distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=size
        )
        model = nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    generator = torch.Generator().manual_seed(1)
    rows = slice(rank * 8 // size, (rank + 1) * 8 // size)
    with watch(model, every=2, out=out / "run") as watched:
        for _ in range(5):
            x = torch.randn(8, 6, 5, generator=generator)
            y = torch.randint(0, 3, (8, 6), generator=generator)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[rows]).flatten(0, 1), y[rows].flatten())
            watched.loss(loss)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.2)
            optimizer.step()
        records = [record.as_dict() for record in watched.records]
        told = {"records": records, "notes": watched.notes}
    (out / f"{size}-{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
