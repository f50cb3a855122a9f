"""Folders of checkpoints: whole or not there, whatever happens while one is written or kept."""

import builtins
import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from contextlib import suppress

import pytest

from unrolled.checkpoints import mark
from unrolled.checkpoints.folder import newest, prune, read, steps, write
from unrolled.errors import RunError


def content(step):
    return {
        "model.safetensors": b"m" * 100 + bytes([step % 256]) * 50,
        "training.safetensors": b"",
        "state.json": json.dumps({"step": step}).encode(),
    }


@pytest.fixture
def place(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Flush nothing: no test of this process pulls the plug, and thousands of flushes take long."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def names(place):
    return sorted(path.name for path in place.iterdir())


def test_what_is_written_is_read_and_listed_in_order(place):
    for step in (7, 0, 1234567, 123):
        assert write(place, step, content(step)) == place / f"step-{step:06d}"
    assert steps(place) == [0, 7, 123, 1234567]
    assert all(read(place / f"step-{step:06d}") == content(step) for step in steps(place))
    assert newest(place) == ((1234567, content(1234567)), [])
    assert names(place / "step-000007") == sorted([*content(0), "complete.json"])


def test_nothing_is_found_where_nothing_is(place):
    assert steps(place) == []
    assert newest(place) == (None, [])
    assert prune(place, 1) == []
    for name in (
        "step-1",
        "step-0000007",
        "step-000007x",
        "step-٠٠٠٠٠٧",
        ".step-000001.unfinished",
    ):
        (place / name).mkdir(parents=True)
    assert newest(place) == (None, [])


def test_the_mark_has_size_and_sha256_of_every_file(place):
    write(place, 3, content(3), score=0.25)
    about = json.loads((place / "step-000003/complete.json").read_bytes())
    assert about["format"] == 1
    assert about["score"] == 0.25
    assert about["files"] == {
        name: {"size": len(each), "sha256": hashlib.sha256(each).hexdigest()}
        for name, each in content(3).items()
    }


@pytest.mark.parametrize("file", [*content(2), "complete.json"])
def test_no_damage_to_any_file_goes_unseen(place, file):
    write(place, 1, content(1))
    draw = random.Random(file)
    path = write(place, 2, content(2), score=0.5) / file
    whole = path.read_bytes()
    damages = [whole + b"\0", b"{" * 500, b"[" * 10**5, b"\xff", b"null", b"[]", b"{}"]
    damages += [whole[: draw.randrange(len(whole))] for _ in range(40 if whole else 0)]
    for _ in range(200 if whole else 0):
        bit = draw.randrange(8 * len(whole))
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        damages.append(bytes(flipped))
    unseen = 0
    for each in damages:
        path.write_bytes(each)
        found, problems = newest(place)
        if found == (1, content(1)):
            (problem,) = problems
            assert str(path.parent) in problem
            assert file in problem or "format" in problem
        else:  # white space of the mark
            unseen += 1
            assert found == (2, content(2))
            assert mark.read_mark(path.parent).score == 0.5
    assert unseen <= (20 if file == "complete.json" else 0)


def test_damage_is_named(place):
    path = write(place, 2, content(2))
    for change, words in (
        (lambda file: file.write_bytes(b"m" * 1024), "is 1,024 bytes long; 150 were written"),
        (lambda file: file.write_bytes(b"m" * 150), "150 bytes long, but not those that were"),
        (lambda file: file.unlink(), r"'.*step-000002' is damaged: model\.safetensors is missing"),
        (lambda file: (path / "complete.json").unlink(), r"complete\.json is missing"),
        (lambda file: shutil.rmtree(path), "step-000002' cannot be read: No such file"),
        (lambda file: path.write_bytes(b""), "step-000002' is no folder"),
    ):
        change(path / "model.safetensors")
        with pytest.raises(RunError, match=words):
            read(path)


def test_a_renamed_checkpoint_is_refused(place):
    write(place, 2, content(2))
    (place / "step-000002").rename(place / "step-000009")
    assert newest(place)[0] is None
    assert "complete.json is of step 2; do not rename" in newest(place)[1][0]


def forge(path, **changes):
    """Write a mark that says something else, with the right checksum."""
    about = json.loads((path / "complete.json").read_bytes())
    about.pop("sha256")
    about.update(changes)
    (path / "complete.json").write_text(json.dumps(about | {"sha256": mark._digest(about)}))


def test_a_newer_format_names_the_version_that_wrote_it(place):
    path = write(place, 2, content(2))
    forge(path, format=2, unrolled="0.7.0")
    with pytest.raises(RunError, match=r"by unrolled '0.7.0' in format 2; .*reads format 1"):
        read(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "1"},
        {"format": True},
        {"format": 10**4000},
        {"step": "2"},
        {"step": 3},
        {"step": 10**4000},
        {"score": "0"},
        {"score": 1},
        {"files": []},
        {"files": {"a.json": 1}},
        {"files": {"a.json": {"size": 1}}},
        {"files": {"a.json": {"size": 1.0, "sha256": ""}}},
        {"files": {"a.json": {"size": 10**18, "sha256": ""}}},
        {"files": {"state.json": {"size": 10**4000, "sha256": ""}}},
        {"files": {"state.json": {"size": -1, "sha256": ""}}},
        {"files": {"../outside.json": {"size": 3, "sha256": ""}}},
        {"files": {"/etc/passwd": {"size": 3, "sha256": ""}}},
        {"files": {"complete.json": {"size": 3, "sha256": ""}}},
        {"files": {"\ud800.json": {"size": 3, "sha256": ""}}},
    ],
    ids=lambda changes: repr(changes)[:60],
)
def test_a_forged_mark_is_a_run_error(place, changes):
    path = write(place, 2, content(2))
    (place / "outside.json").write_bytes(b"abc")
    forge(path, **changes)
    with pytest.raises(RunError) as caught:
        read(path)
    str(caught.value).encode()


def test_a_size_is_compared_before_memory_is_taken(place):
    path = write(place, 2, content(2))
    for name in ("model.safetensors", "complete.json"):
        with open(path / name, "r+b") as file:
            file.truncate(2**42)  # a hole, no bytes
        with pytest.raises(RunError, match=rf"{name} is [0-9,]+ bytes long"):
            read(path)
        write(place, 2, content(2))


def test_more_than_memory_holds_is_a_run_error(place):
    path = write(place, 2, content(2))
    size = 2**43
    with open(path / "model.safetensors", "r+b") as file:
        file.truncate(size)
    forge(path, files={"model.safetensors": {"size": size, "sha256": ""}})
    code = "import sys, resource; from pathlib import Path\n"
    code += "from unrolled.checkpoints import folder; from unrolled.errors import RunError\n"
    code += "resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))\n"
    code += "try: folder.read(Path(sys.argv[1]))\nexcept RunError as error: print(error)"
    told = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    assert told.stdout.endswith("does not fit into memory\n")


@pytest.mark.parametrize("what", ["file", "mark", "folder", "parent"])
def test_links_are_refused_and_not_followed(place, what, tmp_path):
    path = write(place, 2, content(2))
    linked = {"file": path / "state.json", "mark": path / "complete.json", "folder": path}
    link = linked.get(what, place)
    link.rename(tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a link"):
        read(path)
    found, problems = newest(place)
    assert found is None
    assert len(problems) == 1


def test_nothing_is_written_through_a_link(place, tmp_path):
    (tmp_path / "elsewhere/.step-000002.unfinished").mkdir(parents=True)
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a link"):
        write(place, 2, content(2))
    assert names(tmp_path / "elsewhere") == [".step-000002.unfinished"]


def test_links_among_what_was_left_behind_are_removed_not_followed(place, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_bytes(b"")
    place.mkdir()
    for name in (".step-000002.unfinished", ".step-000003.replaced", "step-000003"):
        (place / name).symlink_to(tmp_path / "outside")
    write(place, 2, content(2))
    write(place, 3, content(3))
    assert names(place) == ["step-000002", "step-000003"]
    assert newest(place) == ((3, content(3)), [])
    assert names(tmp_path / "outside") == ["kept"]


def test_a_named_pipe_is_refused_at_once(place):
    path = write(place, 2, content(2))
    for name in ("state.json", "complete.json"):
        (path / name).unlink()
        os.mkfifo(path / name)
        with pytest.raises(RunError, match=f"{name}' cannot be read: it is a pipe"):
            read(path)


CALLS = [(os, name) for name in ("rename", "fsync", "open", "mkdir", "listdir", "unlink", "rmdir")]
CALLS += [(builtins, "open")]


class StopError(BaseException):
    """Ctrl-C, or any other end."""


def interrupt(monkeypatch, number, error, after=False, forever=False):
    """Let one call to the system raise an error, before or after it did what it does."""
    count = [0]

    def replaced(call):
        def calling(*args, **kwargs):
            count[0] += 1
            hit = count[0] == number or (forever and count[0] > number)
            if hit and not after:
                raise error
            result = call(*args, **kwargs)
            if hit:
                if hasattr(result, "close"):
                    result.close()
                raise error
            return result

        return calling

    for module, name in CALLS:
        monkeypatch.setattr(module, name, replaced(getattr(module, name)))
    return count


@pytest.mark.parametrize("step", [2, 1], ids=["new", "replaced"])
@pytest.mark.parametrize("kind", ["disk full", "stopped", "stopped after", "killed"])
def test_an_end_at_any_call_leaves_a_whole_checkpoint(place, step, kind):
    """Killed: no call works from then on, so nothing is cleaned up."""
    new = {"state.json": b"new", "model.safetensors": b"n"}
    number, done = 0, False
    while not done:
        number += 1
        shutil.rmtree(place, ignore_errors=True)
        write(place, 0, content(0))
        write(place, 1, content(1))
        error = OSError(errno.ENOSPC, "No space left") if kind == "disk full" else StopError()
        with pytest.MonkeyPatch.context() as patch:
            count = interrupt(patch, number, error, kind == "stopped after", kind == "killed")
            try:
                write(place, step, new)
            except (RunError, StopError) as caught:
                told = caught
            else:
                told = None
        done = count[0] < number
        found, problems = newest(place)
        assert found in [(1, content(1)), (step, new)]
        assert not problems
        assert read(place / "step-000000") == content(0)
        if kind == "disk full" and told:
            assert "cannot be written: No space left. The checkpoint of step" in str(told)
        if kind != "killed":  # nothing is left to be cleaned up
            assert not [name for name in names(place) if name.endswith("unfinished")]
            assert {"step-000000", "step-000001"} <= {*names(place)}
        write(place, 3, content(3))
        assert newest(place) == ((3, content(3)), [])
        before = read(place / f"step-{found[0]:06d}")
        assert before == found[1]
        assert not [name for name in names(place) if name.startswith(".")]
    assert number > 12


def test_what_counts_in_the_place_of_a_damaged_folder_is_there_until_that_is_replaced(place):
    number, done = 0, False
    while not done:
        number += 1
        shutil.rmtree(place, ignore_errors=True)
        path = write(place, 1, content(1))
        shutil.copytree(path, place / ".step-000001.replaced")
        (path / "state.json").write_bytes(b"")
        with pytest.MonkeyPatch.context() as patch:
            count = interrupt(patch, number, StopError(), forever=True)
            with suppress(StopError):
                write(place, 1, content(2))
        done = count[0] < number
        assert newest(place)[0] in [(1, content(1)), (1, content(2))]
    assert names(place) == ["step-000001"]


def test_an_end_at_any_call_of_pruning_leaves_no_half_checkpoint(place):
    number, done = 0, False
    while not done:
        number += 1
        shutil.rmtree(place, ignore_errors=True)
        for step in range(4):
            write(place, step, content(step), score=step)
        with pytest.MonkeyPatch.context() as patch:
            count = interrupt(patch, number, StopError(), forever=True)
            with suppress(StopError):
                prune(place, 1)
        done = count[0] < number
        assert {0, 3} <= set(steps(place))
        for step in steps(place):
            assert read(place / f"step-{step:06d}") == content(step)
        write(place, 3, content(3))
        assert not [name for name in names(place) if name.startswith(".")]
    assert steps(place) == [0, 3]
    assert number > 5


def test_every_file_is_flushed_before_the_folder_has_its_name(place, monkeypatch):
    order = []
    rename, fsync = os.rename, os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append(path_of(handle)), fsync(handle)))
    monkeypatch.setattr(os, "rename", lambda a, b: (order.append("rename"), rename(a, b)))

    def path_of(handle):
        stat = os.fstat(handle)
        there = [place, *place.rglob("*")]
        return next(path.name for path in there if os.path.samestat(path.stat(), stat))

    write(place, 2, content(2))
    files = [*content(2), "complete.json"]
    assert order == [*files, ".step-000002.unfinished", "rename", "checkpoints"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EROFS, "See that you may write to"),
        (errno.EACCES, "See that you may write to"),
        (errno.EIO, "See that the disk works"),
    ],
    ids=errno.errorcode.get,
)
def test_an_error_says_what_is_kept_and_what_to_do(place, monkeypatch, number, advice):
    def refused(handle):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refused)
        with pytest.raises(RunError, match=f"{os.strerror(number)}. There is no earlier one"):
            write(place, 2000, content(2))
    write(place, 2000, content(2))
    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(RunError, match=f"The checkpoint of step 2,000 is intact. {advice}"):
        write(place, 3000, content(3))
    assert newest(place) == ((2000, content(2)), [])
    assert names(place) == ["step-002000"]


def test_a_directory_that_cannot_be_made_is_a_run_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file/checkpoints"):
        with pytest.raises(RunError, match="cannot be written"):
            write(place, 1, content(1))


SCORES = [
    ([0.5, 0.4, 0.3, 0.2], 2, [2, 3]),
    ([0.1, 0.4, 0.3, 0.2], 2, [0, 2, 3]),
    ([0.4, 0.1, 0.1, 0.2, 0.3], 1, [2, 4]),  # of equal ones the later
    ([float("nan"), 0.4, 0.5, 0.6], 1, [1, 3]),
    ([-float("inf"), 0.4, None, 0.6], 1, [1, 3]),
    ([None] * 4, 3, [1, 2, 3]),
    ([float("nan")] * 3, 1, [2]),
    ([1.0], 5, [0]),
]


@pytest.mark.parametrize(("scores", "keep", "kept"), SCORES)
def test_the_last_ones_and_the_best_are_kept(place, scores, keep, kept):
    for step, score in enumerate(scores):
        write(place, step, content(step), score)
    removed = prune(place, keep)
    assert steps(place) == kept
    assert sorted(removed + kept) == list(range(len(scores)))
    assert prune(place, keep) == []
    assert all(read(place / f"step-{step:06d}") == content(step) for step in kept)


def test_a_damaged_checkpoint_is_none_of_those_that_are_kept(place):
    for step in range(5):
        write(place, step, content(step), 1.0)
    (place / "step-000004/complete.json").write_bytes(b"")
    (place / "step-000001/complete.json").unlink()
    assert prune(place, 2) == [0, 1]
    assert steps(place) == [2, 3, 4]
    (place / "step-000002/complete.json").unlink()
    (place / "step-000003/complete.json").unlink()
    assert prune(place, 1) == []  # no whole one is left: nothing is removed


def test_pruning_removes_what_killed_processes_left_and_nobody_needs(place):
    for step in (1, 2):
        write(place, step, content(step))
    for name in (".step-000001.replaced", ".step-000002.replaced", ".step-000003.unfinished"):
        shutil.copytree(place / "step-000001", place / name)
    (place / "step-000001/state.json").write_bytes(b"")
    assert prune(place, 2) == []
    assert names(place) == [".step-000001.replaced", "step-000001", "step-000002"]
