import errno
import mmap
import os
import re
import string
import sys
import tempfile
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from installed import FRAMEWORK
from unrolled.data import text_files, tokens
from unrolled.data.shards import release
from unrolled.data.text import clean_lines, read_pieces
from unrolled.data.text_files import TextFiles
from unrolled.data.tokens import encode, indices, mapped, smallest_type
from unrolled.data.vocabulary import Vocab
from unrolled.errors import TextError
from unrolled.frameworks import load

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\x1b"), min_size=1
).filter(str.strip)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary files go, and nothing else."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    return path


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


def test_the_ids_are_read_only_and_leave_no_file_behind(tmp_path, folder):
    source = TextFiles(file_of(tmp_path, "hello world " * 100))
    ids = encode(source, Vocab(source.counts))
    assert list(folder.iterdir()) == []
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 1
    path = file_of(tmp_path, "")
    assert encode(TextFiles(path), Vocab("a")).shape == (0,)
    path.write_bytes(b"hel\xff")  # where reading fails on the way neither
    with pytest.raises(TextError, match="not UTF-8"):
        encode(TextFiles(path), Vocab("helo"))
    assert list(folder.iterdir()) == []


def test_a_full_disk_is_an_error_that_names_the_way_out(tmp_path, folder, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *about):
            pass

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: Full())
    source = TextFiles(file_of(tmp_path, "hello"))
    with pytest.raises(TextError, match=r"no room.*No space left.*TMPDIR=FOLDER") as caught:
        encode(source, Vocab(source.counts))
    assert str(folder) in str(caught.value)


def test_writes_that_take_a_part_are_carried_on():
    class Slow:
        taken = b""

        def write(self, data):
            self.taken += bytes(data[:3])
            return len(data[:3])

    file = Slow()
    tokens.write_all(file, b"0123456789")
    assert file.taken == b"0123456789"


def test_empty_pieces_are_no_matter():
    pieces = [np.arange(n, dtype=np.uint16) for n in (0, 2, 0, 3)]
    assert mapped(pieces, np.uint16).tolist() == [0, 1, 0, 1, 2]


def test_temporary_files_go_where_they_may(folder, monkeypatch):
    assert tokens.temporary_folder() == str(folder)
    monkeypatch.setenv("TMPDIR", str(folder / "nowhere"))
    assert Path(tokens.temporary_folder()).is_dir()
    monkeypatch.delenv("TMPDIR")
    assert os.access(tokens.temporary_folder(), os.W_OK)


def resident_bytes():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssFile:\s+(\d+)", status)[1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_released_ids_leave_memory_and_stay_valid():
    size = 2**26
    pieces = (np.full(2**20, i, np.uint8) for i in range(size // 2**20))
    ids = mapped(pieces, np.uint8)
    total = int(ids.sum(dtype=np.int64))
    before = resident_bytes()
    release(ids[5:])  # of any view
    assert before - resident_bytes() > size / 2
    assert int(ids.sum(dtype=np.int64)) == total


def test_only_our_own_maps_are_released():
    theirs = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array = np.frombuffer(theirs, np.uint8)
    array[:] = 7
    release(array)  # would be lost, as nothing stands behind a private map
    release(np.arange(3))
    assert (array == 7).all()
    del array
    theirs.close()


def test_indices_are_64_bits_and_not_copied_without_need():
    assert indices(np.arange(3, dtype=np.uint8)).dtype == np.int64
    ids = np.arange(3)
    assert indices(ids) is ids


def test_memory_does_not_grow_with_the_text(tmp_path):
    peaks = []
    for megabytes in (1, 4):
        path = file_of(tmp_path, "The quick brown fox, jumping;\n" * (megabytes * 2**20 // 30))
        tracemalloc.start()
        source = TextFiles(path, clean=True)
        encode(source, Vocab(source.counts))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] < 20e6


@pytest.mark.parametrize("random", [False, True])
def test_data_from_a_file_are_those_of_its_text(tmp_path, random):
    text = "hello wörld, здравствуй\n" * 30
    TextData, backend = load(FRAMEWORK).TextData, load(FRAMEWORK).backend
    of_text, of_file = (
        TextData(source, 3, 7, random, seed=1)
        for source in (text, TextFiles(file_of(tmp_path, text)))
    )
    assert of_file.vocab.idx_to_token == of_text.vocab.idx_to_token
    np.testing.assert_array_equal(of_file.heldout_ids, of_text.heldout_ids)
    loaders = (data.train_dataloader() for data in (of_text, of_file))
    for ours, expected in zip(*loaders, strict=True):
        for X, Z in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(X), backend.to_numpy(Z))
