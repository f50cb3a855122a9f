"""Files that are written whole or not at all."""

import os
import threading

import pytest

from unrolled import writing
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


def test_a_file_is_on_the_disk_before_its_name_is_and_the_name_at_the_end(tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def fsync(file):
        sync(file)
        there = tmp_path / "file"
        synced.append((os.fstat(file).st_size, there.exists() and there.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(tmp_path / "file", b"content")
    assert synced[0] == (7, False)
    assert [content for _, content in synced[1:]] == [b"content"]


def test_a_disk_that_fills_up_while_it_is_flushed_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"before")

    def refuse(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "file", b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"before")]


def test_a_file_system_that_cannot_flush_is_no_obstacle(tmp_path, monkeypatch):
    def refuse(file):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    write_whole(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_writers_at_the_same_time_leave_the_file_of_one_of_them(tmp_path):
    contents = [bytes([65 + number]) * 100_000 for number in range(4)]

    def write(content):
        for _ in range(20):
            write_whole(tmp_path / "file", content)
            assert (tmp_path / "file").read_bytes() in contents

    threads = [threading.Thread(target=write, args=[content]) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_killed_processes_have_left_is_removed(tmp_path):
    for name in (".a.json.0123abcd.unfinished", ".running.lock.unfinished", "b", ".c"):
        (tmp_path / name).touch()
    writing.remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"b", ".c"}


def test_nothing_is_written_through_a_link_that_somebody_has_put_beside(tmp_path):
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / ".file.unfinished").symlink_to("mine")
    write_whole(tmp_path / "file", b"content")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert (tmp_path / "file").read_bytes() == b"content"
    assert not (tmp_path / "file").is_symlink()
