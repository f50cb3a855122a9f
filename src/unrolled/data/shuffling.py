"""`random_order`: the numbers from 0 to N-1 in random order, also where N does not fit memory."""

import math

import numpy as np
import numpy.typing as npt

from unrolled.data.vocabulary import smallest_type

MOST_SHUFFLED = 2**24
"""Numbers that are shuffled in memory, 64 MB at most."""

ROUNDS = 8
"""Rounds of the Feistel network. Four suffice for truly random functions; ours are hashes."""


class Permutation:
    """The numbers from 0 to ``count - 1`` in random order, each computed when it is asked for.

    An order in memory would take 1 GB for the windows of a text of 10 GB. A keyed Feistel network
    finds any place of it alone. A number ``x`` is a pair ``(x % a, x // a)``; each round adds to
    one of the two a keyed hash of the other, which can be undone: so it is a permutation of the
    ``a * b`` pairs. What it leads to beyond ``count`` is permuted again until it is below
    ("cycle walking"); as ``a * b`` is the smallest product with ``a`` about the square root, that
    is fewer than one number in ``a``.

    M. Luby, C. Rackoff, "How to construct pseudorandom permutations from pseudorandom functions",
    SIAM Journal on Computing 17(2), 1988. J. Black, P. Rogaway, "Ciphers with arbitrary finite
    domains", CT-RSA 2002: cycle walking, and halves of any size.

    Args:
        count: at least 1.
        rng: draws the keys.

    Example:
        >>> order = Permutation(10**12, np.random.default_rng(0))
        >>> order[10**11 : 10**11 + 2].shape
        (2,)
        >>> sorted(Permutation(5, np.random.default_rng(0))[0:5].tolist())
        [0, 1, 2, 3, 4]
    """

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        self.count = count
        self.a = np.uint64(math.isqrt(count - 1) + 1)
        self.b = np.uint64(-(-count // int(self.a)))
        self.keys = rng.integers(2**64, size=ROUNDS, dtype=np.uint64)

    def __getitem__(self, places: slice) -> npt.NDArray[np.int64]:
        found = self._permuted(np.arange(*places.indices(self.count), dtype=np.uint64))
        while len(beyond := np.flatnonzero(found >= self.count)):
            found[beyond] = self._permuted(found[beyond])
        return found.astype(np.int64)

    def _permuted(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        right, left = np.divmod(numbers, self.a)
        for i in range(0, ROUNDS, 2):
            left = (left + hashed(right, self.keys[i]) % self.a) % self.a
            right = (right + hashed(left, self.keys[i + 1]) % self.b) % self.b
        return left + self.a * right


def hashed(numbers: npt.NDArray[np.uint64], key: np.uint64) -> npt.NDArray[np.uint64]:
    """Keyed hashes of numbers: the last steps of SplitMix64 (Steele, Lea, Flood 2014)."""
    z = numbers ^ key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def random_order(count: int, rng: np.random.Generator) -> npt.NDArray[np.integer] | Permutation:
    """The numbers from 0 to ``count - 1`` in random order; a slice of it gives an array.

    Up to `MOST_SHUFFLED` numbers it is NumPy's shuffle, above a `Permutation`.
    """
    if count > MOST_SHUFFLED:
        return Permutation(count, rng)
    order = np.arange(count, dtype=smallest_type(count))  # fewer bytes than int64
    rng.shuffle(order)
    return order
