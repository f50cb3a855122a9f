"""``DataModule``, the base class of data sets: loaders for training and for validation."""

from collections.abc import Sequence
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.data.batching import ArrayLoader
from unrolled.hyperparameters import HyperParameters


class DataModule(HyperParameters):
    """Base class of data sets: says how to load minibatches for training and validation.

    A subclass defines `get_dataloader`. A loader is anything that can be iterated over
    once an epoch, gives tuples whose last entry holds the targets, and has a length.

    Args:
        root: folder for data files, for subclasses that need one.
        num_workers: accepted for programs that pass it; loading is done in the process.
    """

    backend: ClassVar[Backend]
    batch_size: int
    seed: int | None = None

    def __init__(self, root: str = "../data", num_workers: int = 0) -> None:
        self.root = root
        self.num_workers = num_workers

    def get_dataloader(self, train: bool) -> Any:
        """The loader for training or for validation (None: there is no validation)."""
        raise NotImplementedError(f"{type(self).__name__} must define get_dataloader(train)")

    def train_dataloader(self) -> Any:
        return self.get_dataloader(train=True)

    def val_dataloader(self) -> Any:
        return self.get_dataloader(train=False)

    def get_tensorloader(
        self, tensors: Sequence[Any], train: bool, indices: slice = slice(0, None)
    ) -> ArrayLoader:
        """Minibatches of ``batch_size`` rows of these arrays, shuffled for training only.

        The last minibatch is smaller where ``batch_size`` does not divide the rows.

        Args:
            tensors: arrays that share their first axis, the targets last.
            train: whether to shuffle, anew for each epoch.
            indices: which rows to use.
        """
        return ArrayLoader(
            [self.backend.to_numpy(tensor)[indices] for tensor in tensors],
            self.batch_size,
            shuffle=train,
            asarray=self.backend.asarray,
            seed=[self.backend.fresh_seed() if self.seed is None else self.seed, 1],
        )
