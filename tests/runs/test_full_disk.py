"""What a run keeps on a disk that becomes full while it trains."""

import io
import json
import os

import numpy as np
import pytest

from unrolled.errors import RunError
from unrolled.runs import directory as runs
from unrolled.runs.directory import RunDirectory


class Full(io.RawIOBase):
    """A file of a disk that has room for so many bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def writable(self):
        return True

    def write(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        written = self.file.write(data[: self.room])
        self.room -= written
        return written

    def seek(self, *place):
        return self.file.seek(*place)

    def truncate(self, size=None):
        return self.file.truncate(size)

    def fileno(self):
        return self.file.fileno()

    def close(self):
        self.file.close()
        super().close()


@pytest.fixture
def small_disk(monkeypatch):
    """Logs find room for 500 bytes each."""
    opened = os.fdopen

    def limited(descriptor, mode="r", *options, **more):
        file = opened(descriptor, mode, *options, **more)
        return Full(file, 500) if mode == "ab" else file

    monkeypatch.setattr(os, "fdopen", limited)


def test_a_training_keeps_its_model_when_its_log_cannot_be_written(unrolled, small_disk, tmp_path):
    sets = ("max_epochs=50", "num_hiddens=8", "batch_size=4", "num_steps=5", "max_tokens=200")
    options = [part for each in sets for part in ("--set", each)]
    outcome = unrolled("run", "language-model", "--out", "out", *options)
    assert outcome.code == 2
    assert outcome.err.startswith("error: 'out/")
    assert outcome.err.endswith("cannot be written: No space left on device\n")
    assert "run kept in out" in outcome.out
    out = tmp_path / "out"
    assert json.loads((out / "summary.json").read_text())["status"] == "interrupted"
    for log in out.glob("*.jsonl"):
        assert all(json.loads(line) for line in log.read_text().splitlines())
    assert unrolled("sample", "out").code == 0


def test_a_line_is_written_whole_or_not_at_all(small_disk, tmp_path):
    directory = RunDirectory.create(tmp_path / "run")
    write = directory.lines("metrics.jsonl")
    write({"a": "b" * 400})
    with pytest.raises(RunError, match=r"metrics\.jsonl' cannot be written: No space"):
        write({"a": "b" * 400})
    directory.__exit__()
    (line,) = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"a": "b" * 400}


def test_the_end_of_the_longest_log_makes_room_for_the_model(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "ROOM", 1000)
    directory = RunDirectory.create(tmp_path / "run")
    with directory:
        for name, count in (("metrics.jsonl", 10), ("telemetry.jsonl", 100)):
            write = directory.lines(name)
            for step in range(count):
                write({"step": step, "text": "x" * 80})
    before = {file.name: file.read_bytes() for file in directory.path.iterdir()}
    whole, asked = runs.write_whole, []

    def once_full(path, content):
        asked.append(path)
        if len(asked) == 1:
            raise OSError(28, "No space left on device")
        whole(path, content)

    monkeypatch.setattr(runs, "write_whole", once_full)
    directory.save_model({"W": np.ones((10, 10), np.float32)})
    assert directory.load_model()["W"].shape == (10, 10)
    after = (directory.path / "telemetry.jsonl").read_bytes()
    assert (directory.path / "metrics.jsonl").read_bytes() == before["metrics.jsonl"]
    assert before["telemetry.jsonl"].startswith(after)
    assert after.endswith(b"}\n")
    assert 1400 < len(before["telemetry.jsonl"]) - len(after) < 1800


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (PermissionError(13, "Permission denied"), 100),  # the disk is not full
        (FileNotFoundError(2, "gone"), 100),
        (OSError(28, "No space left on device"), 1),  # the log is too short
    ],
    ids=str,
)
def test_a_log_is_not_cut_in_vain(monkeypatch, tmp_path, error, lines):
    monkeypatch.setattr(runs, "ROOM", 0)
    directory = RunDirectory.create(tmp_path / "run")
    with directory:
        write = directory.lines("metrics.jsonl")
        for step in range(lines):
            write({"step": step, "text": "x" * 80})
    before = (directory.path / "metrics.jsonl").read_bytes()

    def refused(path, content):
        raise error

    monkeypatch.setattr(runs, "write_whole", refused)
    with pytest.raises(RunError, match=f"cannot be written: {error.strerror}"):
        directory.save_model({"W": np.ones((10, 10), np.float32)})
    assert (directory.path / "metrics.jsonl").read_bytes() == before
