import string
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unrolled.data import text_files
from unrolled.data.text import clean_lines, read_pieces
from unrolled.data.text_files import TextFiles
from unrolled.data.tokens import encode, indices, smallest_type
from unrolled.data.vocabulary import Vocab

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\x1b"), min_size=1
).filter(str.strip)


def file_of(folder, text):
    path = folder / "text.txt"
    path.write_bytes(text.encode("utf-8"))
    return path


@given(texts, st.booleans(), st.integers(1, 9))
def test_ids_are_those_of_looking_up_every_character(tmp_path_factory, text, cleaning, size):
    """Against the plain definition: a dictionary, and one character after the other."""
    path = file_of(tmp_path_factory.getbasetemp(), text)
    text = text.removeprefix("\ufeff")
    if cleaning:
        letters = sum(c in string.ascii_letters for c in text)
        assume(letters >= 0.2 * sum(not c.isspace() for c in text) and text.strip())
        text = "".join(clean_lines(text))
    counts: dict[str, int] = {}
    for character in text:
        counts[character] = counts.get(character, 0) + 1
    kinds = sorted(counts, key=lambda c: -counts[c])  # of equal counts the first stays first
    numbers = {c: i for i, c in enumerate(["<unk>", *kinds])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "read_pieces", partial(read_pieces, size=size))
        source = TextFiles(path, clean=cleaning)
        vocab = Vocab(source.counts)
        assert list(source.counts.items()) == list(counts.items())
        assert vocab.token_to_idx == numbers
        assert encode(source, vocab).tolist() == [numbers[c] for c in text]


@pytest.mark.parametrize(
    ("kinds", "dtype", "size"),
    [(2, np.uint8, 1), (255, np.uint8, 1), (256, np.uint16, 2), (70_000, np.uint32, 4)],
)
def test_ids_take_as_few_bytes_as_there_are_kinds(tmp_path, kinds, dtype, size):
    text = "".join(chr(0x4E00 + i if i < 20_000 else 0x20000 + i) for i in range(kinds))
    source = TextFiles(file_of(tmp_path, text))
    vocab = Vocab(source.counts)  # one more: <unk>
    for ids in (encode(source, vocab), encode(text, vocab)):
        assert ids.dtype == dtype
        assert ids.itemsize == size
        np.testing.assert_array_equal(ids, np.arange(1, kinds + 1))


@pytest.mark.parametrize("count", [0, 1, 2, 256, 257, 65536, 65537, 2**32])
def test_the_largest_number_fits_the_smallest_type(count):
    info = np.iinfo(smallest_type(count))
    assert info.max >= count - 1
    assert info.bits == 8 or np.iinfo(f"uint{info.bits // 2}").max < count - 1


def test_indices_are_64_bits_and_not_copied_without_need():
    assert indices(np.arange(3, dtype=np.uint8)).dtype == np.int64
    ids = np.arange(3)
    assert indices(ids) is ids
