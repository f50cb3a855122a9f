import hashlib
import math
import sys

import made_runs
import pytest

from unrolled import report
from unrolled.errors import MissingPackageError, RunError
from unrolled.report.spec import Axis, Chart, Heatmap, Mark, Series, Shade, on_same_axes

pytest.importorskip("matplotlib")

from unrolled.report.figures import as_written, draw, new_figure, save


@pytest.fixture
def axes():
    return new_figure((6, 4)).add_subplot()


def test_lines_bands_and_marks_are_drawn_as_specified(axes):
    lines = [
        Series("a", [1, 2, 3], [1.0, None, 3.0], [0.5, None, 2], [2, None, 4], 1, "dashed"),
        Series("b", [1, 3], [2.0, 2.0], colour="red", dash="dotted"),
    ]
    draw(axes, Chart("c", "C", Axis("epoch"), Axis("loss"), lines, [Mark("y", 2.5, "limit")]))
    a, b, limit = axes.get_lines()
    assert a.get_ydata()[[0, 2]].tolist() == [1, 3]
    assert math.isnan(a.get_ydata()[1])
    assert (a.get_linestyle(), b.get_linestyle()) == ("--", ":")
    assert (a.get_color(), b.get_color()) == ("#d55e00", "red")
    assert limit.get_ydata()[0] == 2.5
    assert len(axes.collections) == 1
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss")
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a", "b", "limit"]


def test_zero_on_a_log_axis_lies_at_its_foot(axes):
    line = Series("norm", [1, 2, 3], [100.0, 0.02, 0.0])
    draw(axes, Chart("c", "C", Axis("step"), Axis("norm", "log"), [line]))
    (drawn,) = axes.get_lines()
    assert drawn.get_ydata().tolist() == [100, 0.02, 0.001]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert dict(zip(axes.get_yticks(), names, strict=True))[0.001] == "0"
    assert axes.get_ylabel() == "norm (log scale)"


def test_a_heatmap_has_its_values_in_place(axes):
    values = [[0.1, 1.0, 10.0], [0.2, None]]
    picture = Heatmap("h", "H", Axis("step"), Axis("t"), Axis("norm", "log"), [1, 2], [0, 1, 2],
                      values, overlays=[Series("horizon_steps", [1, 2], [1, None])])  # fmt: skip
    draw(axes, picture)
    mesh = axes.collections[0]
    grid = mesh.get_array()
    assert grid.shape == (3, 2)
    assert grid[2, 0] == 10
    assert grid[0, 1] == 0.2
    assert math.isnan(grid.filled(math.nan)[2, 1])
    assert axes.figure.axes[1].get_ylabel() == "norm (log scale)"


def test_shades_lie_where_they_are_said_to_and_are_wide_enough(axes):
    line = Series("a", list(range(1, 1001)), [1.0] * 1000)
    shades = [Shade(400, 600, "not finite"), Shade(900, 900, "not finite")]
    draw(axes, Chart("c", "C", Axis("step", whole=True), Axis("loss"), [line], shades=shades))
    wide, narrow = (patch.get_extents().transformed(axes.transData.inverted())
                    for patch in axes.patches)  # fmt: skip
    assert (wide.x0, wide.x1) == pytest.approx((400, 600))
    assert narrow.x0 < 900 < narrow.x1
    assert narrow.width > 2
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a", "not finite"]


def test_points_without_neighbours_are_marked(axes):
    lines = [
        Series("a", range(5), [None, 2.0, None, 3.0, 4.0]),
        Series("b", range(2), [1.0, 2.0]),
    ]
    draw(axes, Chart("c", "C", Axis("step"), Axis("loss"), lines))
    a, b = axes.get_lines()
    assert (a.get_marker(), a.get_markevery()) == ("o", [1])
    assert b.get_marker() == "None"


def test_a_group_is_one_file_with_the_same_axes(tmp_path, monkeypatch):
    from unrolled.report import figures

    made = []
    monkeypatch.setattr(
        figures, "new_figure", lambda size: made.append(new_figure(size)) or made[0]
    )
    lines = [Series("a", [1, 2], [1.0, 2.0])], [Series("a", [1, 9], [30.0, 4.0])]
    pair = [Chart(f"c-{i}", "C", Axis("step"), Axis("loss"), line, note="Cut off.", group="c")
            for i, line in enumerate(lines)]  # fmt: skip
    assert [file.name for file in save(on_same_axes(pair), tmp_path)] == ["c.png", "c.pdf"]
    left, right = made[0].axes
    assert left.get_ylim() == right.get_ylim()
    assert left.get_xlim() == right.get_xlim() == (1, 9)
    assert left.get_xlabel() == "step\nCut off."


@pytest.mark.parametrize(
    "chart",
    [
        Chart("empty", "Nothing", Axis("x"), Axis("y", "log"), []),
        Chart("gaps", "Gaps", Axis("x"), Axis("y", "log"), [Series("a", [1, 2], [None, None])]),
        Chart("zero", "Zero", Axis("x"), Axis("y", "log"), [Series("a", [1, 2], [0, 0])]),
        Chart("same", "Same", Axis("x"), Axis("y", "log"), [Series("a", [1], [5])]),
        Heatmap("one", "One", Axis("x"), Axis("y"), Axis("z", "log"), [1], [0], [[0.0]]),
        Heatmap("no", "No", Axis("x"), Axis("y"), Axis("z"), [1], [0], [[None]]),
    ],
    ids=lambda chart: chart.id,
)
def test_pictures_without_much_in_them_can_be_drawn(axes, chart, tmp_path):
    assert [file.suffix for file in save([chart], tmp_path)] == [".png", ".pdf"]


def test_texts_are_no_formulas_and_unknown_colours_no_error(tmp_path):
    line = Series(r"$\frac{", [1, 2], [1.0, 2.0], colour="no colour")
    chart = Chart("c", "$a$ costs $5", Axis("$x"), Axis("y$$"), [line], [Mark("y", 1, "$_$")])
    assert as_written(chart).title == r"\$a\$ costs \$5"
    assert as_written(chart).series[0].y == [1.0, 2.0]
    assert [file.name for file in save([chart], tmp_path)] == ["c.png", "c.pdf"]


def test_the_same_pictures_give_the_same_files(tmp_path):
    line = Series("a", [1, 2], [1.0, 2.0], [0.5, 1.0], [2.0, 3.0])
    chart = Chart("c", "C", Axis("x"), Axis("y", "log"), [line])
    sums = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        files = save([chart], tmp_path / name)
        sums.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert sums[0] == sums[1]


def test_without_matplotlib_nothing_is_written_and_the_error_names_the_command(
    tmp_path, monkeypatch
):
    run = made_runs.language_model(tmp_path / "run", epochs=1, telemetry=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match="pip install matplotlib"):
        report.write([run], figures=tmp_path / "figures")
    assert not (run / "report.html").exists()
    assert not (tmp_path / "figures").exists()
    assert report.write([run]).exists()


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    run = made_runs.language_model(tmp_path / "run", epochs=1, telemetry=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        report.write([run], figures=tmp_path / "file")
    assert not (run / "report.html").exists()
