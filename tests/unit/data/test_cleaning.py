from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.data.cleaning import clean_pieces
from unrolled.data.text import clean_lines, time_machine

texts = st.text("aBzZ@[`{ -\n\r\t\0é中😀", max_size=60) | st.text(st.characters())
places = st.lists(st.integers(0, 60))


def cut(whole, places):
    """The parts of a text between some places."""
    borders = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    return [whole[start:end] for start, end in pairwise(borders)]


@given(texts, places)
def test_cleaning_in_pieces_is_cleaning_line_by_line(text, places):
    assert "".join(clean_pieces(cut(text, places))) == "".join(clean_lines(text))


@pytest.mark.parametrize("gap", [" ", "\n", ", ", " \n", "\n ", " \n ", "\r", " \r", "é", "7 "])
@pytest.mark.parametrize("length", [1, 29, 30, 31, 64, 100_000])
def test_gaps_of_any_length_are_one_blank_or_nothing(gap, length):
    pieces = ["ab", *[gap] * 3, gap * length, "cd"]
    expected = "abcd" if "\n" in gap or "\r" in gap else "ab cd"
    assert "".join(clean_pieces(pieces)) == "".join(clean_pieces(["".join(pieces)])) == expected


def test_the_book_is_the_same_in_pieces_of_any_size():
    book = time_machine()
    for size in (1000, 4096, 100_000):
        pieces = (book[start : start + size] for start in range(0, len(book), size))
        assert "".join(clean_pieces(pieces)) == "".join(clean_lines(book))
