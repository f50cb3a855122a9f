"""Where a watch writes, how it shows itself, and how it ends."""

import contextlib
import json
from importlib import import_module

import pytest

pytest.importorskip("torch")

import torch
from watching import step

from unrolled.errors import RunError, SettingError
from unrolled.telemetry import diagnose
from unrolled.telemetry.reading import read_telemetry
from unrolled.watch import watch


def train(model, steps=1):
    for _ in range(steps):
        model.zero_grad()
        step(model, model(torch.ones(5, 2, 3))[0].pow(2).sum(), lr=0.1)


@pytest.mark.parametrize(
    ("name", "taken", "free"),
    [("mine", [], "mine-2"), ("mine", ["mine-2"], "mine-3"), ("lstm-7", ["lstm-2"], "lstm-3")],
)
def test_a_name_that_is_taken_gives_the_next_free_one(name, taken, free, tmp_path):
    for each in (name, *taken):
        (tmp_path / each).mkdir()
        (tmp_path / each / "mine.txt").write_text("mine")
    with pytest.warns(
        RuntimeWarning, match=rf"{name}' already holds.*{free}'.*overwrite=True"
    ) as told:
        watched = watch(torch.nn.GRU(3, 5), out=tmp_path / name)
    assert told[0].filename == __file__  # it is about the line that called
    with watched:
        train(watched.model)
    assert watched.path == tmp_path / free
    assert (tmp_path / free / "telemetry.jsonl").read_text()
    assert [path.name for path in (tmp_path / name).iterdir()] == ["mine.txt"]


def test_a_run_can_be_replaced_and_nothing_else(tmp_path):
    out, model = tmp_path / "mine", torch.nn.GRU(3, 5)
    for steps in (3, 1):
        with watch(model, out=out, overwrite=True):
            train(model, steps)
        assert json.loads((out / "summary.json").read_text())["steps"] == steps
        assert len((out / "telemetry.jsonl").read_text().splitlines()) == steps
        (out / "charts").mkdir()
    (tmp_path / "code").mkdir()
    for name in ("config.json", "main.py"):
        (tmp_path / "code" / name).write_text("{}")
    with pytest.raises(RunError, match=r"no run: overwrite=True replaces only runs"):
        watch(model, out=tmp_path / "code", overwrite=True)
    assert (tmp_path / "code" / "main.py").read_text() == "{}"


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_what_cannot_be_made_is_said_in_python_s_words(place, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"give a(nother)? directory as out") as error:
        watch(torch.nn.GRU(3, 5), out=tmp_path / place)
    assert "--" not in str(error.value)


def test_a_watch_a_record_and_findings_are_readable(tmp_path):
    model = torch.nn.GRU(3, 5)
    with watch(model, out=tmp_path / "a<b") as watched:
        assert "no record so far" in repr(watched)
        train(model)
        record = watched.last
        watched.notes["x"] = "1 < 2"
        for text in (repr(watched), repr(record)):
            assert "step 1" in text
            assert f"gradient norm: {record.gradient_norm:.4g}" in text
            assert "learning rate: 0.1" in text
            assert "gru: |dL/dh|" in text
            assert len(text) < 1000
        page = watched._repr_html_()
        assert "a&lt;b" in page
        assert "1 &lt; 2" in page
        assert "<table>" in record._repr_html_()
    assert repr(watched).startswith("watch (closed)")
    del watched.notes["x"]
    norms = [1.0] * 30 + [float("nan")]
    found = diagnose(type(record)(s, None, 2.0, norm) for s, norm in enumerate(norms, 1))
    assert repr(found).startswith("serious: NaN, step 31")
    assert "What to do: " in repr(found)
    assert "<b>serious: NaN, step 31" in found._repr_html_()
    assert (found == list(found), watched.diagnose() == []) == (True, True)
    assert repr(watched.diagnose()) == "nothing to report"
    assert "nothing to report" in watched.diagnose()._repr_html_()


@pytest.mark.parametrize("module", ["unrolled.telemetry", "unrolled.torch"])
def test_watch_looked_for_in_its_old_place_is_answered_with_the_new_one(module):
    with pytest.raises(AttributeError, match=r"from unrolled\.watch import watch"):
        import_module(module).watch  # noqa: B018


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, None])
def test_records_go_to_a_run_that_says_how_it_ended(error, tmp_path, unrolled):
    out, model = tmp_path / "mine", torch.nn.GRU(3, 5)
    with contextlib.suppress(ZeroDivisionError, KeyboardInterrupt):  # noqa: SIM117
        with watch(model, out=out) as watched:
            train(model, steps=3)
            kept = watched.records
            if error is not None:
                raise error
    read, skipped = read_telemetry(out / "telemetry.jsonl")
    assert (list(read), skipped) == (kept, [])
    config, summary = (
        json.loads((out / name).read_text()) for name in ("config.json", "summary.json")
    )
    assert (config["experiment"], config["settings"]["model"]) == ("watch", "GRU")
    assert summary["status"] == ("finished" if error is None else "interrupted")
    assert summary["steps"] == 3
    outcome = unrolled("diagnose", out)
    assert (outcome.code, outcome.err) == (0, "")
    assert not any(module._forward_hooks for module in model.modules())


def test_a_closed_watch_says_that_it_is():
    model = torch.nn.GRU(3, 5)
    with watch(model) as watched:
        train(model)
    with pytest.raises(SettingError, match="closed"), watched:
        train(model)
    assert watched.last.step == 1


def test_a_sink_that_raises_an_error_ends_no_training():
    seen = []

    def sink(record):
        seen.append(record.step)
        if record.step < 3:
            raise ConnectionError("the tracker is down")

    model = torch.nn.GRU(3, 5)
    with watch(model, sink=sink) as watched:
        with pytest.warns(RuntimeWarning, match="ConnectionError at step 1: the tracker"):
            train(model)
        for _ in range(2):  # warnings are errors: there is no second one
            train(model)
        assert "tracker is down" in watched.notes["sink"]
        assert seen == [record.step for record in watched.records] == [1, 2, 3]
