"""Skipping and rollback with what only PyTorch has here: batch norm, dropout, sparse gradients."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from test_recovery import assert_same, data_of, fitted, points, spoiling, texts, values  # noqa: E402
from test_torch import RootOfW  # noqa: E402
from torch import nn  # noqa: E402

from unrolled import torch as unrolled  # noqa: E402
from unrolled.errors import NotFiniteError  # noqa: E402
from unrolled.torch.sparse_gradients import rows_suffice  # noqa: E402
from unrolled.training.truncation import Truncation  # noqa: E402

SIZE = 2000
"""Of a vocabulary whose table gets sparse gradients."""


class Normed(unrolled.Module):
    """A regression with running statistics."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(dropout), nn.Linear(3, 1)
        self.net = nn.Sequential(*layers)

    def loss(self, y_hat: Any, y: Any) -> Any:
        return ((y_hat - y) ** 2).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.1)


def buffers(model: Any) -> dict[str, Any]:
    return {name: buffer.numpy() for name, buffer in model.named_buffers()}


def test_running_statistics_are_those_without_the_minibatch() -> None:
    model, twin = Normed(), Normed()
    found = fitted(unrolled.Trainer(2, on_nonfinite="skip"), model, points(unrolled, 5, bad=(1, 4)))
    rest = [batch for i, batch in enumerate(points(unrolled, 5), 1) if i not in (1, 4)]
    assert_same(found, fitted(unrolled.Trainer(2), twin, rest))
    assert_same(buffers(model), buffers(twin))


def test_running_statistics_are_rolled_back(tmp_path: Any) -> None:
    model, twin, batches = Normed(), Normed(), points(unrolled, 7)
    checkpoint = unrolled.Checkpointing(tmp_path, "every=3steps")
    trainer = spoiling(unrolled, 5)(1, on_nonfinite="rollback", checkpoint=checkpoint)
    found = fitted(trainer, model, batches)
    assert_same(found, fitted(unrolled.Trainer(1), twin, batches[:3] + batches[5:]))
    assert_same(buffers(model), buffers(twin))


def test_an_infinite_gradient_moves_nothing() -> None:
    model = RootOfW()
    unrolled.Trainer(1, on_nonfinite="skip").fit(model, data_of(points(unrolled, 3)))
    assert model.w.tolist() == [0.0]


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_sparse_gradients_are_left_out_as_whole_ones(policy: str, tmp_path: Any) -> None:
    batches = texts(unrolled, 9, SIZE)
    make = lambda: unrolled.LanguageModel(SIZE, 4, lr=0.5, seed=0)  # noqa: E731
    truncation = Truncation("zero")
    checkpoint = unrolled.Checkpointing(tmp_path, "every=3steps")
    options = {"on_nonfinite": policy, "checkpoint": checkpoint, "truncation": truncation}
    trainer = spoiling(unrolled, 5)(1, **options)
    found = fitted(trainer, make(), batches)
    assert rows_suffice(trainer)
    rest = batches[: 4 if policy == "skip" else 3] + batches[5:]
    assert_same(found, fitted(unrolled.Trainer(1, truncation=truncation), make(), rest))


def test_after_a_rollback_the_last_good_rows_are_those_of_the_checkpoint(tmp_path: Any) -> None:
    """Steps 6 to 8 fail after a rollback to step 3; the last good weights are those of step 2."""
    batches = texts(unrolled, 9, SIZE)
    make = lambda: unrolled.LanguageModel(SIZE, 4, lr=0.5, seed=0)  # noqa: E731
    checkpoint = unrolled.Checkpointing(tmp_path, "every=3steps")
    bad = spoiling(unrolled, 5, 6, 7, 8)
    trainer = bad(1, on_nonfinite="rollback", checkpoint=checkpoint)
    with pytest.raises(NotFiniteError, match="checkpoint of step 3 was gone back to 3 times"):
        trainer.fit(make(), data_of(batches))
    assert_same(values(trainer), fitted(unrolled.Trainer(1), make(), batches[:2]))
