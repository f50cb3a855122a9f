"""Clock, sums and plots of the books' loops."""

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from installed import INSTALLED
from unrolled.d2l import tools
from unrolled.errors import DataError
from unrolled.frameworks import load
from unrolled.report import notebook


def test_a_timer_keeps_every_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 11.5, 20.0, 20.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    timer = tools.Timer()
    assert timer.stop() == 1.5
    timer.start()
    assert timer.stop() == 0.5
    assert (timer.sum(), timer.avg(), timer.cumsum()) == (2.0, 1.0, [1.5, 2.0])


@pytest.mark.parametrize("name", INSTALLED)
def test_shapes_and_lengths_are_checked(name: str) -> None:
    a = load(name, "unrolled.d2l").ones((2, 3))
    tools.check_shape(a, (2, 3))
    tools.check_len([a, a], 2)
    with pytest.raises(DataError, match=r"the shape is \(2, 3\); expected \(3, 2\)"):
        tools.check_shape(a, (3, 2))
    with pytest.raises(DataError, match="the length is 1; expected 2"):
        tools.check_len([a], 2)


def test_an_accumulator_adds_up_and_begins_anew() -> None:
    metric = tools.Accumulator(2)
    metric.add(np.float32(1.5), 2)
    metric.add(0.5, True)
    assert (metric[0], metric[1]) == (2.0, 3.0)
    metric.reset()
    assert metric.data == [0.0, 0.0]
    with pytest.raises(ValueError, match="argument"):
        metric.add(1.0)


def test_an_accumulator_keeps_no_graph() -> None:
    torch = pytest.importorskip("torch")
    metric = tools.Accumulator(1)
    metric.add((torch.ones(3, requires_grad=True) * 2).sum())
    assert metric.data == [6.0]
    assert type(metric[0]) is float


def test_an_animator_draws_every_line_under_its_name() -> None:
    animator = tools.Animator(xlabel="epoch", legend=["a", "b"], xlim=[1, 3], yscale="log")
    animator.add(1, (0.5, None))
    animator.add(2, (0.25, 3))
    animator.add(3, [0.125])
    assert animator.board.points["a"] == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert animator.board.points["b"] == [(2, 3.0)]
    chart = animator.board.chart()
    assert (chart.x.title, chart.x.limits, chart.y.scale) == ("epoch", (1, 3), "log")
    assert [line.dash for line in chart.series] == ["solid", "dashed"]


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        (([3, 1, 2],), [([0, 1, 2], [3, 1, 2])]),
        (([1, 2], [3, 4]), [([1, 2], [3, 4])]),
        (([1, 2], [[3, 4], [5, 6]]), [([1, 2], [3, 4]), ([1, 2], [5, 6])]),
        (([[1, 2], [7, 8]], [[3, 4], [5, 6]]), [([1, 2], [3, 4]), ([7, 8], [5, 6])]),
        ((np.array([1, 2]), np.array([[3, 4]])), [([1, 2], [3, 4])]),
    ],
)
def test_plot_takes_one_line_or_several(given: Any, lines: Any) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    axes = figure.Figure().add_subplot()
    tools.plot(
        *given, xlabel="x", ylabel="y", legend=["first"], xscale="log", xlim=(1, 5), axes=axes
    )
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines] == lines
    assert axes.lines[0].get_label() == "first"
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "x (log scale)")


@pytest.mark.parametrize("name", INSTALLED)
def test_a_line_may_be_a_column(name: str) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    column = load(name, "unrolled.d2l").tensor([[1.0], [2.0]])
    axes = figure.Figure().add_subplot()
    tools.plot([0, 1], [column, np.array([[3.0], [4.0]])], axes=axes)
    assert [list(line.get_ydata()) for line in axes.lines] == [[1, 2], [3, 4]]


def test_plot_shows_in_a_notebook_and_is_silent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    tools.plot([1, 2])
    monkeypatch.setattr(notebook, "shell", lambda: SimpleNamespace(execution_count=1))
    monkeypatch.setattr(notebook, "Output", lambda chart, width: shown.append((chart, width)))
    tools.plot([1, 2], ylabel="count", figsize=(2, 2))
    ((chart, width),) = shown
    assert chart.y.title == "count"
    assert chart.series[0].y == [1.0, 2.0]
    assert width == "260px"


def test_set_figsize_is_matplotlibs_default() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context():
        tools.set_figsize((2, 1))
        assert matplotlib.rcParams["figure.figsize"] == [2, 1]
