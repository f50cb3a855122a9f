"""A data module of minibatches that a test has made."""

from types import SimpleNamespace
from typing import Any


def data_of(train: Any, validate: Any = None) -> Any:
    return SimpleNamespace(train_dataloader=lambda: train, val_dataloader=lambda: validate)
