"""Run directories of somebody else: links, pipes, devices and files without end in them."""

import os
import shutil

import made_runs
import pytest

from unrolled import report
from unrolled.errors import RunError
from unrolled.experiments.convert import convert
from unrolled.experiments.language_model import load
from unrolled.runs.directory import RunDirectory
from unrolled.runs.ending import last_step, no_end
from unrolled.telemetry import reading
from unrolled.telemetry.diagnose import as_text, diagnose_run

JSON = ("config.json", "environment.json", "summary.json", "notes.json", "charts.json",
        "vocabulary.json")  # fmt: skip
FILES = (*JSON, "metrics.jsonl", "telemetry.jsonl", "model.safetensors", "running.lock")

OPTIONAL = ("notes.json", "charts.json", "vocabulary.json", "telemetry.jsonl")
"""Files that not every run has."""

SECRET = "a secret of somebody else"


def link_out(path):
    secret = path.parent.parent / "secret"
    secret.write_text(f'{{"experiment": "{SECRET}", "step": 1, "part": "{SECRET}"}}\n')
    path.symlink_to(secret)


def sparse(path):
    path.touch()
    os.truncate(path, 2**40)


ODD = {
    "a link out": link_out,
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo if hasattr(os, "mkfifo") else lambda path: path.mkdir(),
    "a directory": lambda path: path.mkdir(),
    "a terabyte": sparse,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "run"
    return made_runs.language_model(path, epochs=2, steps_per_epoch=2, num_steps=4)


@pytest.fixture(params=ODD)
def odd_runs(request, made, tmp_path, monkeypatch):
    """For each file a run where it is something else."""
    monkeypatch.setattr(reading, "MOST_GAP", reading.MOST_LINE)

    def runs():
        for name in FILES:
            run = tmp_path / f"with-{name}" / "run"
            shutil.copytree(made, run)
            if name == "running.lock":
                (run / "summary.json").unlink()
            (run / name).unlink(missing_ok=True)
            ODD[request.param](run / name)
            yield name, run

    return runs


def test_what_is_shown_of_them_is_whole_and_theirs(odd_runs):
    for name, run in odd_runs():
        told = as_text(diagnose_run(run), "run")
        assert SECRET not in told
        if name in ("config.json", "running.lock"):
            continue
        page = report.write([run]).read_text()
        assert SECRET not in page
        if name not in OPTIONAL:
            assert name in page  # among what was left out


def test_what_cannot_be_shown_is_an_error(odd_runs):
    for _, run in odd_runs():
        try:
            page = report.write([run]).read_text()
        except RunError as error:
            page = str(error)
        assert SECRET not in page
        no_end(run)
        last_step(run)


def test_their_models_are_loaded_only_if_all_is_there(odd_runs, tmp_path):
    needed = ("config.json", "vocabulary.json", "model.safetensors")
    for name, run in odd_runs():
        out = tmp_path / f"out-{name}"
        if name in needed:
            for command in (load, lambda run: convert(run, "torch", out)):  # noqa: B023
                with pytest.raises(RunError) as error:
                    command(run)
                assert SECRET not in str(error.value)
                assert len(str(error.value)) < 1000
            assert not out.exists()
        elif name not in ("summary.json", "running.lock"):
            assert set(RunDirectory.open(run).load_model()) == set(made_runs.PARAMETERS)


def test_a_report_is_not_written_through_a_link_of_the_run(made, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    mine = report.write([made], out=tmp_path / "mine.html").read_bytes()
    (run / "report.html").symlink_to("../mine.html")
    with pytest.raises(RunError, match=r"report.html' is a link to '../mine.html'; name a file"):
        report.write([run])
    assert (tmp_path / "mine.html").read_bytes() == mine
    assert report.write([run], out=tmp_path / "other.html").exists()


def test_a_log_without_an_end_of_line_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_LINE", 1000)
    monkeypatch.setattr(reading, "MOST_GAP", 10_000)
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"a": 1}\n' + b"x" * 20_000 + b'\n{"a": 2}\n')
    records, skipped = reading.read_jsonl(file)
    assert (list(records), skipped) == ([{"a": 1}], [2])
