import os
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.data.text import clean
from unrolled.data.text_files import TextFiles
from unrolled.errors import TextError


def folder_of(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


names = st.lists(st.sampled_from(["a", "b", "a-b", "ab", "B", "z.txt"]), min_size=1, max_size=3)


@given(st.lists(st.tuples(names, st.text("aeiou \n", max_size=9)), max_size=6), st.randoms())
def test_a_folder_is_its_files_joined_in_the_order_of_their_names(tmp_path_factory, files, order):
    path = tmp_path_factory.mktemp("folder")
    contents = {(*parts, "f"): text for parts, text in files}  # no file is also a folder
    contents[("zz",)] = "end"
    mixed = list(contents)
    order.shuffle(mixed)  # not the order in which they are made
    folder_of(path, {"/".join(parts): contents[parts] for parts in mixed})
    joined = "".join(contents[parts] for parts in sorted(contents))
    assert "".join(TextFiles(path)) == joined
    assert "".join(TextFiles([path / "zz", path])) == "end" + joined
    cleaned = TextFiles(path, clean=True)
    assert "".join(cleaned) == clean(joined)
    assert sum(cleaned.counts.values()) == len(clean(joined))


def test_hidden_files_and_links_in_a_folder_are_left_out(tmp_path):
    path = folder_of(tmp_path / "texts", {"a": "one ", ".b": "no", ".git/c": "no", "d/e": "two"})
    outside = folder_of(tmp_path / "outside", {"f": "no"})
    (path / "link").symlink_to(outside / "f")
    (path / "around").symlink_to(path)
    assert "".join(TextFiles(path)) == "one two"
    assert [file.path.name for file in TextFiles(path).files] == ["a", "e"]
    # what is named itself may be a link, or hidden
    (tmp_path / "there").symlink_to(path)
    assert "".join(TextFiles([tmp_path / "there", path / ".b", path / "link"])) == "one twonono"


def test_byte_order_marks_begin_files_and_are_no_text(tmp_path):
    folder_of(tmp_path, {"a": "\ufeffone", "b": "\ufefftwo\ufeff"})
    assert "".join(TextFiles(tmp_path)) == "onetwo\ufeff"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a": "one", "sub/b": b"caf\xe9"}, r"sub/b' is not UTF-8: byte 3"),
        ({"a": "one\n", "b": "\xe9".encode()[:1], "c": "\xe9".encode()[1:]}, r"b' is not UTF-8"),
        ({"a": " ", "b": "\n"}, "is empty"),
        ({".hidden": "one"}, r"folder '.*' has no text in it.*begin with a dot"),
    ],
)
def test_folders_that_cannot_be_learned_from_are_refused(tmp_path, files, words):
    folder_of(tmp_path, files)
    with pytest.raises(TextError, match=words):
        TextFiles(tmp_path).counts  # noqa: B018


def test_files_that_cleaning_would_leave_blank_are_refused(tmp_path):
    folder_of(tmp_path, {"a": "12345", "b": "\n67890"})
    with pytest.raises(TextError, match="10 of the text's 10 non-blank characters"):
        TextFiles(tmp_path, clean=True).counts  # noqa: B018


def test_paths_that_hold_no_text_are_refused(tmp_path):
    file = folder_of(tmp_path, {"a": "one"}) / "a"
    with pytest.raises(TextError, match=r"nowhere' does not exist"):
        TextFiles([file, tmp_path / "nowhere"])
    with pytest.raises(TextError, match="no text is named"):
        TextFiles([file, ""])
    with pytest.raises(TextError, match="cannot be read"):
        TextFiles("a\0b")
    with pytest.raises(TextError, match="no text; name"):
        TextFiles([])
    with pytest.raises(TextError, match="/dev/null' is no regular file"):
        TextFiles([file, "/dev/null"])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TextError, match=r"pipe' is a pipe, and is not the only text"):
        TextFiles(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["a", "sub"])
def test_what_may_not_be_read_is_named(tmp_path, name):
    path = folder_of(tmp_path, {"a": "one", "sub/b": "two"}) / name
    path.chmod(0)
    try:
        with pytest.raises(TextError, match=rf"{name}' cannot be read: Permission denied"):
            "".join(TextFiles(tmp_path))
    finally:
        path.chmod(0o700)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    """Also for root, who may read all: the system's answer is made up."""

    def scandir(path):
        raise PermissionError(13, "Permission denied", os.fspath(path))

    monkeypatch.setattr(os, "scandir", scandir)
    where = re.escape(str(tmp_path))
    with pytest.raises(TextError, match=rf"'{where}' cannot be read: Permission denied"):
        TextFiles(tmp_path)


@pytest.mark.parametrize("change", ["grows", "is written again", "goes"])
@pytest.mark.parametrize("when", ["before", "while"])
def test_a_file_that_changes_is_an_error(tmp_path, change, when):
    size = 300_000
    folder_of(tmp_path, {"a": "one", "b": "x" * size})
    text = TextFiles(tmp_path)
    path, pieces = tmp_path / "b", iter(text)
    if when == "while":
        next(pieces), next(pieces)
    if change == "grows":
        with path.open("a") as file:
            file.write("more")
    elif change == "goes":
        path.unlink()
    else:
        os.utime(path, ns=(0, random.Random(0).randrange(10**18)))
    with pytest.raises(TextError, match=rf"b' {'does not' if change == 'goes' else 'has changed'}"):
        list(pieces)


def test_what_shows_the_work_sees_every_piece(tmp_path):
    folder_of(tmp_path, {"a": "x" * 300_000, "b": "y"})
    seen = {}

    def going_through(what, pieces, count):
        seen[what] = [0, count]
        for piece in pieces:
            seen[what][0] += 1
            yield piece

    text = TextFiles(tmp_path, clean=True, going_through=going_through)
    assert sum(text.counts.values()) == 300_001
    assert len(seen) == 2
    assert all(found == count == 4 for found, count in seen.values())
