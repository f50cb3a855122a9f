"""Does a training loop of your own go on exactly after it was stopped in the middle of an epoch?"""

import itertools
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unrolled

EPOCHS, BATCH = 4, 16


def train(directory: str, stop: int | None = None, with_optimizer: bool = True) -> torch.Tensor:
    """Train from where the last checkpoint is; the weights after the last step, or after one."""
    torch.manual_seed(0)
    x = torch.randn(320, 5)
    dataset = TensorDataset(x, x.prod(1, keepdim=True))
    model = nn.Sequential(nn.Linear(5, 32), nn.BatchNorm1d(32), nn.Dropout(0.2), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    kept = [model, optimizer] if with_optimizer else [model]

    with unrolled.Checkpoints(directory, *kept) as checkpoints:
        step = checkpoints.restore()
        done, offset = divmod(step, len(dataset) // BATCH)
        for epoch in range(done, EPOCHS):
            order = torch.Generator().manual_seed(epoch)  # so that no order depends on earlier ones
            batches = DataLoader(dataset, BATCH, shuffle=True, drop_last=True, generator=order)
            for inputs, targets in itertools.islice(batches, offset, None):
                optimizer.zero_grad()
                nn.functional.mse_loss(model(inputs), targets).backward()
                optimizer.step()
                step += 1
                checkpoints.save(step)
                if step == stop:
                    return model[0].weight.detach()
            offset = 0
    return model[0].weight.detach()


def main() -> None:
    straight = train(tempfile.mkdtemp())
    for what, with_optimizer in (("all of it", True), ("all but the optimizer", False)):
        directory = tempfile.mkdtemp()
        train(directory, stop=33, with_optimizer=with_optimizer)
        resumed = train(directory, with_optimizer=with_optimizer)
        difference = (resumed - straight).abs().max().item()
        print(f"stopped after step 33, restored {what}: weights differ by {difference:.1e}")


if __name__ == "__main__":
    main()
