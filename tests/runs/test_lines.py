"""Logs of a run, and going on with one."""

import hashlib
import json
import os

import pytest

from unrolled.errors import RunError
from unrolled.runs import lines as module
from unrolled.runs.directory import RunDirectory
from unrolled.runs.lines import EpochLog, Lines
from unrolled.training.records import EpochRecord

RECORDS = [{"step": step, "text": "ü" * (7 * step % 11), "nothing": None} for step in range(40)]


@pytest.fixture(params=[1, 16, 2**20])
def log(request, tmp_path, monkeypatch):
    """A log of 40 lines, read in chunks of different sizes."""
    monkeypatch.setattr(module, "CHUNK", request.param)
    write_all(tmp_path / "telemetry.jsonl", RECORDS)
    return tmp_path / "telemetry.jsonl"


def write_all(path, records):
    write = Lines(path)
    for record in records:
        write(record)
    write.sync()
    write.file.close()
    return write


def cut(path, lines, sha256=None):
    log = Lines(path)
    try:
        log.cut_to(lines, sha256)
    except BaseException:
        log.file.close()
        raise
    return log


def begin_of(log, count):
    return b"".join(log.read_bytes().splitlines(keepends=True)[:count])


def test_a_log_knows_its_lines_and_their_hash_also_where_it_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for count in (40, 80):
        write = write_all(path, RECORDS)
        assert write.lines == count
        assert write.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("count", [0, 1, 39, 40])
@pytest.mark.parametrize("torn", [b"", b'{"step": 4'])
def test_a_log_that_goes_on_is_that_of_a_run_that_never_stopped(log, count, torn):
    whole, begin = log.read_bytes(), begin_of(log, count)
    with log.open("ab") as file:
        file.write(torn)
    write = cut(log, count, hashlib.sha256(begin).hexdigest())
    assert log.read_bytes() == begin
    for record in RECORDS[count:]:
        write(record)
    write.file.close()
    assert log.read_bytes() == whole
    assert (write.lines, write.sha256) == (40, hashlib.sha256(whole).hexdigest())


def test_a_log_without_a_hash_may_hold_anything(log):
    log.write_bytes(b"other\n" * 3 + b"more")
    cut(log, 2).file.close()
    assert log.read_bytes() == b"other\n" * 2


def test_a_log_that_lacks_lines_or_holds_others_is_refused_and_stays(log):
    whole, digest = log.read_bytes(), hashlib.sha256(log.read_bytes()).hexdigest()
    for damaged, words in (
        (begin_of(log, 12), r"has 12 of the 40 lines that the checkpoint knows of"),
        (whole[:-1], r"has 39 of the 40 lines"),
        (b"", r"has 0 of the 40 lines"),
        (whole[:100] + b"!" + whole[101:], r"has been changed within its first 40 lines"),
    ):
        log.write_bytes(damaged)
        with pytest.raises(RunError, match=rf"telemetry\.jsonl' {words}"):
            cut(log, 40, digest)
        assert log.read_bytes() == damaged


def test_a_log_that_is_missing_is_told(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(RunError, match="has 0 of the 3 lines that the checkpoint knows of"):
        cut(path, 3)


def test_the_positions_of_a_run_cut_its_logs(tmp_path):
    directory = RunDirectory.create(tmp_path / "run")
    directory.begin({"experiment": "x"})
    with directory:
        metrics, timings = directory.lines("metrics.jsonl"), directory.lines("timings.jsonl")
        for write in (metrics, timings):
            write({"step": 1})
        positions = directory.log_positions()
        assert positions["timings.jsonl"] == {"lines": 1, "sha256": None}
        for write in (metrics, timings):
            write({"step": 2})
    with directory:
        directory.lines("metrics.jsonl"), directory.lines("timings.jsonl")
        directory.go_on({"experiment": "y"}, positions, {"step": 1}, None)
    for name in positions:
        assert (tmp_path / "run" / name).read_text() == '{"step": 1}\n'
    assert directory.read_json("config.json") == {"experiment": "y"}
    (resumed,) = directory.read_json("environment.json")["resumed"]
    assert resumed["step"] == 1


def test_a_log_that_is_a_link_is_not_cut(tmp_path):
    (tmp_path / "mine.txt").write_text("mine\n" * 3)
    (tmp_path / "metrics.jsonl").symlink_to("mine.txt")
    with pytest.raises(RunError, match=r"metrics\.jsonl' cannot be written: it is a link"):
        cut(tmp_path / "metrics.jsonl", 1)
    assert (tmp_path / "mine.txt").read_text() == "mine\n" * 3


def test_a_line_that_cannot_be_written_is_not_counted(tmp_path):
    write = Lines(tmp_path / "metrics.jsonl")
    write({"a": 1})
    before = (write.lines, write.sha256)
    write.file.close()
    refused = pytest.raises(RunError, match="cannot be written")
    with open(os.devnull, "rb", buffering=0) as write.file, refused:  # it is open for reading
        write({"a": 2})
    assert (write.lines, write.sha256) == before


def test_only_epochs_with_steps_that_were_not_finite_say_how_many():
    written = {"metrics.jsonl": [], "timings.jsonl": []}
    log = EpochLog(lambda name: written[name].append, lambda epoch: {"loss": epoch.loss})
    values = (2.0, None, 1.5, 3.0, 1.0, 100, 0.5, 100)
    for number, not_finite in ((1, 0), (2, 3)):
        log.on_epoch(None, EpochRecord(number, 10 * number, *values, not_finite))
    first, second = map(json.dumps, written["metrics.jsonl"])
    norms = '"gradient_norm": 1.5, "gradient_norm_max": 3.0, "clipped_norm": 1.0'
    assert first == f'{{"epoch": 1, "step": 10, "loss": 2.0, {norms}}}'
    assert second == f'{{"epoch": 2, "step": 20, "loss": 2.0, {norms}, "not_finite": 3}}'
