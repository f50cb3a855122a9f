"""Several runs on one page: what stands side by side, on which axes, and what differs."""

import json
import re
import shutil

import made_runs
import pytest
from test_report import specs

from unrolled import report


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    return {
        "a": made_runs.language_model(path / "a", epochs=3),
        "b": made_runs.language_model(path / "b", epochs=6, seed=1, lr=2.0, num_steps=20),
        "bare": made_runs.language_model(path / "bare", epochs=4, telemetry=False),
        "mine": made_runs.watched(path / "mine", 30, bad={4, 5}),
        "yours": made_runs.watched(path / "yours", 9),
    }


@pytest.fixture
def page(runs, tmp_path):
    def write(*names):
        file = tmp_path / "compared.html"
        return report.write([runs[name] for name in names], out=file).read_text()

    return write


def head(page):
    """What stands before the sections, as text."""
    return re.sub(r"<[^>]+>", " ", page[page.index("<h1>") : page.index("<nav")])


@pytest.mark.parametrize("names", [("a", "b"), ("mine", "yours"), ("a", "b", "mine", "yours")])
def test_the_same_chart_of_every_run_has_the_same_axes_and_colours(page, names):
    text = page(*names)
    found = specs(text)
    groups = {}
    for spec in found.values():
        if spec["group"]:
            groups.setdefault(spec["group"], []).append(spec)
    assert {"gradient-norm", "parameter-gradients", "update-ratios", "through-time-1"} <= set(
        groups
    )
    for group, members in groups.items():
        if group == "loss":  # of different experiments: not on one axis
            continue
        assert ", ".join(m["title"].split(" · ")[1] for m in members) == ", ".join(names)
        ids = [f'id="{m["id"]}"' for m in members]
        (row,) = [r for r in re.split('class="grid', text) if all(id in r for id in ids)]
        assert row.count("<figure") == len(members)  # they stand in a row of their own
        for axis in "xy":
            assert all(m[axis] == members[0][axis] for m in members)
            scale, (low, high) = members[0][axis]["scale"], members[0][axis]["limits"] or (0, 1e9)
            for m in members:
                lines = [
                    v for s in m.get("series", ()) for v in (s["x"] if axis == "x" else s["y"])
                ]
                assert all(low <= v <= high or (scale == "log" and v <= 0)
                           for v in lines if v is not None)  # fmt: skip
        if members[0]["kind"] == "heatmap":
            assert len({tuple(m["range"].values()) for m in members}) == 1
            values = [v for m in members for column in m["values"] for v in column if v]
            assert members[0]["range"]["high"] == pytest.approx(max(values), rel=1e-4)


def test_runs_with_a_line_each_share_a_chart(page):
    found = specs(page("a", "b", "bare"))
    assert [s["label"] for s in found["loss"]["series"]] == ["a", "b", "bare"]
    assert [s["label"] for s in found["horizon_steps"]["series"]] == ["a", "b"]
    assert len({(s["colour"], s["dash"]) for s in found["loss"]["series"]}) == 3


def test_a_parameter_has_one_colour_in_all_runs(page, tmp_path):
    names = [f"layer{i}" for i in range(30)]
    for name, order in (("up", names), ("down", names[::-1])):
        made_runs.watched(tmp_path / name, 5, names=order)
    paths = [tmp_path / "up", tmp_path / "down"]
    found = specs(report.write(paths, out=tmp_path / "both.html").read_text())
    styles = [
        {s["label"]: s["colour"] for s in found[f"parameter-gradients-{name}"]["series"]}
        for name in ("up", "down")
    ]
    assert len(styles[0]) == 10
    assert styles[0] == styles[1]
    assert "the 10 of 30 parameters" in found["update-ratios-up"]["note"]


def test_what_differs_stands_under_the_title(page):
    text = head(page("a", "b"))
    assert re.search(r"seed\s+0\s+1\s", text)
    assert re.search(r"lr\s+1\s+2\s", text)
    assert re.search(r"num_steps\s+35\s+20\s", text)
    assert "num_hiddens" not in text
    assert "not comparable" not in text
    assert re.search("lr +1 +2 +\N{EN DASH} ", head(page("a", "b", "mine")))
    assert re.search(r"recorded steps\s+30\s+9\s", head(page("mine", "yours")))


def test_where_nothing_differs_it_is_said(runs, tmp_path):
    twice = tmp_path / "twice"
    shutil.copytree(runs["mine"], twice)
    page = report.write([runs["mine"], twice], out=tmp_path / "both.html").read_text()
    assert "are the same in all runs" in head(page)


def test_what_only_one_has_is_said(page):
    text = head(page("a", "bare"))
    assert "Only a: " in text
    assert "Saturated units" in text
    assert "Perplexity" not in text
    mixed = head(page("a", "mine"))
    assert "different experiments (language-model: a; watch: mine)" in mixed
    assert re.search(r"Only a: [^.]*Perplexity", mixed)
    assert re.search(r"Only mine: [^.]*Learning rate", mixed)


def test_losses_of_different_experiments_have_axes_of_their_own(page):
    found = specs(page("a", "mine", "yours"))
    lm, watched = (found[f"loss-{name}"] for name in ("a", "mine-yours"))
    assert (lm["y"]["title"], watched["y"]["title"]) == ("loss (nats per character)", "loss")
    assert [s["label"] for s in watched["series"]] == ["mine", "yours"]
    assert lm["y"]["limits"] != watched["y"]["limits"]


def test_lines_of_different_experiments_do_not_share_a_chart(runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs["bare"], other)
    made_runs.change(other, "config", experiment="mine")
    found = specs(report.write([runs["bare"], other], out=tmp_path / "both.html").read_text())
    charts = [found[f"perplexity-{name}"] for name in ("bare", "other")]
    assert [len(chart["series"]) for chart in charts] == [1, 1]
    assert charts[0]["group"] == charts[1]["group"] == "perplexity"


def test_shades_of_compared_runs_name_the_run(page):
    loss = specs(page("mine", "yours"))["loss"]
    assert [(s["start"], s["end"], s["label"]) for s in loss["shades"]] == [
        (4, 5, "mine: not finite")
    ]
    assert loss["shades"][0]["colour"] == loss["series"][0]["colour"]


def settings_of(run):
    text = report.write([run]).read_text()
    section = re.search('<section id="settings">.*?</section>', text, re.DOTALL)[0]
    return dict(re.findall("<tr><th[^>]*>(.*?)</th><td>(.*?)</td>", section))


def test_settings_show_what_was_used(tiny_run):
    found = settings_of(tiny_run)
    given = json.loads((tiny_run / "config.json").read_text())["settings"]
    assert given["back_steps"] is given["text"] is None
    assert found["back_steps"] == str(given["num_steps"])
    assert found["text"] == "The Time Machine"
    assert found["prefix"] == "time traveller, traveller"
    assert int(found["telemetry_every"]) >= 1
    assert found["engine"].startswith(("fast", "reference"))
    assert "none" not in found.values()


def test_settings_of_an_older_run_that_nobody_recorded_are_called_so(tmp_path):
    run = made_runs.language_model(tmp_path / "run", epochs=1, telemetry=False)
    assert settings_of(run)["text"] == "not given"
