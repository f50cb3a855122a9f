"""A live plot of what training reports."""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from unrolled.training.hyperparameters import HyperParameters

REDRAW_EVERY_S = 0.1


class ProgressBoard(HyperParameters):
    """Collects points and draws them as lines, live where it runs in a notebook.

    Outside a notebook the points are kept (``points``) and nothing is drawn until
    `figure` is asked for. Drawing needs matplotlib: ``pip install matplotlib``.

    Args:
        xlabel, ylabel: axis titles.
        xlim, ylim: axis ranges, ``(low, high)``; None adapts.
        xscale, yscale: ``"linear"`` or ``"log"``.
        ls: line styles, used in turn.
        colors: line colours, used in turn.
        fig, axes: an existing matplotlib figure and axes to draw on.
        figsize: width and height in inches.
        display: whether to draw live.

    Example:
        >>> board = ProgressBoard("x", display=False)
        >>> for x in range(4):
        ...     board.draw(x, x * x, "square", every_n=2)
        >>> board.points["square"]
        [(0.5, 0.5), (2.5, 6.5)]
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
        self._waiting: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._lines: dict[str, Any] = {}
        self._handle: Any = None
        self._drawn_at = 0.0

    def draw(self, x: float, y: float, label: str, every_n: int = 1) -> None:
        """Add a point to the line ``label``; ``every_n`` points become their mean."""
        waiting = self._waiting[label]
        waiting.append((float(x), float(y)))
        if len(waiting) < every_n:
            return
        xs, ys = zip(*waiting, strict=True)
        self.points[label].append((sum(xs) / len(xs), sum(ys) / len(ys)))
        waiting.clear()
        if self.display and time.monotonic() - self._drawn_at >= REDRAW_EVERY_S:
            self.show()

    def show(self) -> None:
        """Bring the picture in the notebook up to date; elsewhere do nothing."""
        if not (self.display and self.points and _in_notebook()):
            return
        from IPython.display import display

        figure = self.figure()
        if self._handle is None:
            self._handle = display(figure, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(figure)  # in place: no flicker
        self._drawn_at = time.monotonic()

    def figure(self) -> Any:
        """The matplotlib figure of all points so far.

        Raises:
            ImportError: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError(
                "drawing needs matplotlib; install it with: pip install matplotlib"
            ) from None
        if self.axes is None:
            self.fig = self.fig or Figure(figsize=self.figsize, layout="constrained")
            self.axes = self.fig.axes[0] if self.fig.axes else self.fig.add_subplot()
        self.fig = self.axes.figure
        for label, points in self.points.items():
            if label not in self._lines:
                i = len(self._lines)
                style = {
                    "ls": self.ls[i % len(self.ls)],
                    "color": self.colors[i % len(self.colors)],
                }
                (self._lines[label],) = self.axes.plot([], [], label=label, **style)
            self._lines[label].set_data(*zip(*points, strict=True))
        self.axes.relim()
        self.axes.autoscale_view()
        self.axes.set(xscale=self.xscale, yscale=self.yscale)
        self.axes.set(xlabel=self.xlabel or "x", ylabel=self.ylabel or "")
        if self.xlim:
            self.axes.set_xlim(self.xlim)
        if self.ylim:
            self.axes.set_ylim(self.ylim)
        if self.points:
            self.axes.legend()
        return self.fig


def _in_notebook() -> bool:
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")
