"""The report of a watched run, on a page and inside a notebook."""

import html
import re

import browser
import made_runs
import pytest
from test_report import specs

from unrolled import report
from unrolled.errors import SettingError
from unrolled.report import notebook, spec
from unrolled.report.telemetry import Telemetry
from unrolled.telemetry.records import TelemetryRecord


def found(run):
    return specs(report.write([run]).read_text())


def test_loss_and_learning_rate_of_a_watched_run_are_drawn(tmp_path):
    run = made_runs.watched(tmp_path / "run", 8, rate=lambda step: 0.1 * 0.5**step)
    charts = found(run)
    assert charts["loss"]["series"][0]["y"] == pytest.approx([1 / s for s in range(1, 9)], rel=1e-4)
    assert (charts["loss"]["x"]["title"], charts["loss"]["y"]["title"]) == ("training step", "loss")
    rates = charts["learning-rate"]["series"]
    assert [line["label"] for line in rates] == ["learning rate"]
    assert rates[0]["y"] == pytest.approx([0.1 * 0.5**s for s in range(1, 9)], rel=1e-4)
    assert charts["learning-rate"]["y"] == {
        "title": "learning rate", "scale": "log", "limits": None, "whole": False
    }  # fmt: skip


def test_parameter_groups_have_lines_from_where_they_differ():
    telemetry = Telemetry()
    for step, rates in enumerate([[], [0.1, 0.01], [], [0.3, 0.03]], 1):
        first = rates[0] if rates else 0.1
        telemetry.add(TelemetryRecord(step, None, 1.0, 1.0, learning_rate=first,
                                      learning_rates=rates))  # fmt: skip
    lines = {name: line.series("").y for name, line in telemetry.learning_rates.items()}
    assert lines == {"group 1": [0.1, 0.1, 0.1, 0.3], "group 2": [0.1, 0.01, 0.1, 0.03]}


def test_where_no_loss_was_recorded_it_is_said_how(tmp_path):
    run = made_runs.watched(tmp_path / "run", 3, loss=False)
    page = report.write([run]).read_text()
    assert "loss" not in specs(page)
    assert "call watched.loss(loss) before the optimizer&#x27;s step" in page


def test_steps_that_were_not_finite_are_shaded_and_counted(tmp_path):
    run = made_runs.watched(tmp_path / "run", 20, bad={7, 8, 9, 15})
    charts = found(run)
    for id in ("loss", "gradient-norm", "parameter-gradients", "through-time-1", "fall"):
        assert [(s["start"], s["end"]) for s in charts[id]["shades"]] == [(7, 9), (15, 15)], id
    assert "4 recorded steps with NaN or infinity, the first is 7" in charts["loss"]["note"]
    assert charts["gradient-profile"]["shades"] == []  # its axis is no training step


def test_epochs_whose_loss_was_not_finite_are_shaded(tmp_path):
    run = made_runs.language_model(tmp_path / "run", epochs=4, telemetry=False)
    lines = made_runs.read_lines(run / "metrics.jsonl")
    lines[-1] |= {"loss": None, "perplexity": None}
    made_runs.write_lines(run / "metrics.jsonl", lines)
    charts = found(run)
    for id in ("loss", "perplexity", "gradient-norm"):
        assert [(s["start"], s["end"]) for s in charts[id]["shades"]] == [(4, 4)]


def test_what_is_cut_off_is_said(tmp_path):
    layers = tuple(f"layers.{i}" for i in range(12))
    run = made_runs.language_model(tmp_path / "wide", epochs=1, num_steps=300, layers=layers)
    charts = found(run)
    heatmap, rows = (charts["through-time-1"][name] for name in ("note", "rows"))
    assert (len(rows), rows[:2]) == (100, [1, 4])
    assert "Each row is the mean of 3 time steps." in heatmap
    assert "The colours end 10 decades below" in heatmap
    assert "the first 10 of 12 layers" in heatmap
    assert "through-time-11" not in charts
    run = made_runs.language_model(tmp_path / "long", epochs=38, num_steps=2)
    assert "mean of up to 2 recorded" in found(run)["parameter-gradients"]["note"]


@browser.needed
def test_one_finite_point_is_painted(tmp_path):
    values = [[None, 2.0] + [None] * 98, [None] * 100, [0.5], [None]]
    axes = spec.Axis("step", whole=True), spec.Axis("loss", limits=(0, 3))
    page = ""
    for i, y in enumerate(values):
        line = spec.Series("loss", list(range(1, len(y) + 1)), y)
        page += notebook.html(spec.Chart("c", "C", *axes, [line]), f"c{i}")
    seen, console = browser.look(f"<body>{page}</body>", tmp_path)
    assert console == []
    among_gaps, gaps, alone, gap = (each["painted"] for each in seen["pictures"])
    assert among_gaps > gaps + 8
    assert alone > gap + 8


def test_a_run_and_a_watch_show_themselves_in_a_notebook(tmp_path):
    torch = pytest.importorskip("torch")
    from unrolled.watch import watch

    model = torch.nn.LSTM(3, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model) as watched:
        for _ in range(3):
            model(torch.ones(7, 2, 3))[0].sum().backward()
            optimizer.step()
        shown = report.show(watched, made_runs.watched(tmp_path / "run", 3))
    assert "\n" not in repr(shown)
    assert repr(shown).startswith("report of watch: watch, kept in memory | run: watch, torch")
    page = html.unescape(re.fullmatch(r'<iframe srcdoc="([^"]*)" .*</iframe>', shown._repr_html_(),
                                      re.DOTALL)[1])  # fmt: skip
    assert {"gradient-norm-watch", "gradient-norm-run"} <= set(specs(page))
    assert len(specs(page)["gradient-norm-watch"]["series"][0]["x"]) == 3


def test_what_is_no_run_cannot_be_shown():
    with pytest.raises(SettingError, match="run directories and watches; it was given a list"):
        report.show([])


@browser.needed
def test_two_reports_in_one_notebook_do_not_meet(tmp_path):
    runs = [made_runs.watched(tmp_path / name, 4) for name in "ab"]
    page = "".join(report.show(run)._repr_html_() for run in runs)
    more = """[...document.querySelectorAll("iframe")].map(({ contentDocument: page }) => {
        [...page.querySelectorAll("nav a")].at(-1).click();
        return [page.querySelector("h1").textContent,
                page.querySelectorAll("[data-drawn]").length, page.scrollingElement.scrollTop]})"""
    found, console = browser.look(f"<body>{page}</body>", tmp_path, more=more)
    assert console == []
    (a, drawn, scrolled), (b, same, _) = found["more"]
    assert (a, b) == ("a", "b")
    assert scrolled > 100  # a link leads to its part, and to no other page
    assert drawn == same > 5
    assert found["pictures"] == []  # nothing of theirs is in the notebook's own page
