import errno
import os

import pytest

from unrolled.untrusted import (
    MOST_DIGITS,
    MOST_NESTED,
    open_plain,
    open_regular,
    parse_json,
    read_bytes,
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/file").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path / "inside"


def test_a_link_is_followed_only_inside_its_directory(folder):
    (folder / "near").symlink_to("file")
    (folder / "away").symlink_to("../secret")
    (folder / "whole").symlink_to("..")
    (folder.parent / "alias").symlink_to("inside")
    assert read_bytes(folder / "near", inside=folder) == b"inside"
    assert read_bytes(folder.parent / "alias/file", inside=folder.parent / "alias") == b"inside"
    for name in ("away", "whole/secret"):
        with pytest.raises(PermissionError, match=r"it is a link to '.*secret', outside"):
            read_bytes(folder / name, inside=folder)
        assert read_bytes(folder / name) == b"secret"  # where somebody named it


def test_a_directory_whose_name_only_begins_alike_is_outside(folder):
    (folder.parent / "inside-out").write_bytes(b"out")
    (folder / "link").symlink_to("../inside-out")
    with pytest.raises(PermissionError):
        read_bytes(folder / "link", inside=folder)


def test_what_may_never_end_is_not_opened(folder):
    (folder / "zeros").symlink_to("/dev/zero")
    (folder / "circle").symlink_to("circle")
    names = ["zeros"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
        names.append("pipe")
    for name in names:
        with pytest.raises(OSError, match="it is a pipe or a device; a file is expected"):
            open_regular(folder / name)
    with pytest.raises(IsADirectoryError):
        open_regular(folder)
    with pytest.raises(OSError) as error:  # noqa: PT011  # in the system's words
        open_regular(folder / "circle", inside=folder)
    assert error.value.errno == errno.ELOOP


def test_only_a_file_with_one_name_is_written_to(folder):
    (folder / "link").symlink_to("file")
    (folder / "hard link").hardlink_to(folder.parent / "secret")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    for name in ("link", "hard link", "folder", "pipe"):
        with pytest.raises(OSError):  # noqa: PT011  # some in the system's words
            open_plain(folder / name, os.O_RDWR | os.O_CREAT)
    os.close(open_plain(folder / "hard link", os.O_RDONLY))
    os.close(open_plain(folder / "new", os.O_RDWR | os.O_CREAT))


def test_a_large_file_takes_no_memory(folder):
    os.truncate(folder / "file", 2**40)
    with pytest.raises(OSError, match="it has 1,099,511,627,776 bytes; at most 1,000 are expected"):
        read_bytes(folder / "file", 1000)
    os.truncate(folder / "file", 1000)
    assert read_bytes(folder / "file", 1000) == b"inside" + bytes(994)


def test_json_is_limited_in_depth_and_digits():
    deepest = b"[" * MOST_NESTED + b"]" * MOST_NESTED
    assert parse_json(deepest)
    for data in (b"[" + deepest + b"]", b"[" * 100_000, b'{"a":' * 100 + b"1" + b"}" * 100):
        with pytest.raises(ValueError, match=r"nested more than 50 deep|Expecting"):
            parse_json(data)
    assert parse_json(b"9" * MOST_DIGITS) == int("9" * MOST_DIGITS)
    with pytest.raises(ValueError, match="a number of 301 digits"):
        parse_json(b"9" * (MOST_DIGITS + 1))


def test_json_is_text():
    smile = b'"\\ud83d\\ude00"'
    assert parse_json(smile) == "\N{GRINNING FACE}"
    for data in (smile[:7] + b'"', b'"\xff"', b'{"a": "\\ud800"}'):
        with pytest.raises(ValueError):  # noqa: PT011  # in Python's words
            parse_json(data)
