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
from unrolled.errors import TextError

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


def test_a_cleaned_file_may_have_a_vocabulary_of_any_size(tmp_path):
    source = TextFiles(file_of(tmp_path, "Hello, World\n" * 3), clean=True)
    for kinds in (5, 300):
        vocab = Vocab.from_list(["<unk>", *map(chr, range(ord("z"), ord("z") - 5, -1))])
        vocab = Vocab.from_list([*vocab.idx_to_token, *(chr(0x4E00 + i) for i in range(kinds))])
        vocab = Vocab.from_list([*vocab.idx_to_token, *"lo "])
        ids = encode(source, vocab)
        assert ids.dtype == (np.uint8 if kinds == 5 else np.uint16)
        assert ids.tolist() == vocab[list("hello world" * 3)]


@pytest.mark.parametrize("blanks", [" ", "\u3000", "\n"])
def test_blanks_do_not_count_against_cleaning(tmp_path, blanks):
    source = TextFiles(file_of(tmp_path, "ab" + blanks * 100 + "c1"), clean=True)
    assert "".join(source).replace(" ", "") == "abc"


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


@pytest.mark.parametrize(
    ("data", "cleaning", "words"),
    [
        (b"", False, "is empty"),
        (b" \n\xef\xbb\xbf".lstrip(), False, "is empty"),
        (b"\n \t", True, "is empty"),
        (b"caf\xe9", False, "not UTF-8: byte 3 is 0xe9"),
        (b"12345 67890", True, "10 of the text's 10 non-blank characters"),
    ],
)
def test_files_that_cannot_be_learned_from_are_refused(tmp_path, data, cleaning, words):
    path = tmp_path / "mine.txt"
    path.write_bytes(data if words != "is empty" else data.replace(b"\xef\xbb\xbf", b""))
    with pytest.raises(TextError, match=words):
        TextFiles(path, clean=cleaning).counts  # noqa: B018


def test_indices_are_64_bits_and_not_copied_without_need():
    assert indices(np.arange(3, dtype=np.uint8)).dtype == np.int64
    ids = np.arange(3)
    assert indices(ids) is ids
