"""``ProgressBoard``: draw the curves of a training, live in a notebook or with matplotlib."""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from unrolled.report.spec import Axis, Chart, Series
from unrolled.report.style import dash_of
from unrolled.training.board import Board

PUSH_EVERY_S = 0.15
"""Between two messages to the notebook, so that a quick training does not flood it."""

PIXELS_PER_INCH = 130

SHORT = {"ppl": "perplexity", "acc": "accuracy"}
MOST_NAMED = 3
"""Measures that an axis names at most."""


class ProgressBoard(Board):
    """Collects points and draws them as lines, live where it runs in a notebook.

    The notebook shows one chart. New points are pushed to it, so drawing takes the same time
    however many there are, and nothing flickers; at the end of the cell, also after an error or
    an interrupt, the chart is stored with all its points, to be there when the notebook is opened
    again. Outside a notebook the points are kept (``points``) and nothing is drawn until `figure`
    is asked for, which alone needs matplotlib: ``pip install matplotlib``.

    Arguments and ``points`` are those of `Board`.

    Example:
        >>> board = ProgressBoard("x", display=False)
        >>> for x in range(4):
        ...     board.draw(x, x * x, "square", every_n=2)
        >>> board.points["square"]
        [(0.5, 0.5), (2.5, 6.5)]
    """

    _sent: Mapping[str, int] = {}  # points that the notebook has, by label
    _output: Any = None  # where a notebook shows it
    _stored = False  # whether it shows it with all points, to stay
    _pushed_at = 0.0
    _artists: Sequence[Any] = ()

    def _added(self) -> None:
        self._stored = False
        if self.display and time.monotonic() - self._pushed_at >= PUSH_EVERY_S:
            self._push()

    def show(self) -> None:
        """Store the chart with all its points in the notebook; elsewhere do nothing."""
        self._update(lambda output: output.store(self.chart()))
        self._stored = True

    def _finish(self, output: Any) -> None:
        """The cell of an output is over."""
        if output is self._output and not self._stored:
            output.store(self.chart())
            self._stored = True

    def chart(self) -> Chart:
        """Return the curves as a chart, for the notebook and for matplotlib."""
        return Chart(
            id="progress",
            title="Progress",
            x=Axis(self.xlabel or "x", self.xscale, limits(self.xlim)),
            y=Axis(self.ylabel or measured(self.points), self.yscale, limits(self.ylim)),
            series=[self._series(label) for label in self.points],
        )

    def figure(self) -> Any:
        """The matplotlib figure of all points so far.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from unrolled.report.figures import draw, new_figure

        if self.axes is None:
            self.fig = self.fig or new_figure(self.figsize)
            self.axes = self.fig.axes[0] if self.fig.axes else self.fig.add_subplot()
        self.fig = self.axes.figure
        for artist in self._artists:
            artist.remove()
        self.axes.relim()
        chart = self.chart()
        self._artists = draw(self.axes, chart)
        self.axes.set_ylabel(chart.y.title)
        return self.fig

    def _series(self, label: str, start: int = 0) -> Series:
        i = list(self.points).index(label)
        colour = self.colors[i % len(self.colors)]
        cycle = re.fullmatch(r"C(\d+)", colour)
        x, y = zip(*self.points[label][start:], strict=True)
        return Series(
            label, x, y,
            colour=int(cycle[1]) if cycle else colour,
            dash=dash_of(self.ls[i % len(self.ls)]),
        )  # fmt: skip

    def _thin(self, label: str) -> None:
        super()._thin(label)
        self._sent = {**self._sent, label: self._sent.get(label, 0) // 2}

    def _push(self) -> None:
        """Send what the notebook has not got."""
        new = [
            label for label, points in self.points.items() if len(points) > self._sent.get(label, 0)
        ]
        series = [self._series(label, self._sent.get(label, 0)) for label in new]
        self._update(lambda output: output.push(series))

    def _update(self, send: Callable[[Any], None]) -> None:
        """Show the chart if this cell of the notebook does not yet, else send it something."""
        from unrolled.report.notebook import Output, at_end_of_cell, shell

        here = shell() if self.display and self.points else None
        if here is not None:
            if self._output is not None and self._output.cell == here.execution_count:
                send(self._output)
            else:
                width = f"{self.figsize[0] * PIXELS_PER_INCH:.0f}px"
                output = self._output = Output(self.chart(), width)
                at_end_of_cell(lambda: self._finish(output))
        self._sent = {label: len(p) for label, p in self.points.items()}
        self._pushed_at = time.monotonic()


def measured(labels: Iterable[str]) -> str:
    """Name what an axis shows, from the names of its lines.

    Example:
        >>> measured(["train_loss", "val_acc"]), measured(["train", "val"])
        ('loss, accuracy', 'value')
    """
    bare = (re.sub(r"\b(train|val|valid|test)\b", "", label.replace("_", " ")).strip()
            for label in labels)  # fmt: skip
    names = dict.fromkeys(SHORT.get(name, name) for name in bare if name)
    return ", ".join(names) if 0 < len(names) <= MOST_NAMED else "value"


def limits(ends: Sequence[float] | None) -> tuple[float, float] | None:
    """Both ends of an axis as a pair; None adapts to what is drawn."""
    return None if ends is None else (ends[0], ends[1])
