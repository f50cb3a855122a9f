"""Reports of whole, damaged, empty and different runs; what the page says."""

import json
import re

import made_runs
import pytest

from unrolled import report
from unrolled.errors import RunError
from unrolled.report import reading
from unrolled.report.page import pictures
from unrolled.report.reading import read_run, read_runs


@pytest.fixture
def run(tmp_path):
    return made_runs.language_model(tmp_path / "rnn", epochs=6)


def specs(page):
    """The pictures of a page by id."""
    data = re.search(r'<script type="application/json" id="specs">(.*?)</script>', page)[1]
    return {spec["id"]: spec for spec in json.loads(data)}


def test_a_page_shows_everything_that_a_run_has(run):
    page = report.write([run]).read_text()
    found = specs(page)
    assert set(found) == {
        *("loss", "perplexity", "gradient-norm", "parameter-gradients", "update-ratios"),
        *("through-time-1", "gradient-profile", "weight-gradient-split"),
        *("horizon_steps", "fall", "saturated"),
    }
    for spec in found.values():
        assert spec["title"]
        assert spec["x"]["title"]
        assert spec["y"]["title"]
    for heading in ("Diagnosis", "Learning", "Gradients", "Through time", "Samples",
                    "Parameters", "Settings", "Environment"):  # fmt: skip
        assert f"<h2>{heading}</h2>" in page
    assert "&lt;convenient&gt;" in page  # a sample is text, not HTML
    assert "W_hh" in page
    assert "num_hiddens" in page
    assert "2.13.0" in page


def test_both_norms_are_drawn_on_a_log_axis(run):
    chart = specs(report.write([run]).read_text())["gradient-norm"]
    assert chart["y"]["scale"] == "log"
    before, after = chart["series"]
    assert (before["label"], after["label"]) == ("before clipping", "after clipping")
    records = made_runs.read_lines(run / "telemetry.jsonl")
    assert before["y"] == pytest.approx([r["gradient_norm"] for r in records], rel=1e-4)
    assert after["y"] == pytest.approx([r["clipped_norm"] for r in records], rel=1e-4)
    assert chart["marks"] == [{"axis": "y", "at": 1, "label": "clipped at 1"}]
    clipped = sum(r["clip_coefficient"] < 1 for r in records) / len(records)
    assert f"{clipped:.0%} of the recorded steps were clipped" in chart["caption"]


def test_the_heatmap_holds_every_time_step_its_reach_and_its_border(tmp_path):
    run = made_runs.language_model(tmp_path / "cut", epochs=3, border=5)
    heatmap = specs(report.write([run]).read_text())["through-time-1"]
    records = made_runs.read_lines(run / "telemetry.jsonl")
    layers = [record["layers"]["layers.0"] for record in records]
    assert heatmap["columns"] == list(range(1, 25))
    assert heatmap["rows"] == list(range(35))
    for column, layer in zip(heatmap["values"], layers, strict=True):
        assert column == pytest.approx(layer["hidden_gradient_mean"], rel=1e-4)
    assert heatmap["overlays"][0]["y"] == [34 - layer["horizon_steps"] for layer in layers]
    assert heatmap["marks"] == [{"axis": "y", "at": 4.5, "label": "cut by truncation"}]


def test_a_long_run_makes_no_large_file(tmp_path, monkeypatch):
    run = made_runs.language_model(tmp_path / "long", epochs=130)
    assert report.write([run]).stat().st_size < 600_000
    monkeypatch.setattr(reading, "HURRY_BYTES", (run / "telemetry.jsonl").stat().st_size - 1)
    quick = read_run(run, "long", hurry=True)
    assert quick.every == 2
    assert "one was read" in quick.notes[0]


def test_damaged_lines_are_left_out_and_named(run):
    for name in ("metrics.jsonl", "telemetry.jsonl"):
        lines = (run / name).read_text().splitlines()
        lines[1] = lines[1][:20]
        lines[3] = "\x00\xff"
        lines[4] = "[1, 2]"
        (run / name).write_text("\n".join(lines)[:-9])
    found = read_run(run, "rnn")
    assert found.notes == [
        "telemetry.jsonl: lines 2, 4 to 5, 48 are damaged and left out",
        "metrics.jsonl: lines 2, 4 to 6 are damaged and left out",
    ]
    assert found.metrics[""].fields["loss"].series("").x == [1, 3]
    assert found.telemetry[""].steps == 44
    page = report.write([run]).read_text()
    assert "lines 2, 4 to 6 are damaged" in page


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe", b"[" * 100_000])
def test_empty_and_hopeless_files_still_give_a_report(run, content):
    for name in ("metrics.jsonl", "telemetry.jsonl", "summary.json", "environment.json"):
        (run / name).write_bytes(content)
    page = report.write([run]).read_text()
    word = "is empty" if not content.strip() else "holds no whole line"
    assert f"metrics.jsonl {word}" in page
    assert "summary.json is damaged" in page
    assert specs(page) == {}


def test_numbers_beyond_floats_and_text_among_the_measures_do_no_harm(run):
    lines = [
        '{"epoch": 1, "loss": NaN, "note": "text", "other": null}',
        '{"epoch": 2, "loss": 1e999, "other": 3}',
        '{"epoch": 3, "loss": 2.0, "other": true}',
        '{"neither": 1}',
    ]
    (run / "metrics.jsonl").write_text("\n".join(lines))
    found = specs(report.write([run]).read_text())
    assert found["loss"]["series"][0]["y"] == [None, None, 2]
    assert found["other"]["series"][0]["y"] == [None, 3]


def test_a_run_that_has_only_begun_has_a_report(tmp_path):
    (tmp_path / "config.json").write_text('{"experiment": "x", "settings": {"lr": 1}}')
    page = report.write([tmp_path]).read_text()
    for name in ("summary.json", "metrics.jsonl", "model.safetensors"):
        assert f"{name} is missing" in page


def test_models_of_one_run_are_told_apart(tmp_path):
    run = made_runs.explosion(tmp_path / "explosion")
    found = specs(report.write([run]).read_text())
    assert [s["label"] for s in found["gradient-norm"]["series"]] == [
        "unclipped: before clipping",
        "clipped: before clipping",
        "clipped: after clipping",
    ]
    assert 0 in found["gradient-norm"]["series"][0]["y"]  # dead: drawn at the foot of the axis
    styles = [(s["colour"], s["dash"]) for s in found["gradient-norm"]["series"]]
    assert len(set(styles)) == 3
    assert [s["label"] for s in found["accuracy"]["series"]] == ["unclipped", "clipped"]


def test_runs_of_one_name_are_called_by_more_of_their_path(tmp_path):
    for place in ("x", "y"):
        made_runs.language_model(tmp_path / place / "run", epochs=1, telemetry=False)
    runs = read_runs([tmp_path / "x/run", tmp_path / "y/run"])
    assert [run.name for run in runs] == ["x/run", "y/run"]


def test_runs_on_different_texts_are_called_so(tmp_path):
    runs = [
        made_runs.language_model(tmp_path / name, epochs=1, telemetry=False, max_tokens=tokens)
        for name, tokens in (("a", 1000), ("b", 2000))
    ]
    page = report.write(runs, out=tmp_path / "both.html").read_text()
    assert "learned from different data (max_tokens differ)" in page


def test_pictures_that_an_experiment_has_kept_are_drawn(run):
    from unrolled.report.spec import Axis, Chart, Heatmap, Series

    gates = Heatmap("gates", "Gates", Axis("t"), Axis("unit"), Axis("open", limits=(0, 1)),
                    [0, 1], [0, 1], [[0.5, 1], [0, None]], row_labels=["a", "b"])  # fmt: skip
    length = Chart("length", "Accuracy against length", Axis("length"), Axis("accuracy"),
                   [Series("SRN", [5, 10], [0.9, 0.5])])  # fmt: skip
    kept = [gates.as_dict(), length.as_dict()]
    made_runs.dump(run, "charts", kept)
    found = specs(report.write([run]).read_text())
    assert [found["gates"], found["length"]] == kept
    made_runs.dump(run, "charts", [{"kind": "pie"}])
    assert "charts.json is damaged" in report.write([run]).read_text()


def test_ids_are_unique(tmp_path):
    runs = [made_runs.explosion(tmp_path / name) for name in ("a", "b")]
    runs.append(made_runs.language_model(tmp_path / "c", epochs=1))
    page = report.write(runs, out=tmp_path / "all.html").read_text()
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    drawn, _ = pictures(read_runs(runs))
    assert sum(map(len, drawn.values())) == len(specs(page))


def test_where_there_is_no_run_it_says_so(tmp_path, run):
    with pytest.raises(RunError, match="is not a run directory: it does not exist"):
        report.write([tmp_path / "nowhere"])
    with pytest.raises(RunError, match="holds neither"):
        report.write([tmp_path])
    with pytest.raises(RunError, match="named twice"):
        report.write([run, run / "../rnn"])
    assert not (tmp_path / "report.html").exists()


def test_only_a_report_is_replaced(tmp_path, run):
    mine = tmp_path / "mine.html"
    mine.write_text("my own page")
    with pytest.raises(RunError, match="exists and is no report"):
        report.write([run], out=mine)
    assert mine.read_text() == "my own page"
    assert report.write([run]) == report.write([run])
    with pytest.raises(RunError, match="is a directory"):
        report.write([run], out=tmp_path)
    with pytest.raises(RunError, match="cannot be written"):
        report.write([run], out=mine / "where.html")  # in a file
    assert not list(tmp_path.glob("**/*.unfinished"))


def test_a_text_in_a_run_cannot_become_a_script(run):
    evil = "</script><script>alert(1)</script>"
    more = {"samples": {evil: evil}, evil: evil, "table": {evil: {evil: evil}}}
    made_runs.change(run, "summary", **more)
    made_runs.change(run, "config", settings={evil: evil})
    made_runs.write_lines(run / "metrics.jsonl", [{"epoch": 1, evil: 1.0, "part": evil}])
    assert evil not in report.write([run]).read_text()


@pytest.mark.parametrize(
    "part",
    [
        {"id": '"><script>alert(1)</script>'},
        {"id": "../../elsewhere"},
        {"group": "/tmp/elsewhere"},
        {"title": None},
        {"x": {"title": "x", "scale": "cubic"}},
        {"marks": [{"axis": "z", "at": 1, "label": ""}]},
        {"series": [{"label": "a", "x": ["1"], "y": [1]}]},
        {"series": [{"label": "a", "x": [1], "y": [True]}]},
        {"series": [{"label": "a", "x": [1], "y": [1], "dash": "wavy"}]},
        {"kind": "heatmap", "z": {"title": "z"}, "columns": [1, 2], "rows": [1], "values": [[1]]},
    ],
)
def test_pictures_of_another_form_are_left_out(run, part):
    chart = {"kind": "chart", "id": "a", "title": "A", "x": {"title": "x"}, "y": {"title": "y"}}
    if part.get("kind") != "heatmap":
        chart["series"] = []
    made_runs.dump(run, "charts", [chart | {"series": []}])
    assert read_run(run, "").problems == []
    assert "charts.json" not in report.write([run]).read_text()
    made_runs.dump(run, "charts", [chart | part])
    page = report.write([run]).read_text()
    assert "charts.json is damaged and left out" in page
    assert "alert(1)" not in page


def test_only_so_many_pictures_measures_and_columns_are_shown(run, monkeypatch):
    monkeypatch.setattr("unrolled.report.charts.MOST_SAVED", 3)
    monkeypatch.setattr("unrolled.report.reading.MOST_MEASURES", 5)
    monkeypatch.setattr("unrolled.report.tables.MOST_COLUMNS", 4)
    chart = {"kind": "chart", "id": "a", "title": "A", "x": {"title": "x"}, "y": {"title": "y"},
             "series": []}  # fmt: skip
    made_runs.dump(run, "charts", [chart] * 9)
    lines = [{"epoch": e, f"measure {e}": e} for e in range(1, 10)]
    made_runs.write_lines(run / "metrics.jsonl", lines)
    made_runs.dump(run, "summary", {"of": {f"r{i}": {f"c{i}": i} for i in range(9)}})
    page = report.write([run]).read_text()
    assert "charts.json has 9 pictures; 3 are shown" in page
    assert "measure-5" in page
    assert "measure-6" not in page
    assert "r8.c8" in page


def test_gradients_through_no_time_step_are_no_picture(run):
    records = made_runs.read_lines(run / "telemetry.jsonl")
    for record in records:
        record["layers"]["layers.0"]["hidden_gradient_mean"] = []
    made_runs.write_lines(run / "telemetry.jsonl", records)
    assert "Gradient through time" not in report.write([run]).read_text()


def test_the_command_writes_the_page_and_the_figures(unrolled, tmp_path):
    pytest.importorskip("matplotlib")
    run = made_runs.language_model(tmp_path / "run", epochs=2, telemetry=False)
    outcome = unrolled("report", run, "--figures", "figures")
    assert outcome.code == 0
    assert "report written to" in outcome.out
    page = (run / "report.html").read_text()
    names = {f"{id}.{kind}" for id in specs(page) for kind in ("png", "pdf")}
    assert len(names) == 6
    assert {file.name for file in (tmp_path / "figures").iterdir()} == names


def test_a_run_ends_with_its_report(unrolled, tmp_path, monkeypatch):
    assert unrolled("run", "linear-regression", "--out", "linear").code == 0
    assert set(specs((tmp_path / "linear/report.html").read_text())) >= {"loss", "gradient-norm"}

    def broken(*_, **__):
        raise OSError("no ink")

    monkeypatch.setattr("unrolled.report.write", broken)
    outcome = unrolled("run", "linear-regression", "--out", "other")
    assert outcome.code == 0
    assert "its report could not be written (no ink)" in outcome.out
    assert (tmp_path / "other/summary.json").exists()
