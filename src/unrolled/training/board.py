"""`Board`: the points of a training's curves, averaged so that their number stays bounded."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unrolled.hyperparameters import HyperParameters

MOST_POINTS = 2000
"""Points of a line; with so many, two neighbours become their mean, and later points too."""


class Board(HyperParameters):
    """Collects points of lines; `unrolled.report.board.ProgressBoard` draws them.

    Args:
        xlabel, ylabel: axis titles; without ``ylabel`` the lines' names tell what is measured.
        xlim, ylim: axis ranges, ``(low, high)``; None adapts.
        xscale, yscale: ``"linear"`` or ``"log"``.
        ls: line styles, used in turn.
        colors: line colours, used in turn.
        fig, axes: an existing matplotlib figure and axes for `figure` to draw on.
        figsize: width and height in inches.
        display: whether to draw live.

    Attributes:
        points: of each line, at most `MOST_POINTS`.
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        xlim: Sequence[float] | None = None,
        ylim: Sequence[float] | None = None,
        xscale: str = "linear",
        yscale: str = "linear",
        ls: Sequence[str] = ("-", "--", "-.", ":"),
        colors: Sequence[str] = ("C0", "C1", "C2", "C3"),
        fig: Any = None,
        axes: Any = None,
        figsize: tuple[float, float] = (3.5, 2.5),
        display: bool = True,
    ) -> None:
        self.xlabel, self.ylabel = xlabel, ylabel
        self.xlim, self.ylim = xlim, ylim
        self.xscale, self.yscale = xscale, yscale
        self.ls, self.colors = ls, colors
        self.fig, self.axes = fig, axes
        self.figsize = figsize
        self.display = display
        self.points: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._waiting: dict[str, tuple[int, float, float]] = {}  # count, sum of x, sum of y
        self._merged: dict[str, int] = {}  # means that make one point

    def draw(self, x: float, y: float, label: str, every_n: int = 1) -> None:
        """Add a point to the line ``label``; ``every_n`` points become their mean."""
        count, sum_x, sum_y = self._waiting.get(label, (0, 0.0, 0.0))
        count, sum_x, sum_y = count + 1, sum_x + float(x), sum_y + float(y)
        if count < every_n * self._merged.get(label, 1):
            self._waiting[label] = count, sum_x, sum_y
            return
        self._waiting.pop(label, None)
        self.points[label].append((sum_x / count, sum_y / count))
        if len(self.points[label]) >= MOST_POINTS:
            self._thin(label)
        self._added()

    def show(self) -> None:
        """Show the lines with all their points, where there is something to show them in."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep to go on drawing."""
        points = {label: np.array(line) for label, line in self.points.items()}
        return {"points": points, "waiting": dict(self._waiting), "merged": dict(self._merged)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.points.clear()
        for label, line in state["points"].items():
            self.points[label] = [(x, y) for x, y in line.tolist()]
        self._waiting, self._merged = dict(state["waiting"]), dict(state["merged"])

    def _added(self) -> None:
        """Called after every point that was added to a line."""

    def _thin(self, label: str) -> None:
        points = self.points[label]
        pairs = zip(points[::2], points[1::2], strict=True)
        self.points[label] = [((a + c) / 2, (b + d) / 2) for (a, b), (c, d) in pairs]
        self._merged[label] = 2 * self._merged.get(label, 1)
