from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.data.batching import ArrayLoader, SequenceLoader
from unrolled.errors import SettingError, TextError

seeds = st.integers(0, 2**32 - 1)


@st.composite
def sequence_settings(draw, use_random_iter=None):
    """Settings of a loader over 0, 1, 2, ...: an id says where it stands."""
    B, T = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    random = draw(st.booleans()) if use_random_iter is None else use_random_iter
    count = B * T + T + (0 if random else 1) + draw(st.integers(0, 120))
    return count, B, T, random, draw(seeds)


def loader_of(settings):
    count, B, T, random, seed = settings
    return SequenceLoader(np.arange(count), B, T, use_random_iter=random, seed=seed)


@given(sequence_settings())
def test_every_row_is_contiguous_and_its_target_one_step_ahead(settings):
    count, B, T, *_ = settings
    batches = list(loader_of(settings))
    assert batches
    for X, Y in batches:
        assert X.shape == Y.shape == (B, T)
        for row, target in zip(X, Y, strict=True):
            assert row.tolist() == list(range(row[0], row[0] + T))
            assert target.tolist() == [i + 1 for i in row]
            assert target[-1] < count
    used = np.concatenate([X.ravel() for X, _ in batches])
    assert len(set(used.tolist())) == len(used)  # an input at most once per epoch


@given(sequence_settings())
def test_the_offset_is_in_range_and_little_is_left_over(settings):
    count, B, T, random, _ = settings
    batches = list(loader_of(settings))
    starts = sorted(int(row[0]) for X, _ in batches for row in X)
    if random:
        offset = starts[0] % T  # the first subsequence itself may be among those left over
        assert {start % T for start in starts} == {offset}
        full = (count - offset - 1) // T // B
    else:
        offset = starts[0]
        assert offset <= T
        full = (count - offset - 1) // B // T
    assert len(batches) == full


@given(sequence_settings(use_random_iter=False))
def test_sequential_minibatches_continue_each_other(settings):
    count, B, *_ = settings
    loader = loader_of(settings)
    assert loader.continues is True
    batches = list(loader)
    X, _ = batches[0]
    offset = int(X[0, 0])
    length = (count - offset - 1) // B
    assert X[:, 0].tolist() == [offset + b * length for b in range(B)]  # side by side
    for (X, Y), (next_X, _) in pairwise(batches):
        assert next_X[:, 0].tolist() == (X[:, -1] + 1).tolist() == Y[:, -1].tolist()


@given(sequence_settings())
def test_the_length_is_that_of_the_fullest_epoch_and_never_off_by_more_than_one(settings):
    _, _, T, _, _ = settings
    loader = loader_of(settings)
    counts = {len(list(loader)) for _ in range(T + 1)}
    assert all(len(loader) - 1 <= count <= len(loader) for count in counts)


@pytest.mark.parametrize("random", [False, True])
def test_the_length_is_reached(random):
    loader = SequenceLoader(np.arange(61), 2, 5, use_random_iter=random, seed=0)
    assert max(len(list(loader)) for _ in range(50)) == len(loader) == 6


@pytest.mark.parametrize(("random", "needs"), [(False, 26), (True, 25)])
def test_the_shortest_text_gives_a_minibatch_at_every_offset(random, needs):
    loader = SequenceLoader(np.arange(needs), 4, 5, use_random_iter=random, seed=0)
    for _ in range(50):
        assert len(list(loader)) == 1


@pytest.mark.parametrize(("random", "needs"), [(False, 26), (True, 25)])
@pytest.mark.parametrize("missing", [1, 10])
def test_a_text_too_short_for_one_minibatch_is_an_error_that_says_how_long(random, needs, missing):
    with pytest.raises(TextError) as caught:
        SequenceLoader(np.arange(needs - missing), 4, 5, use_random_iter=random)
    message = str(caught.value)
    assert f"has {needs - missing} tokens" in message
    assert f"at least {needs}" in message
    assert "batch_size=4" in message
    assert "num_steps=5" in message
    assert "longer text, or a smaller batch_size or num_steps" in message


@given(st.integers(1, 30), st.integers(1, 12), st.booleans(), seeds)
def test_rows_are_used_once_each_and_stay_together(count, batch_size, shuffle, seed):
    a, b = np.arange(count), np.arange(count)[:, None] * 10
    loader = ArrayLoader([a, b], batch_size, shuffle=shuffle, seed=seed)
    for _ in range(2):
        rows = []
        for x, y in loader:
            assert (y[:, 0] == 10 * x).all()
            rows += x.tolist()
        assert sorted(rows) == list(range(count))
        assert shuffle or rows == list(range(count))


@given(st.integers(1, 30), st.integers(1, 12), st.booleans())
def test_only_the_last_minibatch_is_smaller(count, batch_size, shuffle):
    loader = ArrayLoader([np.arange(count)], batch_size, shuffle=shuffle)
    sizes = [len(x) for (x,) in loader]
    assert len(loader) == len(sizes)
    assert set(sizes[:-1]) <= {batch_size}
    assert sizes[-1] == (count % batch_size or batch_size)


def test_shuffling_draws_a_new_order_for_each_epoch():
    orders = []
    for _ in range(2):  # the same seed gives the same orders
        loader = ArrayLoader([np.arange(50)], 7, shuffle=True, seed=[3, 1])
        orders.append([[i for (x,) in loader for i in x.tolist()] for _ in range(2)])
    first, second = orders[0]
    assert first != second
    assert first != sorted(first)
    assert orders[0] == orders[1]


def test_minibatches_pass_through_asarray():
    loader = ArrayLoader([np.arange(3), np.arange(3)], 2, asarray=lambda a: a.tolist())
    assert list(loader) == [([0, 1], [0, 1]), ([2], [2])]
    for random in (False, True):
        for X, Y in SequenceLoader(np.arange(60), 2, 5, random, asarray=lambda a: a.tolist()):
            assert type(X) is type(Y) is list


@pytest.mark.parametrize("sizes", [(0, 5), (2, 0), (-1, 5)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(SettingError, match="at least 1"):
        SequenceLoader(np.arange(100), *sizes)


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(SettingError, match="5, 7 rows"):
        ArrayLoader([np.arange(5), np.arange(7)], batch_size=2)


def cut(minibatches):
    return [[np.array(part).tolist() for part in batch] for batch in minibatches]


def loaders(seed):
    corpus, rows = np.arange(401), np.arange(23)
    yield ArrayLoader([rows, rows**2], 4, shuffle=True, seed=seed)
    yield SequenceLoader(corpus, 2, 5, seed=seed)
    yield SequenceLoader(corpus, 2, 5, seed=seed, back_steps=7)
    yield SequenceLoader(corpus, 2, 5, use_random_iter=True, seed=seed)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("seed", [0, [3, 1], None, np.int64(4), np.array([3, 1]), 2**70])
def test_an_epoch_is_a_function_of_seed_and_number(number, seed):
    one = list(loaders(seed))[number]
    other = list(loaders(one.seed))[number]
    epochs = [cut(one.minibatches(epoch)) for epoch in range(3)]
    if seed is not None:  # another seed might draw the same offset three times
        assert any(epoch != epochs[0] for epoch in epochs)
    for epoch in (2, 0, 1):  # in any order, from any place, whatever was begun before
        next(iter(other))
        for start in (0, 1, 4, len(epochs[epoch])):
            assert cut(other.minibatches(epoch, start)) == epochs[epoch][start:]
    assert [cut(other), cut(other)] == epochs[:2]


def test_a_loader_draws_from_no_generator_but_its_own():
    before = np.random.get_state(legacy=False)["state"]["key"].copy()
    for loader in loaders(0):
        list(loader)
    assert (np.random.get_state(legacy=False)["state"]["key"] == before).all()


def test_other_data_have_another_hash():
    corpus = np.arange(10**6, dtype=np.int32)
    other = corpus.copy()
    other[0] += 1
    assert SequenceLoader(corpus, 2, 5).sha256 == SequenceLoader(corpus + 0, 3, 4).sha256
    hashes = {SequenceLoader(ids, 2, 5).sha256 for ids in (corpus, other, corpus[:-1])}
    assert len(hashes) == 3
