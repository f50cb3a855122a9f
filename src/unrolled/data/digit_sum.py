"""Draw, write and read sequences labelled with the sum of two digits; `DigitSumData` has them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from unrolled.backends import Backend
from unrolled.checks import checked
from unrolled.data.batching import ArrayLoader
from unrolled.data.data_module import DataModule
from unrolled.errors import DataError, SettingError, shortened
from unrolled.untrusted import MOST_DATA, read_bytes

LENGTHS = (5, 10, 15, 20, 25, 30, 35)
"""The published lengths, in the order in which they are drawn."""

SPLITS = {"train": 3, "dev": 1, "test": 1}
"""The published files of a length, in the order in which they are drawn, and k of each."""

NUM_DIGITS, NUM_CLASSES = 10, 19
"""Digits 0 to 9, so sums 0 to 18."""

Example = tuple[list[int], int]
"""A sequence of digits, and its label."""


@checked
def draw(length: int, k: int, rng: Any = None) -> list[Example]:
    """All 100 pairs of digits, each ``k`` times with one further digit at random.

    A sequence is ``[n1, n2, 0, ..., 0]``, its label ``n1 + n2``; in every copy one
    position in ``[2, length)`` is overwritten by a random digit, position drawn first.

    The ``100 * k`` examples are in the order of the pairs. ``rng`` is a `numpy.random.RandomState`;
    None is NumPy's global one, which ``numpy.random.seed`` seeds.

    Example:
        >>> draw(5, 1, np.random.RandomState(0))[:3]
        [([0, 0, 5, 0, 0], 0), ([0, 1, 3, 0, 0], 1), ([0, 2, 0, 3, 0], 2)]
    """
    if length < 3:
        raise SettingError(
            f"length is {length}; it must be at least 3: two digits to add and one to ignore"
        )
    if k < 1:
        raise SettingError(f"k is {k}; every pair of digits needs at least 1 copy")
    rng = np.random if rng is None else rng
    examples: list[Example] = []
    for n1 in range(NUM_DIGITS):
        for n2 in range(NUM_DIGITS):
            for _ in range(k):
                sequence = [n1, n2] + [0] * (length - 2)
                position = int(rng.randint(2, length))
                sequence[position] = int(rng.randint(0, NUM_DIGITS))
                examples.append((sequence, n1 + n2))
    return examples


def generate_data(length: int, k: int, save_path: str | Path, rng: Any = None) -> None:
    """Write a data file: one example a line, digits, a tab, the label."""
    examples, path = draw(length, k, rng), Path(save_path)
    lines = [" ".join(map(str, sequence)) + f"\t{label}\n" for sequence, label in examples]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(lines).encode())  # bytes: the same line ends on every system


def published(lengths: Iterable[int] = LENGTHS) -> dict[int, dict[str, list[Example]]]:
    """The published examples of these lengths: ``published([20])[20]["train"]``.

    Drawn from seed 0, length after length, each train, dev, test. One generator serves all,
    so the shorter lengths are drawn on the way; a length that is not among ``LENGTHS`` has
    a generator of its own, seeded by 0 and the length.
    """

    def drawn(length: int, rng: np.random.RandomState) -> dict[str, list[Example]]:
        return {name: draw(length, k, rng) for name, k in SPLITS.items()}

    rng = np.random.RandomState(0)
    found = {length: drawn(length, rng) for length in LENGTHS}
    return {
        length: found.get(length) or drawn(length, np.random.RandomState([0, max(0, length)]))
        for length in lengths
    }


def load_data(path: str | Path) -> Any:
    """Read data files.

    Args:
        path: a folder with ``train.txt``, ``dev.txt`` and ``test.txt``, or one file.

    Returns:
        Of a folder three lists of examples ``([digits], label)``, of a file one.

    Raises:
        DataError: a file is missing or empty, or a line of it is damaged; the message
            names the line.
    """
    if Path(path).is_dir():
        return tuple(_read(Path(path) / f"{name}.txt") for name in SPLITS)
    return _read(Path(path))


def _read(path: Path) -> list[Example]:
    try:
        lines = read_bytes(path, MOST_DATA).decode().splitlines()
    except FileNotFoundError:
        raise DataError(
            f"'{path}' does not exist; generate_data(length, k, path) writes such a file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None
    examples = [_parse(line, f"'{path}', line {number}") for number, line in enumerate(lines, 1)]
    lengths = [len(sequence) for sequence, _ in examples]
    if not examples:
        raise DataError(f"'{path}' is empty; it must hold one example a line")
    for number, length in enumerate(lengths, 1):
        if length != lengths[0]:
            raise DataError(
                f"'{path}', line {number}: {length} digits, where line 1 has {lengths[0]}; all "
                "sequences of a file must be equally long"
            )
    return examples


def _parse(line: str, where: str) -> Example:
    digits, tab, label = line.partition("\t")
    try:
        sequence, total = [int(digit) for digit in digits.split()], int(label)
    except ValueError:
        sequence, total = [], 0
    if not tab or not sequence:
        raise DataError(
            f"{where}: {shortened(repr(line))} is damaged; expected digits, a tab, and a label"
        )
    for digit in sequence:
        if not 0 <= digit < NUM_DIGITS:
            raise DataError(
                f"{where}: {shortened(str(digit))} is no digit; expected 0 to {NUM_DIGITS - 1}"
            )
    if not 0 <= total < NUM_CLASSES:
        raise DataError(
            f"{where}: label {shortened(str(total))} is out of range 0 to {NUM_CLASSES - 1}"
        )
    if len(sequence) < 3:
        raise DataError(f"{where}: {len(sequence)} digits; a sequence has at least 3")
    return sequence, total


def as_arrays(examples: Sequence[Example]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Examples as arrays: digits ``(N, L)`` and labels ``(N,)``."""
    sequences, labels = zip(*examples, strict=True)
    return np.array(sequences, dtype=np.int64), np.array(labels, dtype=np.int64)


class DigitSumDataset:
    """Examples by index, each ``(sequence (L,), label ())``, int64 arrays of the framework.

    Args:
        data: examples ``([digits], label)``, as from `load_data`.

    Example:
        >>> from unrolled.nndl import torch as nndl
        >>> sequence, label = nndl.DigitSumDataset([([1, 2, 0, 5, 0], 3)])[0]
        >>> sequence.tolist(), label.item()
        ([1, 2, 0, 5, 0], 3)
    """

    backend: ClassVar[Backend]

    def __init__(self, data: Sequence[Example]) -> None:
        self.data = data

    def __getitem__(self, idx: int) -> tuple[Any, Any]:
        sequence, label = self.data[idx]
        asarray = self.backend.asarray
        return asarray(np.array(sequence, np.int64)), asarray(np.array(label, np.int64))

    def __len__(self) -> int:
        return len(self.data)


class DigitSumData(DataModule):
    """The published digit sums of one length, as a data module for the trainer.

    Args:
        length: digits of a sequence; see `published`.
        batch_size: examples of a minibatch.
        seed: of the order of the training examples; None takes one from the framework's
            own generator.

    Attributes:
        splits: ``"train"`` (300 examples), ``"dev"`` and ``"test"`` (100 each): digits
            ``(N, L)`` and labels ``(N,)``.

    Raises:
        SettingError: ``length`` is below 3.

    Example:
        >>> from unrolled.nndl import torch as nndl
        >>> X, y = next(iter(nndl.DigitSumData(length=20, seed=0).train_dataloader()))
        >>> tuple(X.shape), tuple(y.shape)
        ((8, 20), (8,))
    """

    def __init__(self, length: int, batch_size: int = 8, seed: int | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        examples = published([length])[length]
        self.splits = {name: as_arrays(examples[name]) for name in SPLITS}

    def get_dataloader(self, train: bool) -> ArrayLoader:
        if not train:
            return self.loader("dev")
        return self.get_tensorloader(
            tuple(map(self.backend.asarray, self.splits["train"])), train=True
        )

    def loader(self, split: str) -> ArrayLoader:
        """All examples of a split in their order, as one minibatch."""
        X, y = self.splits[split]
        return ArrayLoader([X, y], len(X), asarray=self.backend.asarray)
