import builtins
import json
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.report import board as board_module
from unrolled.report import notebook as notebook_module
from unrolled.report.board import ProgressBoard
from unrolled.training import board as points_module
from unrolled.training.board import MOST_POINTS

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


def test_lines_are_averaged_apart_and_points_are_plain_floats():
    board = ProgressBoard(display=False)
    for x in range(5):
        board.draw(np.int64(x), np.float32(10 * x), "train", every_n=2)  # the last waits
        board.draw(x, 100 * x, "val")
    assert board.points["train"] == [(0.5, 5.0), (2.5, 25.0)]
    assert board.points["val"] == [(float(x), 100.0 * x) for x in range(5)]
    assert {type(value) for line in board.points.values() for value in line[0]} == {float}


def test_the_figure_shows_every_line_with_its_points_style_and_label(lines, tmp_path):
    board = ProgressBoard(ls=["-", ":"], colors=["red", "blue"], display=False)
    assert lines(board) == {}
    first = board.figure()
    first.canvas.draw()
    for label in ("one", "two", "three"):
        board.draw(0, 1, label)
        lines(board)  # drawing again replaces the lines
        board.draw(2, 5, label)
    drawn = lines(board)
    assert board.figure() is first
    assert list(drawn) == ["one", "two", "three"]
    for line in drawn.values():
        assert line.get_xydata().tolist() == [[0, 1], [2, 5]]
    assert [line.get_linestyle() for line in drawn.values()] == ["-", ":", "-"]
    assert [line.get_color() for line in drawn.values()] == ["red", "blue", "red"]
    (axes,) = first.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(drawn)
    first.savefig(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


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


@pytest.mark.parametrize("given", [("fig",), ("axes",), ("fig", "axes")])
def test_a_given_figure_and_its_lines_are_kept(given):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    left, right = figure.subplots(1, 2)
    axes = right if "axes" in given else left
    axes.plot([0, 1], [0, 1], label="mine")
    parts = {"fig": figure, "axes": right}
    board = ProgressBoard(**{name: parts[name] for name in given}, display=False)
    for x in range(3):
        board.draw(x, x, "ours")
        assert board.figure() is figure
    assert figure.axes == [left, right]
    assert [line.get_label() for line in figure.axes[0].lines + figure.axes[1].lines] == [
        "mine",
        "ours",
    ]
    assert list(axes.lines[1].get_xdata()) == [0, 1, 2]


def test_without_matplotlib_points_are_kept_and_the_figure_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    board = ProgressBoard()
    board.draw(0, 1, "loss")
    assert board.points["loss"] == [(0.0, 1.0)]
    with pytest.raises(ImportError, match="pip install matplotlib"):
        board.figure()


@given(st.integers(1, 20_000), st.integers(1, 3))
@settings(max_examples=15)
def test_however_many_points_there_are_few_are_kept_and_their_mean_stays(count, every_n):
    board = ProgressBoard(display=False)
    for x in range(count):
        board.draw(x, 3 * x, "loss", every_n)
    points = board.points["loss"]
    assert len(points) < MOST_POINTS
    if points:
        drawn = count - board._waiting.get("loss", (0,))[0]  # the rest waits for others
        assert sum(x for x, _ in points) / len(points) == pytest.approx((drawn - 1) / 2)
        assert [y for _, y in points] == pytest.approx([3 * x for x, _ in points])
        assert [x for x, _ in points] == sorted(x for x, _ in points)


def test_a_board_goes_into_a_pickle_and_on():
    board = ProgressBoard(display=False)
    for x in range(2 * MOST_POINTS):
        board.draw(x, x, "loss")
    copy = pickle.loads(pickle.dumps(board))
    copy.draw(2 * MOST_POINTS, 1, "new")
    assert copy.points["loss"] == board.points["loss"]
    assert copy.points["new"] == [(2.0 * MOST_POINTS, 1.0)]


class Notebook:
    """What a notebook is shown, in order: (new or update, kind, text, id)."""

    def __init__(self):
        self.shown = []
        self.execution_count = 1
        self.events = pytest.importorskip("IPython.core.events").EventManager(
            self, {"post_run_cell": lambda result: None}
        )

    def display(self, bundle, raw, display_id, how="new"):
        assert raw
        (mime, text), (plain, words) = bundle.items()
        assert plain == "text/plain"
        assert "object" not in words  # where scripts do not run this is what is read
        self.shown.append((how, {"text/html": "HTML"}.get(mime, JS), text, display_id))

    def update_display(self, bundle, raw, display_id):
        assert display_id in {id for how, _, _, id in self.shown if how == "new"}
        self.display(bundle, raw, display_id, "update")

    def end_cell(self):
        self.execution_count += 1  # as IPython does: before it tells of the end
        self.events.trigger("post_run_cell", None)

    def kinds(self):
        return [(how, kind) for how, kind, _, _ in self.shown]

    def pushed(self):
        """Labels and points of every message of points."""
        codes = [text for how, kind, text, _ in self.shown if (how, kind) == ("update", JS)]
        lists = [
            json.loads(re.search(r'"board-\w+",(\[.*\])\);$', code)[1]) for code in codes if code
        ]
        return [{s["label"]: list(zip(s["x"], s["y"], strict=True)) for s in x} for x in lists]


JS = "Javascript"
BEGUN = [("new", "HTML"), ("new", JS)]


@pytest.fixture
def notebook(monkeypatch):
    ipython = pytest.importorskip("IPython.display")
    found = Notebook()
    monkeypatch.setattr(ipython, "display", found.display)
    monkeypatch.setattr(ipython, "update_display", found.update_display)
    monkeypatch.setattr(notebook_module, "shell", lambda: found)
    monkeypatch.setattr(board_module, "PUSH_EVERY_S", 0.0)
    return found


def test_in_a_notebook_one_chart_is_shown_and_points_are_pushed_to_it(notebook):
    board = ProgressBoard()
    for x in range(3):
        board.draw(x, 2 * x, "loss")
    board.draw(2, 7, "val")
    assert notebook.kinds() == [*BEGUN, *[("update", JS)] * 3]
    # only what is new, so that a message is as short for the millionth point as for the first
    assert notebook.pushed() == [{"loss": [(1, 2)]}, {"loss": [(2, 4)]}, {"val": [(2, 7)]}]
    assert '"x":[0],"y":[0]' in notebook.shown[0][2]


def test_at_the_end_the_chart_is_stored_with_all_its_points(notebook):
    board = ProgressBoard("epoch")
    for x in range(3):
        board.draw(x, 2 * x, "loss")
    board.show()
    (how, kind, text, id), (_, _, emptied, _) = notebook.shown[-2:]
    assert (how, kind, emptied) == ("update", "HTML", "")
    assert id == notebook.shown[0][3]  # in the place of the first
    assert '"x":[0,1,2],"y":[0,2,4]' in text
    assert "<table>" in text  # for where scripts do not run
    assert "uPlot" in text


def test_a_cell_that_ends_without_show_has_its_chart_stored_all_the_same(notebook, monkeypatch):
    monkeypatch.setattr(board_module, "PUSH_EVERY_S", 1e9)
    board = ProgressBoard()
    board._pushed_at = -1e10
    for x in range(3):
        board.draw(x, 2 * x, "loss")
    assert notebook.kinds() == BEGUN  # a quick training does not send a message for every point
    notebook.end_cell()
    assert notebook.kinds() == [*BEGUN, ("update", "HTML"), ("update", JS)]
    assert '"x":[0,1,2],"y":[0,2,4]' in notebook.shown[2][2]
    board.draw(3, 6, "loss")
    board.show()
    shown = len(notebook.shown)
    notebook.end_cell()  # the other cell's chart is stored already
    notebook.end_cell()
    assert len(notebook.shown) == shown


def test_points_that_were_thinned_are_not_sent_again(notebook, monkeypatch):
    monkeypatch.setattr(points_module, "MOST_POINTS", 4)
    board = ProgressBoard()
    for x in range(8):
        board.draw(x, x, "loss")
    assert board.points["loss"] == [(1.5, 1.5), (5.5, 5.5)]
    sent = [x for message in notebook.pushed() for x, _ in message.get("loss", [])]
    assert sent == [1, 2, 2.5, 4.5, 5.5]  # the notebook has 0 from the beginning


def test_another_cell_shows_the_chart_anew(notebook):
    board = ProgressBoard()
    board.draw(0, 1, "loss")
    notebook.execution_count = 2
    board.draw(1, 2, "loss")
    assert notebook.kinds() == BEGUN * 2
    assert notebook.shown[0][3] != notebook.shown[2][3]
    assert '"x":[0,1]' in notebook.shown[2][2]


def test_values_that_are_no_numbers_leave_a_gap_and_a_label_cannot_end_the_script(notebook):
    board = ProgressBoard()
    for x, y in enumerate((1.0, float("nan"), float("inf"))):
        board.draw(x, y, "</script><b>")
    assert notebook.pushed() == [{"</script><b>": [(1, None)]}, {"</script><b>": [(2, None)]}]
    assert not any("</script><b>" in text for _, _, text, _ in notebook.shown)


def test_display_switched_off_shows_nothing(notebook):
    board = ProgressBoard(display=False)
    board.draw(0, 1, "loss")
    board.show()
    assert notebook.shown == []


def test_without_ipython_there_is_no_notebook(monkeypatch):
    real_import = builtins.__import__

    def without_ipython(name, *args, **kwargs):
        if name.partition(".")[0] == "IPython":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_ipython)
    assert notebook_module.shell() is None


def test_outside_a_notebook_nothing_is_drawn_and_no_matplotlib_is_loaded():
    code = (
        "import sys; from unrolled.report import board, notebook\n"
        "b = board.ProgressBoard(); b.draw(0, 1, 'loss'); b.draw(1, 2, 'loss'); b.show()\n"
        "notebook.html(b.chart(), 'x')\n"
        "print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
