from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from unrolled.data.cleaning import clean_pieces
from unrolled.data.text import clean_lines

texts = st.text("aBzZ@[`{ -\n\r\t\0é中😀", max_size=60) | st.text(st.characters())
places = st.lists(st.integers(0, 60))


def cut(whole, places):
    """The parts of a text between some places."""
    borders = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    return [whole[start:end] for start, end in pairwise(borders)]


@given(texts, places)
def test_cleaning_in_pieces_is_cleaning_line_by_line(text, places):
    assert "".join(clean_pieces(cut(text, places))) == "".join(clean_lines(text))
