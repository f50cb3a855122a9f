import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.data.digit_sum import (
    LENGTHS,
    as_arrays,
    draw,
    generate_data,
    load_data,
    published,
)
from unrolled.errors import DataError, SettingError

NAMES = ("train", "dev", "test")

PUBLISHED = "14fb5cda7e642d56e7d38eeb03ae05c2d2b926518b4446678f9074fbdeaf8848"
"""SHA-256 over all published files in the order in which they are drawn."""


def test_the_published_program_gives_the_same_files(tmp_path):
    # as a reader types it: one seed, then one call after the other
    np.random.seed(0)
    digest = hashlib.sha256()
    for length in LENGTHS:
        for name, k in zip(NAMES, (3, 1, 1), strict=True):
            generate_data(length, k, tmp_path / f"{length}" / f"{name}.txt")
            digest.update((tmp_path / f"{length}" / f"{name}.txt").read_bytes())
    assert digest.hexdigest() == PUBLISHED
    for length, splits in published().items():
        train, dev, test = load_data(tmp_path / f"{length}")
        assert (train, dev, test) == tuple(splits.values())
        assert load_data(tmp_path / f"{length}" / "dev.txt") == dev


@given(st.integers(3, 40), st.integers(1, 4), st.integers(0, 99))
def test_every_pair_stands_there_k_times_with_at_most_one_more_digit(length, k, seed):
    examples = draw(length, k, np.random.RandomState(seed))
    pairs = [(n1, n2) for n1 in range(10) for n2 in range(10) for _ in range(k)]
    assert [tuple(sequence[:2]) for sequence, _ in examples] == pairs
    for sequence, label in examples:
        assert len(sequence) == length
        assert label == sequence[0] + sequence[1]
        assert np.count_nonzero(sequence[2:]) <= 1
        assert all(0 <= digit <= 9 for digit in sequence)


def test_every_position_and_digit_is_drawn():
    examples = [sequence[2:] for sequence, _ in draw(6, 50, np.random.RandomState(1))]
    counts = np.count_nonzero(examples, axis=0)
    assert counts == pytest.approx(np.full(4, 5000 / 4 * 0.9), rel=0.1)
    assert set(np.unique(examples)) == set(range(10))


@pytest.mark.parametrize("length", [-1, 0, 2])
def test_a_length_under_3_and_a_k_under_1_are_errors(length, tmp_path):
    with pytest.raises(SettingError, match="at least 3"):
        generate_data(length, 1, tmp_path / "file.txt")
    with pytest.raises(SettingError, match="at least 3"):
        published([length])
    with pytest.raises(SettingError, match=f"k is {min(length, 0)}"):
        generate_data(5, min(length, 0), tmp_path / "file.txt")
    assert not list(tmp_path.iterdir())


def test_other_lengths_do_not_disturb_the_published_ones():
    both = published([12, 35, 5])
    assert list(both) == [12, 35, 5]
    assert both[35] == published([35])[35]
    assert both[12] == published([12])[12]
    assert len(both[12]["train"]) == 300


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1 2 11\t3", "11 is no digit"),
        ("1 -2 0\t3", "-2 is no digit"),
        ("1 2 0\t19", "label 19 is out of range"),
        ("1 2 0\t-1", "label -1 is out of range"),
        ("1 2 0", "is damaged"),
        ("1 2 0\t", "is damaged"),
        ("\t3", "is damaged"),
        ("", "is damaged"),
        ("1 x 0\t3", "is damaged"),
        ("1 2 0\t3\t4", "is damaged"),
        ("1 2\t3", "at least 3"),
        ("1 2 0 0\t3", "4 digits, where line 1 has 3"),
    ],
)
def test_a_damaged_line_is_told_with_its_number(tmp_path, line, said):
    file = tmp_path / "train.txt"
    file.write_text(f"1 2 0\t3\n{line}\n4 5 0\t9\n")
    with pytest.raises(DataError, match=said) as caught:
        load_data(file)
    assert f"'{file}', line 2" in str(caught.value)


def test_a_file_that_is_missing_empty_or_no_text(tmp_path):
    with pytest.raises(DataError, match=r"train\.txt' does not exist"):
        load_data(tmp_path)
    (tmp_path / "empty").write_text("")
    (tmp_path / "noise").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is empty"):
        load_data(tmp_path / "empty")
    with pytest.raises(DataError, match="cannot be read"):
        load_data(tmp_path / "noise")
    (tmp_path / "train.txt").write_bytes(b"1 2 0\t3\r\n4 5 0\t9\r\n")  # of other systems
    assert load_data(tmp_path / "train.txt") == [([1, 2, 0], 3), ([4, 5, 0], 9)]


def test_arrays_hold_the_examples():
    X, y = as_arrays(published([10])[10]["dev"])
    assert X.shape == (100, 10)
    assert X.dtype == y.dtype == np.int64
    np.testing.assert_array_equal(y, X[:, 0] + X[:, 1])
