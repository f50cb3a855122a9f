import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from installed import FRAMEWORK
from terminal import start, wait_for_epochs
from unrolled.experiments import EXPERIMENTS, load
from unrolled.frameworks import FRAMEWORKS

SMALL = ("max_epochs=1", "num_hiddens=8", "batch_size=4", "num_steps=5")
LONG, TOO_LONG = "x" * 300, ["xxx", "File name too long"]


def sets(*assignments):
    return [part for assignment in assignments for part in ("--set", assignment)]


DOCUMENTED = {
    "language-model": "model scratch num_hiddens num_layers batch_size num_steps max_epochs lr "
    "gradient_clip_val use_random_iter max_tokens text clean prefix num_gpus",
    "linear-regression": "scratch lr max_epochs batch_size sigma noise num_train num_val",
}


def test_list_names_every_experiment_and_every_setting(unrolled):
    listing = unrolled("list").out
    for name in EXPERIMENTS:
        assert name in listing
        settings = load(name).Settings.__dataclass_fields__
        assert settings.keys() >= set(DOCUMENTED.get(name, "").split())
        assert all(f"  {setting}=" in listing for setting in settings)
    assert unrolled("--version").out.startswith("unrolled, version ")


COMMANDS = ("run", "sample", "list", "doctor", "params", "convert", "export", "bench")


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_help_text_has_examples_on_lines_of_their_own(unrolled, command):
    text = unrolled(*command, "--help").out
    assert "\\b" not in text
    assert [line for line in text.splitlines()[1:] if line.strip().startswith("unrolled ")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["unknown command 'trian'", "run"]),
        (["run", "language-modle"], ["unknown experiment", "did you mean 'language-model'"]),
        (["run", "language-model", "--framework", "pytorch"], ["unknown framework", "torch"]),
        (["run", "language-model", "--seed", "-1"], ["seed is -1"]),
        (["run", "language-model", *sets("num_hidden=3")], ["did you mean 'num_hiddens'"]),
        (["run", "language-model", *sets("lr=abc")], ["lr=abc", "not a number"]),
        (["run", "language-model", *sets("lr=nan")], ["finite"]),
        (["run", "language-model", *sets("lr=0")], ["above 0"]),
        (["run", "language-model", *sets("num_hiddens=0")], ["at least 1"]),
        (["run", "language-model", *sets("num_hiddens=1.5")], ["not a whole number"]),
        (["run", "language-model", *sets("max_epochs=-3")], ["at least 1"]),
        (["run", "language-model", *sets("scratch=perhaps")], ["neither true nor false"]),
        (["run", "language-model", *sets("model=rmn")], ["did you mean 'rnn'"]),
        (["run", "language-model", *sets("lr")], ["name=value"]),
        (["run", "language-model", *sets("lr=1", "lr=2")], ["twice"]),
        (["run", "language-model", *sets("num_steps=20000")], ["10,000 tokens", "num_steps"]),
        (["run", "language-model", *sets("batch_size=1024")], ["larger max_tokens", "153,522"]),
        (["run", "language-model", *sets("prefix=")], ["prefix is empty"]),
        (["run", "language-model", *sets("prefix=Über")], ["'Ü'"]),
        (["run", "linear-regression", *sets("noise=-1")], ["at least 0"]),
        (["run", "digit-sum", *sets("lengths=10,2")], ["lengths=10,2", "at least 3"]),
        (["run", "digit-sum", *sets("cells=srn,lstn")], ["did you mean 'lstm'"]),
        (["run", "language-model", *sets("prefix=Z")], ["'Z'", "small letters"]),
        (["run", "language-model", *sets("text=")], ["no text is named"]),
        (["run", "language-model", *sets("text=none.txt")], ["none.txt' does not exist"]),
        (
            ["run", "language-model", *sets("lr=abc", "num_hiddens=0", "foo=1")],
            ["lr=abc", "num_hiddens=0", "unknown setting 'foo'"],
        ),
        (
            ["run", "language-model", *sets("num_hiddens=100000000")],
            ["num_hiddens=100,000,000", "GiB", "fewer num_hiddens"],
        ),
        (["run", "linear-regression", "--seed", 2**32], ["4294967296", "below"]),
        (["run", "linear-regression", "--seed", 10**20], [str(10**20), "below"]),
        (["sample", "nowhere"], ["no such directory"]),
        (["run", "linear-regression", "--out", LONG], TOO_LONG),
        (["sample", LONG], TOO_LONG),
        (["export", "run", "--onnx", LONG], TOO_LONG),
        (["report", "run", "--out", LONG], TOO_LONG),
        (["report", LONG], TOO_LONG),
        (["run", "language-model", *sets(f"text={LONG}")], TOO_LONG),
        (["run", "linear-regression", "--out", ""], ["'--out' is empty; name a file or directory"]),
        (["export", "run", "--onnx", ""], ["'--onnx' is empty; name a file or directory"]),
        (["sample", ""], ["'RUN' is empty; name a file or directory"]),
    ],
)
def test_mistakes_are_refused_and_nothing_is_written(unrolled, tmp_path, arguments, words):
    outcome = unrolled(*arguments)
    outcome.assert_refused(*words)
    assert "--allow-unknown" not in outcome.err  # only sampling has it
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["'EXPERIMENT' is missing", "language-model", "--resume RUN"]),
        (["run", "linear-regression", "more"], ["cannot use 'more'", "unrolled run --help"]),
        (["run", "x", "--framwork", "torch"], ["no option '--framwork'", "'--framework'?"]),
        (["sample", "x", "--seed"], ["'--seed' takes a value"]),
        (["run", "x", "--seed", "1.5"], ["'--seed' is '1.5'", "whole number"]),
        (["sample", "x", "--temperature", "hot"], ["'--temperature' is 'hot'", "a number"]),
        (["sample", "x", "--length", "0"], ["'--length' is '0'", "at least 1"]),
        (["bench", "--sweep=3"], ["'--sweep' takes no value"]),
        (["bench", "--seconds", "nan"], ["'--seconds' is 'nan'", "at least 0"]),
        (["report"], ["'RUNS...' is missing"]),
        (["convert", "x", "--to", "jax"], ["'--out' is missing"]),
        (["--nothing"], ["no option '--nothing'", "--version"]),
    ],
)
def test_usage_errors_speak_our_words(unrolled, arguments, words):
    outcome = unrolled(*arguments)
    outcome.assert_refused(*words)
    clicks = ("Usage:", "Error:", "Try '", "Invalid value", "No such", "Missing", "requires an")
    assert not any(word in outcome.err for word in clicks)


def test_a_text_may_be_several_files_or_a_folder_and_is_kept(unrolled, tmp_path, monkeypatch):
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "texts").mkdir()
    parts = {"a": "It was so. " * 30, "b": "Or, was it? " * 30}
    for name, text in parts.items():
        (tmp_path / "texts" / name).write_text(text)
    (tmp_path / "joined,with a comma").write_text("".join(parts.values()))
    tiny = sets("max_epochs=1", "num_hiddens=8", "batch_size=2", "num_steps=5")
    found = {}
    for text in ("texts", "texts/a,texts/b", "joined,with a comma", "texts"):
        outcome = unrolled("run", "language-model", "--out", "out", *sets(f"text={text}"), *tiny)
        assert outcome.code == 0
        found[text] = (tmp_path / "out/metrics.jsonl").read_bytes()
        kept = re.findall(r"ids \(1 MB\) are kept for the next run in (\S+)", outcome.out)
        assert len(kept) == ("joined" not in text)
        assert all((tmp_path / folder / "index.json").is_file() for folder in kept)
        shutil.rmtree(tmp_path / "out")
    assert len(set(found.values())) == 1
    assert len(list((tmp_path / "cache/texts").iterdir())) == 1


def test_cleaning_that_would_leave_blanks_is_refused(unrolled, tmp_path):
    (tmp_path / "mine.txt").write_text("Пьер Безухов вошёл в гостиную. Pierre.\n" * 100)
    outcome = unrolled("run", "language-model", *sets("text=mine.txt", "clean=true"))
    outcome.assert_refused("A-Z", "clean=false")


def test_an_own_text_in_any_language_is_learned_as_it_is(unrolled, tmp_path):
    text = "时间旅行者向我们解释了一个深奥的问题。\n他的灰色眼睛闪闪发光。\n" * 40
    (tmp_path / "mine.txt").write_text(text, encoding="utf-8")
    tiny = sets("text=mine.txt", "max_epochs=1", "num_hiddens=8", "batch_size=2", "num_steps=5")
    assert unrolled("run", "language-model", "--out", "out", *tiny).code == 0
    vocabulary = json.loads((tmp_path / "out/vocabulary.json").read_text(encoding="utf-8"))
    assert set(vocabulary) == {"<unk>", *text}
    (prefix,) = json.loads((tmp_path / "out/summary.json").read_text())["samples"]
    assert text.startswith(prefix)
    assert unrolled("sample", "out").out.startswith(prefix)


def test_a_missing_framework_names_the_pip_command(unrolled, monkeypatch, tmp_path):
    monkeypatch.setattr("unrolled.frameworks.is_installed", lambda name: False)
    title = FRAMEWORKS[FRAMEWORK]
    unrolled("run", "linear-regression").assert_refused(f"{title} is not installed", "pip install")
    assert "pip install" in unrolled("doctor").out
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_never_written_over(unrolled, tiny_run):
    before = (tiny_run / "summary.json").read_bytes()
    unrolled("run", "linear-regression", "--out", tiny_run).assert_refused("already holds a run")
    assert (tiny_run / "summary.json").read_bytes() == before


def test_out_must_be_a_directory_that_can_be_made(unrolled, tmp_path):
    (tmp_path / "file").write_text("")
    unrolled("run", "linear-regression", "--out", "file").assert_refused("is a file")
    unrolled("run", "linear-regression", "--out", "file/below").assert_refused("cannot be made")


def test_runs_without_out_are_numbered(unrolled, tmp_path):
    for _ in range(2):
        assert unrolled("run", "linear-regression", *sets("num_val=0")).code == 0
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {
        "linear-regression-1",
        "linear-regression-2",
    }


def test_a_model_of_no_numbers_writes_no_text(unrolled, tiny_run):
    from unrolled.runs.directory import RunDirectory

    directory = RunDirectory.open(tiny_run)
    values = directory.load_model()
    values["W_hh"] = np.full_like(values["W_hh"], np.nan)
    directory.save_model(values)
    unrolled("sample", tiny_run).assert_refused("W_hh is NaN or infinite", "smaller lr")


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "summary.json"])
def test_an_incomplete_run_is_refused(unrolled, tiny_run, damage):
    (tiny_run / damage).unlink()
    unrolled("sample", tiny_run).assert_refused("no complete run", damage)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", b"{", ["config.json' is damaged"]),
        ("config.json", b"[]", ["lacks"]),
        ("config.json", b"\xff", ["config.json' is damaged"]),
        ("vocabulary.json", b"{}", ["no list of tokens"]),
        ("vocabulary.json", b"[]", ["no list of tokens"]),
        ("vocabulary.json", b'["<unk>", "\\ud800"]', ["vocabulary.json' is damaged"]),
        ("vocabulary.json", b'["a", "a"]', ["all differ"]),
        ("vocabulary.json", b'["<unk>", "a"]', ["do not fit", "W_xh"]),
        ("model.safetensors", b"", ["model.safetensors' is damaged"]),
        ("model.safetensors", "cut short", ["model.safetensors' is damaged"]),
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0{}      ", ["do not fit", "W_hh"]),
    ],
)
def test_a_damaged_run_is_refused(unrolled, tiny_run, tmp_path, file, content, words):
    if content == "cut short":
        content = (tiny_run / file).read_bytes()[:-10]
    (tiny_run / file).write_bytes(content)
    carry = ("convert", tiny_run, "--to", FRAMEWORK, "--out", "other")
    for command in (("sample", tiny_run), carry):
        unrolled(*command).assert_refused(f"'{tiny_run}", *words)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_hiddens", "8", ["is damaged", "num_hiddens is '8'", "from a copy"]),
        ("framework", 7, ["framework is 7", "a name is expected"]),
        ("experiment", 7, ["experiment is 7", "a name is expected"]),
    ],
)
def test_a_run_with_damaged_settings_is_refused(unrolled, tiny_run, key, value, words):
    file = tiny_run / "config.json"
    config = json.loads(file.read_text())
    (config if key in config else config["settings"])[key] = value
    file.write_text(json.dumps(config))
    for command in (("sample",), ("convert", "--to", FRAMEWORK, "--out", "other")):
        unrolled(command[0], tiny_run, *command[1:]).assert_refused(*words)


def test_a_model_of_whole_numbers_is_refused(unrolled, tiny_run, tmp_path):
    from unrolled.runs.directory import RunDirectory

    directory = RunDirectory.open(tiny_run)
    values = directory.load_model()
    directory.save_model({name: value.astype("int32") for name, value in values.items()})
    carry = ("convert", tiny_run, "--to", FRAMEWORK, "--out", "other")
    for command in (("sample", tiny_run), carry, ("export", tiny_run, "--onnx", "m.onnx")):
        unrolled(*command).assert_refused("int32", "floating-point numbers are expected")
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "m.onnx").exists()


def test_a_killed_run_is_told_what_can_be_seen_of_it(unrolled, tiny_run):
    for name in ("model.safetensors", "summary.json", "report.html"):
        (tiny_run / name).unlink()
    unrolled("convert", tiny_run, "--to", FRAMEWORK, "--out", "other").assert_refused(
        "model.safetensors, summary.json missing",
        "unrolled report",
    )
    assert unrolled("report", tiny_run).code == 0
    assert unrolled("diagnose", tiny_run).code == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prefix", ""], ["prefix is empty"]),
        (["--prefix", "Time"], ["'T'", "small letters: 'time'"]),
        (["--prefix", "a1?"], ["'1', '?'", "--allow-unknown"]),
        (["--temperature", "-1"], ["temperature is -1"]),
        (["--temperature", "nan"], ["temperature is nan"]),
        (["--top-k", "0"], ["top_k is 0"]),
        (["--temperature", "1", "--seed", "-1"], ["seed is -1", "below 4,294,967,296"]),
        (["--temperature", "1", "--seed", str(2**32)], ["seed is 4294967296"]),
        (["--top-p", "1.5", "--top-k", "0"], ["top_p is 1.5", "top_k is 0"]),
    ],
)
def test_sampling_mistakes_are_refused(unrolled, tiny_run, options, words):
    unrolled("sample", tiny_run, *options).assert_refused(*words)


def test_sampling_is_seeded_and_greedy_by_default(unrolled, tiny_run):
    def sample(*options):
        return unrolled("sample", tiny_run, "--prefix", "time", *options).out

    assert sample() == sample() == sample("--temperature", "0") == sample("--top-k", "1")
    drawn = [sample("--temperature", "2", "--seed", str(s)) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(sample("--length", "7")) == len("time") + 7 + 1
    assert sample("--allow-unknown", "--prefix", "TIME").startswith("TIME")


def test_several_samples_are_drawn_each_for_itself(unrolled, tiny_run):
    def sample(*options):
        return unrolled("sample", tiny_run, "--prefix", "time", "--seed", "1", *options)

    drawn = sample("--temperature", "2", "--num-samples", "3").out.splitlines()
    assert len(set(drawn)) == 3
    assert all(text.startswith("time") for text in drawn)
    assert drawn[0] == sample("--temperature", "2").out.splitlines()[0]
    sample("--num-samples", "3").assert_refused("all 3 texts would be the same", "--temperature")


def test_a_diverging_run_stops_names_the_step_and_keeps_finite_weights(unrolled, tmp_path):
    from safetensors.numpy import load_file

    outcome = unrolled("run", "linear-regression", "--out", "out", *sets("lr=1e6", "max_epochs=50"))
    outcome.assert_refused("epoch 1, step", "smaller lr")
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["status"] == "diverged"
    weights = load_file(tmp_path / "out/model.safetensors")
    assert all(abs(array).max() < float("inf") for array in weights.values())


@pytest.mark.parametrize(
    ("sent", "name"), [("SIGINT", "Ctrl-C"), ("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGHUP")]
)
def test_a_signal_stops_cleanly_and_keeps_what_was_measured(sent, name, tmp_path):
    tiny = sets("max_epochs=1000000", "num_hiddens=8", "max_tokens=2000", "num_steps=10")
    command = [sys.executable, "-m", "unrolled", "run", "language-model", "--out", "out", *tiny]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = start([*command, "--framework", FRAMEWORK], cwd=tmp_path, **pipes)
    metrics = tmp_path / "out/metrics.jsonl"
    wait_for_epochs(process, metrics, 3)
    process.send_signal(signal.Signals[sent])
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.Signals[sent]
    assert err.splitlines()[-1] == f"error: stopped by {name}"
    assert "Traceback" not in err
    assert "run kept in out" in out
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert summary["epochs"] == metrics.read_text().count("\n") >= 3
    assert (tmp_path / "out/model.safetensors").exists()
    assert not [p for p in os.listdir(tmp_path / "out") if "unfinished" in p]


def _refuse(self, target):
    raise OSError(28, "No space left on device")


def test_a_run_that_could_keep_nothing_leaves_no_directory_and_no_half_written_file(
    unrolled, monkeypatch, tmp_path
):
    monkeypatch.setattr(Path, "replace", _refuse)
    outcome = unrolled("run", "linear-regression", "--out", "a/b")
    outcome.assert_refused("config.json' cannot be written: No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_conversion_that_cannot_be_written_leaves_nothing(unrolled, tiny_run, monkeypatch):
    replace = Path.replace

    def full(self, target):  # the disk has room for small files only
        return _refuse(self, target) if "model" in target.name else replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    outcome = unrolled("convert", tiny_run, "--to", FRAMEWORK, "--out", "other")
    outcome.assert_refused("model.safetensors' cannot be written")
    assert not Path("other").exists()


def test_a_terminal_that_cannot_show_the_text_does_not_end_the_run(tmp_path):
    text = "größe ist schön, " * 30
    (tmp_path / "mine.txt").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "unrolled", "run", "language-model", "--out", "run"]
    command += ["--framework", FRAMEWORK, *sets("text=mine.txt", *SMALL)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"gr\\xf6\\xdfe" in done.stdout + done.stderr
    assert (tmp_path / "run" / "summary.json").is_file()


@pytest.mark.parametrize("option", ["--length", "--num-samples"])
def test_more_text_than_memory_holds_is_refused(unrolled, tiny_run, option):
    outcome = unrolled("sample", tiny_run, "--temperature", "1", option, 10**18)
    outcome.assert_refused(f"'{option}' is '1000", "whole number of at least 1 and at most 10,")


def test_folders_of_files_to_write_are_made(unrolled, tiny_run, tmp_path):
    report = tmp_path / "a" / "b" / "page.html"
    assert unrolled("report", tiny_run, "--out", report).code == 0
    assert report.is_file()


def test_a_file_is_no_run_and_few_of_many_runs_are_named(unrolled, tmp_path):
    (tmp_path / "file").touch()
    unrolled("params", "file").assert_refused("it is a file")
    for i in range(30):
        (tmp_path / f"run-{i}").mkdir()
        (tmp_path / f"run-{i}" / "config.json").touch()
    outcome = unrolled("params", "none")
    outcome.assert_refused("there is no such directory", "and 20 more")


def test_settings_are_listed_on_a_narrow_terminal(unrolled, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    lines = unrolled("list").out.splitlines()
    # names and defaults are not broken up, prose is
    assert all(len(line) <= 40 for line in lines if "=" not in line)


def test_a_number_beyond_every_array_is_refused_in_a_short_message(unrolled):
    for arguments in (("bench", "--hiddens", "9" * 4000), ("sample", "run", "--top-k", "9" * 31)):
        outcome = unrolled(*arguments)
        assert outcome.code == 2
        assert "of at most 30 digits" in outcome.err
        assert len(outcome.err) < 250
