import errno
import json
import os
import re
import signal
import string
import subprocess
import sys
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from installed import FRAMEWORK
from unrolled.data import shard_files, text_cache, text_files
from unrolled.data.shard_files import INDEX, open_shards
from unrolled.data.shards import Shards
from unrolled.data.text import clean_lines, read_pieces
from unrolled.data.text_cache import vocabulary_and_ids
from unrolled.data.text_files import TextFiles
from unrolled.errors import SettingError, TextError
from unrolled.frameworks import load

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\x1b\ufeff"), max_size=60
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    monkeypatch.setenv("UNROLLED_CACHE", str(path))
    monkeypatch.setattr(shard_files, "MOST_IDS", 7)
    return path


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a").write_text("hello wörld " * 3)
    (tmp_path / "b").write_text("здравствуй" * 2)
    return [tmp_path / "a", tmp_path / "b"]


def kept(cache):
    """All files of the cache, by their paths in it."""
    return {
        str(path.relative_to(cache)): path.read_bytes()
        for path in sorted(cache.rglob("*"))
        if path.is_file()
    }


@given(st.lists(texts, min_size=2, max_size=4), st.booleans(), st.integers(1, 40))
def test_vocabulary_and_ids_are_those_of_the_joined_text(tmp_path_factory, parts, again, size):
    folder = tmp_path_factory.mktemp("texts")
    parts[0] += "x"
    for number, part in enumerate(parts):
        (folder / str(number)).write_bytes(part.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLLED_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(shard_files, "MOST_IDS", size)
        for _ in range(1 + again):
            vocab, ids = vocabulary_and_ids(TextFiles(folder))
            expected, truth = vocabulary_and_ids("".join(parts))
            assert isinstance(ids, Shards)
            assert vocab.idx_to_token == expected.idx_to_token
            assert vocab.token_freqs == expected.token_freqs
            assert ids.dtype == truth.dtype
            np.testing.assert_array_equal(ids, truth)
            assert [len(part) for part in ids.parts[:-1]] == [size] * ((len(truth) - 1) // size)


@given(texts.filter(str.strip), st.booleans(), st.integers(1, 9))
def test_ids_are_those_of_looking_up_every_character(tmp_path_factory, text, cleaning, size):
    """Against the plain definition: a dictionary, and one character after the other."""
    path = tmp_path_factory.getbasetemp() / "text.txt"
    path.write_bytes(text.encode())
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
        vocab, found = vocabulary_and_ids(source)
        assert list(source.counts.items()) == list(counts.items())
        assert vocab.token_to_idx == numbers
        assert found.tolist() == [numbers[c] for c in text]


@pytest.mark.parametrize(
    ("kinds", "dtype", "size"),
    [(2, np.uint8, 1), (255, np.uint8, 1), (256, np.uint16, 2), (70_000, np.uint32, 4)],
)
def test_ids_take_as_few_bytes_as_there_are_kinds(tmp_path, kinds, dtype, size):
    text = "".join(chr(0x4E00 + i if i < 20_000 else 0x20000 + i) for i in range(kinds))
    (tmp_path / "text").write_bytes(text.encode())
    for source in (TextFiles(tmp_path / "text"), text):
        _, ids = vocabulary_and_ids(source)  # one kind more: <unk>
        assert ids.dtype == dtype
        assert ids.itemsize == size
        np.testing.assert_array_equal(ids, np.arange(1, kinds + 1))


def test_a_text_is_encoded_once_and_again_when_it_changes(cache, files, monkeypatch):
    passes = []

    def going_through(what, pieces, count):
        passes.append(what)
        return pieces

    def read(**options):
        passes.clear()
        return vocabulary_and_ids(TextFiles(files, going_through=going_through, **options))

    _, first = read()
    assert len(passes) == 2
    _, again = read()
    assert passes == []
    assert first.folder == again.folder
    _, cleaned = read(clean=True)
    os.utime(files[1], ns=(0, 1))
    _, touched = read()
    assert len(passes) == 2
    assert len({first.folder, cleaned.folder, touched.folder}) == 3
    monkeypatch.setattr(text_cache, "FORMAT", -1)
    _, other = read()
    assert other.folder not in {first.folder, touched.folder}


def test_small_files_are_encoded_anew_and_large_ones_kept(cache, files, monkeypatch):
    _, ids = vocabulary_and_ids(TextFiles(files[0]))
    assert isinstance(ids, np.ndarray)
    assert not cache.exists()
    monkeypatch.setattr(text_cache, "KEPT_FROM", files[0].stat().st_size)
    _, large = vocabulary_and_ids(TextFiles(files[0]))
    assert isinstance(large, Shards)
    np.testing.assert_array_equal(large, ids)


def test_the_index_says_what_is_there(cache, files):
    _, ids = vocabulary_and_ids(TextFiles(files))
    index = json.loads((ids.folder / INDEX).read_text())
    assert index["text"] == list(map(str, files))
    assert (index["files"], index["bytes"], index["clean"]) == (2, 79, False)
    assert index["ids"] == len(ids) == 56
    assert index["dtype"] == "|u1"
    assert dict(zip(index["characters"], index["counts"], strict=True))["l"] == 9
    for shard in index["shards"]:
        done = subprocess.run(
            ["sha256sum", ids.folder / shard["name"]], capture_output=True, text=True, check=True
        )
        assert done.stdout.split()[0] == shard["sha256"]
    names = {path.name for path in ids.folder.iterdir()}
    assert names == {INDEX, *(shard["name"] for shard in index["shards"])}


def replaced(path, content):
    path.unlink()  # else those who have mapped it would see the new content
    path.write_bytes(content)


def linked(path):
    elsewhere = path.parents[3] / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def rewritten(index, **changes):
    value = json.loads(index.read_bytes())
    index.write_text(json.dumps(value | changes))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / INDEX).write_bytes(b'{"format"'),
        lambda folder: (folder / INDEX).unlink(),
        lambda folder: (folder / "00001.ids").unlink(),
        lambda folder: linked(folder / "00001.ids"),
        lambda folder: replaced(folder / "00001.ids", b"123456"),
        lambda folder: replaced(folder / "00001.ids", b"12345678"),
        lambda folder: rewritten(folder / INDEX, format=0),
        lambda folder: rewritten(folder / INDEX, dtype="<u4"),
        lambda folder: rewritten(folder / INDEX, ids=10**15),
        lambda folder: rewritten(folder / INDEX, shards=[]),
        lambda folder: rewritten(folder / INDEX, shards=[{"name": "../a", "ids": 56}]),
        lambda folder: rewritten(folder / INDEX, shards=[{"name": "00000.ids", "ids": 10**15}]),
        lambda folder: rewritten(folder / INDEX, characters="aa", counts=[28, 28]),
    ],
)
def test_a_damaged_cache_is_encoded_again(cache, files, damage):
    _, ids = vocabulary_and_ids(TextFiles(files))
    truth, before = np.array(ids), kept(cache)
    damage(ids.folder)
    (ids.folder / f".{INDEX}.0.unfinished").write_text("left by a killed process")
    assert open_shards(ids.folder) is None
    _, again = vocabulary_and_ids(TextFiles(files))
    np.testing.assert_array_equal(again, truth)
    np.testing.assert_array_equal(ids, truth)  # those who read the old ones still do
    assert kept(cache) == before


def test_a_full_disk_is_an_error_that_names_the_way_out_and_leaves_nothing(
    cache, files, monkeypatch
):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shard_files, "sync", full)
        with pytest.raises(TextError, match=r"No space left.*UNROLLED_CACHE=FOLDER") as caught:
            vocabulary_and_ids(TextFiles(files))
    assert str(cache) in str(caught.value)
    assert kept(cache) == {}
    assert len(vocabulary_and_ids(TextFiles(files))[1]) == 56


def test_a_text_that_cannot_be_read_leaves_nothing(cache, files):
    files[1].write_bytes(b"abc\xff")
    with pytest.raises(TextError, match="not UTF-8"):
        vocabulary_and_ids(TextFiles(files))
    assert kept(cache) == {}


def test_a_cache_that_cannot_be_made_is_named(tmp_path, files, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "file"))
    where = re.escape(str(tmp_path / "file"))
    with pytest.raises(TextError, match=rf"kept in '{where}.*Not a directory.*UNROLLED_CACHE"):
        vocabulary_and_ids(TextFiles(files))
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(TextError, match=r"you may not write to it\. Name a folder"):
        vocabulary_and_ids(TextFiles(files))


def test_the_cache_is_where_the_system_keeps_such(monkeypatch):
    monkeypatch.setenv("UNROLLED_CACHE", "mine")
    assert text_cache.cache() == Path("mine")
    monkeypatch.delenv("UNROLLED_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "theirs")
    assert text_cache.cache() == Path("theirs/unrolled")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert text_cache.cache() == Path("/home/me/.cache/unrolled")


PROGRAM = """
import sys
from unrolled.data import shard_files
from unrolled.data.text import clean_lines, read_pieces
from unrolled.data.text_cache import vocabulary_and_ids
from unrolled.data.text_files import TextFiles

shard_files.MOST_IDS = 100_000

def going_through(what, parts, count):
    print(what, flush=True)
    for number, part in enumerate(parts):
        yield part
        if "encoding" in what and number == 2:
            print("half", flush=True)
            sys.stdin.readline()

_, ids = vocabulary_and_ids(TextFiles(sys.argv[1:], going_through=going_through))
print("read", len(ids), flush=True)
"""


def start(files, cache):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, files)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "UNROLLED_CACHE": str(cache)},
    )


def until(process, *words):
    """Read a process's lines up to one that begins with one of these words."""
    for line in process.stdout:
        if line.startswith(words):
            return line
    raise AssertionError(f"no line with {words}")


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
@pytest.mark.parametrize("killed", [False, True])
def test_one_process_encodes_and_others_wait_also_for_one_that_is_killed(tmp_path, cache, killed):
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text("abc" * 150_000)
    with start(files, cache) as first, start(files, cache) as second:
        found = {
            until(process, "half", "waiting").split()[0]: process for process in (first, second)
        }
        encoding, waiting = found["half"], found["waiting"]
        left = kept(cache)
        assert any(name.endswith(".ids") for name in left)
        assert not any(name.endswith(INDEX) for name in left)
        if killed:
            encoding.send_signal(signal.SIGKILL)
            until(waiting, "half")
            waiting.stdin.write("\n")
        else:
            encoding.stdin.write("\n")
            encoding.stdin.flush()
            assert until(encoding, "read") == "read 900000\n"
        waiting.stdin.close()
        assert until(waiting, "read") == "read 900000\n"
        encoding.stdin.close()
    names = sorted(Path(name).name for name in kept(cache))
    assert names == [*(f"{number:05}.ids" for number in range(9)), INDEX]


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
def test_what_a_killed_process_has_left_goes_with_the_next_text(tmp_path, cache, files):
    large = tmp_path / "large"
    large.write_text("abc" * 150_000)
    with start([large, large], cache) as process:
        until(process, "half")
        (one,) = (path.parent for path in cache.rglob("00000.ids"))
        vocabulary_and_ids(TextFiles(files))
        assert (one / "00000.ids").exists()  # it still runs
        process.kill()
        process.stdin.close()
    vocabulary_and_ids(TextFiles(files, clean=True))
    assert list(one.iterdir()) == []
    assert len(list(cache.rglob(INDEX))) == 2


def test_encoding_takes_little_memory(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(shard_files, "MOST_IDS", 2**20)
    peaks = []
    for megabytes in (1, 4):
        path = tmp_path / str(megabytes)
        path.mkdir()
        for name in "ab":
            (path / name).write_text("The quick brown fox\n" * (megabytes * 2**20 // 20))
        tracemalloc.start()
        vocabulary_and_ids(TextFiles(path))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] < 25e6


@pytest.mark.parametrize("random", [False, True])
def test_data_from_a_folder_are_those_of_its_text(cache, files, random):
    TextData, backend = load(FRAMEWORK).TextData, load(FRAMEWORK).backend
    text = "".join(file.read_text() for file in files)
    of_text, of_files = (TextData(t, 2, 4, random, seed=1) for t in (text, TextFiles(files)))
    assert of_files.vocab.idx_to_token == of_text.vocab.idx_to_token
    np.testing.assert_array_equal(of_files.heldout_ids, of_text.heldout_ids)
    loaders = (data.train_dataloader() for data in (of_text, of_files))
    for ours, expected in zip(*loaders, strict=True):
        for X, Z in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(X), backend.to_numpy(Z))
    with pytest.raises(SettingError, match="or TextFiles, which take the paths"):
        TextData(files, 2, 4)
