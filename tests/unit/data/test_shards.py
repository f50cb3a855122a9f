import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from unrolled.data import shuffling
from unrolled.data.batching import SequenceLoader
from unrolled.data.shards import Shards, map_file, release, windows
from unrolled.data.text import split_heldout


def in_shards(ids, size):
    """An array as shards of so many ids, mapped."""
    parts = []
    for first in range(0, len(ids), size):
        with tempfile.TemporaryFile() as file:
            file.write(ids[first : first + size].tobytes())
            file.flush()
            parts.append(map_file(file.fileno(), ids.dtype))
    return Shards(parts, Path())


def as_it_was(corpus, B, T, random, seed, epoch, before):
    """The minibatches of an epoch as they were cut out of one array, before there were shards."""
    rng = np.random.default_rng([seed, epoch])
    if not random:
        offset = int(rng.integers(0, T + 1))
        length = (len(corpus) - offset - 1) // B
        Xs = corpus[offset : offset + B * length].reshape(B, length)
        Ys = corpus[offset + 1 : offset + 1 + B * length].reshape(B, length)
        for t in range(before, length - T + 1, T):
            yield Xs[:, t - before : t + T], Ys[:, t : t + T]
        return
    offset = int(rng.integers(0, T))
    count = (len(corpus) - offset - before - 1) // T
    cut = sliding_window_view(corpus[offset:], before + T + 1)[::T]
    order = np.arange(count, dtype=np.min_scalar_type(max(count - 1, 0)))
    rng.shuffle(order)
    for first in range(0, count - B + 1, B):
        XY = cut[order[first : first + B]]
        yield XY[:, :-1], XY[:, before + 1 :]


dtypes = st.sampled_from([np.uint8, np.uint16, np.int64])


@given(
    st.integers(1, 5),
    st.integers(1, 7),
    st.integers(0, 9),
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.integers(0, 90),
    st.integers(1, 50),
    dtypes,
)
def test_minibatches_are_those_of_before_in_memory_and_in_shards(
    B, T, before, random, seed, more, size, dtype
):
    need = B * T + T + before + (0 if random else 1 + before * (B - 1))
    corpus = np.arange(need + more, dtype=dtype)
    for ids in (corpus, in_shards(corpus, size)):
        loader = SequenceLoader(ids, B, T, random, seed=seed, back_steps=before + T)
        for epoch in range(2):
            expected = list(as_it_was(corpus, B, T, random, seed, epoch, before))
            for start in (0, 1, len(expected)):
                found = list(loader.minibatches(epoch, start))
                assert len(found) == len(expected[start:])
                for batch, truth in zip(found, expected[start:], strict=True):
                    for part, same in zip(batch, truth, strict=True):
                        assert part.dtype == np.int64
                        assert part.tolist() == same.tolist()


def test_minibatches_of_a_computed_order_see_every_window_once(monkeypatch):
    monkeypatch.setattr(shuffling, "MOST_SHUFFLED", 10)
    loader = SequenceLoader(np.arange(4 * 100 + 4), 2, 4, True, seed=0)
    orders = []
    for epoch in range(2):
        batches = list(loader.minibatches(epoch))
        firsts = [int(row[0]) for X, _ in batches for row in X]
        assert sorted(firsts) == list(range(firsts[0] % 4, 4 * 100, 4))[: len(firsts)]
        again = list(loader.minibatches(epoch, 20))
        assert [X.tolist() for X, _ in again] == [X.tolist() for X, _ in batches[20:]]
        orders.append(firsts)
    assert len({tuple(order) for order in orders}) == 2


@given(st.data(), st.integers(1, 200), st.integers(1, 60), dtypes)
def test_windows_and_slices_are_those_of_an_array(data, count, size, dtype):
    array = np.arange(count, dtype=dtype)
    ids = in_shards(array, size)
    assert ids.shape == array.shape
    assert ids.dtype == array.dtype
    for _ in range(2):  # a slice of a slice
        places = st.none() | st.integers(-count - 2, count + 2)
        part = slice(data.draw(places), data.draw(places))
        ids, array = ids[part], array[part]
        assert len(ids) == len(array)
        np.testing.assert_array_equal(ids, array)
    length = data.draw(st.integers(0, len(array)))
    starts = np.array(data.draw(st.lists(st.integers(0, len(array) - length))), dtype=np.int64)
    found = windows(ids, starts, length)
    assert found.dtype == array.dtype
    assert found.tolist() == windows(array, starts, length).tolist()
    assert found.tolist() == [array[start : start + length].tolist() for start in starts]


def test_windows_outside_are_refused():
    ids = in_shards(np.arange(100), 30)
    for corpus in (ids, ids[:95], np.arange(95)):
        with pytest.raises(IndexError):
            windows(corpus, np.array([0, 96]), 5)
    with pytest.raises(IndexError, match="outside of 95 ids"):
        windows(ids[:95], np.array([-1, 0]), 5)
    with pytest.raises(TypeError, match="take ids"):
        ids[::2]
    with pytest.raises(TypeError, match="take ids"):
        ids[3]


@pytest.mark.parametrize("max_tokens", [None, 0, 7, 10**6])
def test_the_heldout_part_and_the_hash_are_those_of_an_array(max_tokens):
    array = np.arange(70_000, dtype=np.uint32)
    ids = in_shards(array, 999)
    for part, truth in zip(
        split_heldout(ids, max_tokens), split_heldout(array, max_tokens), strict=True
    ):
        np.testing.assert_array_equal(part, truth)
    ours, expected = (SequenceLoader(corpus, 2, 3).sha256 for corpus in (ids, array))
    assert ours == expected


def resident_bytes():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssFile:\s+(\d+)", status)[1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_released_ids_leave_memory_and_stay_valid():
    size = 2**26
    ids = in_shards(np.arange(size, dtype=np.uint8), size)
    total = int(np.asarray(ids).sum(dtype=np.int64))
    before = resident_bytes()
    release(ids[5:])  # of any view
    assert before - resident_bytes() > size / 2
    assert int(np.asarray(ids).sum(dtype=np.int64)) == total
