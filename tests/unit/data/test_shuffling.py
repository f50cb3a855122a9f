import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.data import shuffling
from unrolled.data.shuffling import Permutation, random_order


def permutation(count, seed=0):
    return Permutation(count, np.random.default_rng(seed))


def chi_square(counts, expected):
    """In standard deviations from its mean, if the counts are independent."""
    counts = np.asarray(counts, dtype=float)
    freedom = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5


@given(st.integers(1, 5000), st.integers(0, 2**32))
def test_every_number_occurs_once(count, seed):
    assert sorted(permutation(count, seed)[0:count].tolist()) == list(range(count))


@given(
    st.integers(1, 10**18),
    st.integers(0, 2**32),
    st.lists(st.integers(0, 10**18), min_size=1, max_size=20),
)
def test_a_place_has_its_number_whatever_else_is_asked_for(count, seed, places):
    order = permutation(count, seed)
    places = sorted({place % count for place in places})
    alone = [int(order[place : place + 1][0]) for place in places]
    assert len(set(alone)) == len(places)  # different places have different numbers
    assert 0 <= min(alone) <= max(alone) < count
    first = max(0, places[0] - 3)
    assert order[first : places[0] + 1][-1] == alone[0]
    assert len(order[count - 1 : count + 5]) == 1  # slices end where those of an array do


def test_other_seeds_give_other_orders():
    orders = {tuple(permutation(10**9, seed)[0:4].tolist()) for seed in range(1000)}
    assert len(orders) == 1000


@pytest.mark.parametrize("count", [2**24 + 1, 3 * 10**8, 10**12])
def test_numbers_and_their_differences_are_uniform(count):
    """Chi-square of what neighbours in the order have in common, were it not random."""
    found = permutation(count, 7)[0 : 2**18].astype(np.int64)
    for statistic in (found, np.diff(found), found[7:] - found[:-7], found[::2] + found[1::2]):
        parts = np.bincount((statistic % count) * 256 // count, minlength=256)
        assert abs(chi_square(parts, len(statistic) / 256)) < 4
    low = np.bincount(found % 251, minlength=251)
    assert abs(chi_square(low, len(found) / 251)) < 4
    rising = (np.diff(found) > 0).mean()
    assert abs(rising - 0.5) < 4 * (1 / 12 / len(found)) ** 0.5


def test_every_number_comes_to_every_place_equally_often():
    size, draws = 30, 9000
    counts = np.zeros((size, size))
    for seed in range(draws):
        counts[np.arange(size), permutation(size, seed)[0:size]] += 1
    assert abs(chi_square(counts, draws / size)) < 4


def test_small_orders_are_those_of_numpy_and_large_ones_computed(monkeypatch):
    order = random_order(1000, np.random.default_rng(3))
    assert order.tolist() == np.random.default_rng(3).permutation(1000).tolist()
    assert order.nbytes == 2000
    monkeypatch.setattr(shuffling, "MOST_SHUFFLED", 999)
    assert isinstance(random_order(1000, np.random.default_rng(3)), Permutation)
    assert isinstance(random_order(999, np.random.default_rng(3)), np.ndarray)
