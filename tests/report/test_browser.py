"""The page in a real browser: nothing on the console, and every picture painted."""

import re

import browser
import made_runs
import pytest

from unrolled import report

pytestmark = browser.needed


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    layers = ("layers.0", "layers.1.backward")
    return [
        made_runs.language_model(path / "rnn", epochs=30, layers=layers, border=5),
        made_runs.explosion(path / "explosion"),
    ]


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)])
def test_a_report_is_painted_without_complaint(runs, tmp_path, width, dark):
    page = report.write(runs, out=tmp_path / "report.html").read_text()
    found, console = browser.look(page, tmp_path, width, dark)
    assert console == []
    expected = re.findall(r'role="img" id="([^"]+)"', page)
    assert len(expected) >= 15
    assert [each["id"] for each in found["pictures"]] == expected
    for each in found["pictures"]:
        assert each["painted"] > 500, each
        assert each["colours"] > 10, each  # axes, text and lines, blended at their edges
    assert found["wide"] <= width  # nothing stands out to the right
    assert found["inner"] == width
    red = int(re.search(r"\d+", found["ground"])[0])
    assert red < 60 if dark else red > 200


def test_without_a_network_nothing_is_missing(runs, tmp_path):
    page = report.write(runs, out=tmp_path / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert not re.findall(r"@import|url\(\s*['\"]?(?!data:)", page)
    assert "fetch(" not in page
    assert "XMLHttpRequest" not in page


def test_pushed_points_are_drawn_and_old_ones_thinned(tmp_path):
    from unrolled.report import notebook, spec

    line = spec.Series("train", [0.0], [1.0])
    chart = spec.Chart("c", "C", spec.Axis("x"), spec.Axis("y", "log"), [line])
    pushes = [
        notebook.push("board", [spec.Series("train", range(a, a + 1000), [a / 10 + 1.0] * 1000)])
        for a in range(1, 9001, 1000)
    ]
    pushes.append(notebook.push("board", [spec.Series("new", [0, 9000], [0.0, 5.0], colour=1)]))
    # the first pushes come before the element is there, as may happen in a notebook
    page = (
        "<!doctype html><body>"
        + "".join(f"<script>{code}</script>" for code in pushes[:2])
        + notebook.html(chart, "board")
        + "".join(f"<script>{code}</script>" for code in pushes[2:])
        + "</body>"
    )
    more = "unrolled.drawn.get('board').spec.series.map((s) => [s.label, s.x.length, s.x.at(-1)])"
    found, console = browser.look(page, tmp_path, more=more)
    assert console == []
    assert found["pictures"][0]["painted"] > 500
    (train, count, last), new = found["more"]
    assert (train, new) == ("train", ["new", 2, 9000])
    assert 2000 <= count <= 4000
    assert last > 8990
