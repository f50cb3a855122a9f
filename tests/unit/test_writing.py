"""Files that are written whole or not at all."""

import os
import threading

import pytest

from unrolled.writing import write_whole


def test_a_file_that_cannot_be_replaced_stays_and_nothing_is_left_beside_it(tmp_path):
    (tmp_path / "there").mkdir()
    for target in (tmp_path / "there", tmp_path / "no" / "such", tmp_path / "there" / ".."):
        with pytest.raises(OSError):  # noqa: PT011  # whichever the system has for it
            write_whole(target, b"content")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_bytes(b"before")
    (tmp_path / "link").symlink_to("kept/file")
    write_whole(tmp_path / "link", b"after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "kept/file").read_bytes() == b"after"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "kept", "link"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_written_to_and_stays_what_it_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"content")
    reader.join()
    assert found == [b"content"]
    assert pipe.is_fifo()


def test_nothing_is_written_through_a_link_that_somebody_has_put_beside(tmp_path):
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / ".file.unfinished").symlink_to("mine")
    write_whole(tmp_path / "file", b"content")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert (tmp_path / "file").read_bytes() == b"content"
    assert not (tmp_path / "file").is_symlink()
