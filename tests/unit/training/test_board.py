import builtins
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.training import board as board_module
from unrolled.training.board import ProgressBoard

# no window is opened: the board uses matplotlib's Figure, whose canvas is Agg


@pytest.fixture
def lines():
    pytest.importorskip("matplotlib")

    def lines(board):
        (axes,) = board.figure().axes
        return {line.get_label(): line for line in axes.get_lines()}

    return lines


@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.integers(1, 7))
def test_every_n_points_become_their_mean(ys, n):
    board = ProgressBoard(display=False)
    for x, y in enumerate(ys):
        board.draw(x, y, "loss", every_n=n)
    groups = [ys[i : i + n] for i in range(0, len(ys) - n + 1, n)]
    points = board.points["loss"]
    assert [x for x, _ in points] == [i * n + (n - 1) / 2 for i in range(len(groups))]
    assert [y for _, y in points] == pytest.approx([sum(g) / n for g in groups], abs=1e-6)


def test_lines_are_averaged_apart():
    board = ProgressBoard(display=False)
    for x in range(4):
        board.draw(x, 10 * x, "train", every_n=2)
        board.draw(x, 100 * x, "val")
    assert board.points["train"] == [(0.5, 5.0), (2.5, 25.0)]
    assert board.points["val"] == [(0.0, 0.0), (1.0, 100.0), (2.0, 200.0), (3.0, 300.0)]


def test_a_point_that_waits_for_others_is_not_drawn_yet():
    board = ProgressBoard(display=False)
    board.draw(0, 1.0, "loss", every_n=2)
    assert not board.points


def test_points_are_plain_floats_whatever_comes_in():
    board = ProgressBoard(display=False)
    board.draw(np.int64(1), np.float32(0.5), "loss")
    assert board.points["loss"] == [(1.0, 0.5)]
    assert [type(value) for value in board.points["loss"][0]] == [float, float]


def test_the_figure_shows_every_line_with_its_points_style_and_label(lines):
    board = ProgressBoard(ls=["-", ":"], colors=["red", "blue"], display=False)
    for label in ("one", "two", "three"):
        board.draw(0, 1, label)
        board.draw(2, 5, label)
    drawn = lines(board)
    assert list(drawn) == ["one", "two", "three"]
    for line in drawn.values():
        assert line.get_xydata().tolist() == [[0, 1], [2, 5]]
    assert [line.get_linestyle() for line in drawn.values()] == ["-", ":", "-"]
    assert [line.get_color() for line in drawn.values()] == ["red", "blue", "red"]
    (axes,) = board.figure().axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(drawn)


def test_the_options_reach_the_axes(lines):
    board = ProgressBoard(
        xlabel="epoch",
        ylabel="loss",
        xlim=[1, 10],
        ylim=(0.1, 100),
        xscale="linear",
        yscale="log",
        figsize=(5, 4),
        display=False,
    )
    board.draw(1, 2, "train")
    figure = board.figure()
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss")
    assert (axes.get_xlim(), axes.get_ylim()) == ((1, 10), (0.1, 100))
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    assert figure.get_size_inches().tolist() == [5, 4]


def test_a_figure_without_points_can_be_drawn(lines):
    board = ProgressBoard(display=False)
    assert lines(board) == {}
    board.figure().canvas.draw()


def test_drawing_again_replaces_the_lines(lines):
    board = ProgressBoard(display=False)
    board.draw(0, 1, "loss")
    first = board.figure()
    board.draw(1, 2, "loss")
    assert lines(board)["loss"].get_xydata().tolist() == [[0, 1], [1, 2]]
    assert board.figure() is first


def test_a_given_figure_and_axes_are_drawn_on():
    figures = pytest.importorskip("matplotlib.figure")
    figure = figures.Figure()
    left, right = figure.subplots(1, 2)
    board = ProgressBoard(fig=figure, axes=right, display=False)
    board.draw(0, 1, "loss")
    assert board.figure() is figure
    assert figure.axes == [left, right]
    assert len(right.get_lines()) == 1
    assert not left.get_lines()


def test_the_picture_can_be_saved(tmp_path):
    pytest.importorskip("matplotlib")
    board = ProgressBoard("epoch", yscale="log", display=False)
    board.draw(0, 1, "loss")
    board.draw(1, 0.1, "loss")
    path = tmp_path / "curve.png"
    board.figure().savefig(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_points_are_kept_and_the_figure_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    board = ProgressBoard()
    board.draw(0, 1, "loss")
    assert board.points["loss"] == [(0.0, 1.0)]
    with pytest.raises(ImportError, match="pip install matplotlib"):
        board.figure()


@pytest.fixture
def notebook(monkeypatch):
    """What a notebook is shown: a list of new pictures and updates."""
    pytest.importorskip("matplotlib")
    ipython = pytest.importorskip("IPython.display")
    shown = []

    def display(figure, display_id):
        shown.append("new")
        return SimpleNamespace(update=lambda figure: shown.append("update"))

    monkeypatch.setattr(ipython, "display", display)
    monkeypatch.setattr(board_module, "_in_notebook", lambda: True)
    return shown


def test_in_a_notebook_one_picture_is_shown_and_then_updated(notebook, monkeypatch):
    monkeypatch.setattr(board_module, "REDRAW_EVERY_S", 0.0)
    board = ProgressBoard()
    for x in range(3):
        board.draw(x, x, "loss")
    assert notebook == ["new", "update", "update"]


def test_a_quick_training_does_not_redraw_for_every_point(notebook, monkeypatch):
    monkeypatch.setattr(board_module, "REDRAW_EVERY_S", 1e9)
    board = ProgressBoard()
    board._drawn_at = -1e10
    for x in range(3):
        board.draw(x, x, "loss")
    assert notebook == ["new"]
    board.show()
    assert notebook == ["new", "update"]


def test_display_switched_off_shows_nothing(notebook):
    board = ProgressBoard(display=False)
    board.draw(0, 1, "loss")
    board.show()
    assert notebook == []


def test_outside_a_notebook_nothing_is_drawn(monkeypatch):
    def no_figure(self):
        raise AssertionError("drawn outside a notebook")

    monkeypatch.setattr(ProgressBoard, "figure", no_figure)
    board = ProgressBoard()
    board.draw(0, 1, "loss")
    board.show()
    assert board.points["loss"] == [(0.0, 1.0)]


def test_without_ipython_there_is_no_notebook(monkeypatch):
    real_import = builtins.__import__

    def without_ipython(name, *args, **kwargs):
        if name.partition(".")[0] == "IPython":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_ipython)
    assert board_module._in_notebook() is False


def test_axes_alone_bring_their_figure_and_keep_their_lines():
    Figure = pytest.importorskip("matplotlib.figure").Figure
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], label="mine")
    board = ProgressBoard(axes=axes, display=False)
    for x in range(3):
        board.draw(x, x, "ours")
        assert board.figure() is figure
    assert [line.get_label() for line in axes.lines] == ["mine", "ours"]
    assert list(axes.lines[1].get_xdata()) == [0, 1, 2]


def test_a_figure_alone_brings_its_axes():
    Figure = pytest.importorskip("matplotlib.figure").Figure
    figure = Figure()
    axes = figure.subplots()
    board = ProgressBoard(fig=figure, display=False)
    board.draw(0, 1, "ours")
    assert board.figure().axes == [axes]
