"""``Timer``, ``Accumulator``, ``Animator``, ``plot`` of *Dive into Deep Learning*."""

import time
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from unrolled.errors import DataError, SettingError
from unrolled.report.board import PIXELS_PER_INCH, ProgressBoard, limits
from unrolled.report.spec import Axis, Chart, Series
from unrolled.report.style import dash_of

__all__ = ["Accumulator", "Animator", "Timer", "check_len", "check_shape", "plot", "plt"]
__all__ += ["set_figsize", "use_svg_display"]

FORMATS = ("-", "m--", "g-.", "r:")
"""Line styles of the books, used in turn."""


class Timer:
    """Durations in seconds; it starts when it is made.

    Attributes:
        times: of every stretch from `start` to `stop`.

    Example:
        >>> timer = Timer()
        >>> timer.stop() == timer.sum() == timer.avg()
        True
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.start()

    def start(self) -> None:
        """Begin a stretch."""
        self.tik = time.perf_counter()

    def stop(self) -> float:
        """End the stretch; its seconds."""
        self.times.append(time.perf_counter() - self.tik)
        return self.times[-1]

    def avg(self) -> float:
        """Mean of the stretches."""
        return sum(self.times) / len(self.times)

    def sum(self) -> float:
        """All stretches together."""
        return sum(self.times)

    def cumsum(self) -> list[float]:
        """The sum after each stretch."""
        return list(accumulate(self.times))


class Accumulator:
    """Sums over ``n`` quantities.

    Values are made plain numbers when they are added, so no graph is kept alive.

    Example:
        >>> metric = Accumulator(2)
        >>> metric.add(1.5, 2)
        >>> metric.add(0.5, 2)
        >>> metric[0] / metric[1]
        0.5
    """

    def __init__(self, n: int) -> None:
        self.data = [0.0] * n

    def add(self, *args: Any) -> None:
        """Add a value to each sum."""
        values = (arg.detach() if hasattr(arg, "detach") else arg for arg in args)
        self.data = [a + float(b) for a, b in zip(self.data, values, strict=True)]

    def reset(self) -> None:
        """Begin at zero again."""
        self.data = [0.0] * len(self.data)

    def __getitem__(self, idx: int) -> float:
        return self.data[idx]


class Animator:
    """A plot that grows while a loop runs, live where that is in a notebook.

    A `ProgressBoard` under the name of the earlier editions, with its arguments and these:

    Args:
        legend: names of the lines.
        fmts: line styles, used in turn.
        nrows, ncols: accepted; there is one plot.

    Attributes:
        board: the `ProgressBoard`; ``board.figure()`` gives a figure of matplotlib.

    Example:
        >>> animator = Animator(xlabel="epoch", legend=["train", "test"])
        >>> animator.add(1, (0.5, 0.6))
        >>> animator.board.points["test"]
        [(1.0, 0.6)]
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        legend: Sequence[str] | None = None,
        xlim: Sequence[float] | None = None,
        ylim: Sequence[float] | None = None,
        xscale: str = "linear",
        yscale: str = "linear",
        fmts: Sequence[str] = FORMATS,
        nrows: int = 1,
        ncols: int = 1,
        figsize: tuple[float, float] = (3.5, 2.5),
    ) -> None:
        self.legend = list(legend or [])
        ls = [_dash(fmt) for fmt in fmts]
        self.board = ProgressBoard(
            xlabel, ylabel, xlim, ylim, xscale, yscale, ls=ls, figsize=figsize
        )

    def add(self, x: Any, y: Any) -> None:
        """Add a point to every line.

        Args:
            x: a number, or one for each line.
            y: the same; None adds nothing to that line.
        """
        ys = list(y) if hasattr(y, "__len__") else [y]
        xs = list(x) if hasattr(x, "__len__") else [x] * len(ys)
        for i, (a, b) in enumerate(zip(xs, ys, strict=True)):
            if a is not None and b is not None:
                label = self.legend[i] if i < len(self.legend) else f"y{i}"
                self.board.draw(float(a), float(b), label)
        self.board.show()


def plot(
    X: Any,
    Y: Any = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    legend: Sequence[str] = (),
    xlim: Sequence[float] | None = None,
    ylim: Sequence[float] | None = None,
    xscale: str = "linear",
    yscale: str = "linear",
    fmts: Sequence[str] = FORMATS,
    figsize: tuple[float, float] = (3.5, 2.5),
    axes: Any = None,
) -> None:
    """Draw lines: shown in a notebook, or drawn on matplotlib axes.

    Args:
        X: values of x for every line: one sequence for all, or one for each; without ``Y``
            the lines themselves, against 0, 1, 2, ...
        Y: one line, or several.
        xlabel, ylabel, xlim, ylim, xscale, yscale, figsize: as of `ProgressBoard`.
        legend, fmts: names of the lines, and their styles, used in turn.
        axes: matplotlib's, to draw on.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().add_subplot()
        >>> plot([0, 1, 2], [[0, 1, 4], [0, 2, 4]], "x", legend=["square", "double"], axes=axes)
        >>> len(axes.lines)
        2
    """
    from unrolled.report.notebook import Output, shell

    xs, ys = ([], _lines(X)) if Y is None else (_lines(X), _lines(Y))
    xs = xs or [list(range(len(y))) for y in ys]
    xs = xs if len(xs) == len(ys) else xs * len(ys)
    labels = [*legend, *(f"y{i}" for i in range(len(legend), len(ys)))]
    chart = Chart(
        id="plot",
        title=ylabel or "plot",
        x=Axis(xlabel or "x", xscale, limits(xlim)),
        y=Axis(ylabel or "value", yscale, limits(ylim)),
        series=[
            Series(label, x, y, colour=i, dash=dash_of(_dash(fmts[i % len(fmts)])))
            for i, (label, x, y) in enumerate(zip(labels, xs, ys, strict=False))
        ],
    )
    if axes is not None:
        from unrolled.report.figures import draw

        draw(axes, chart)
    elif shell() is not None:
        Output(chart, f"{figsize[0] * PIXELS_PER_INCH:.0f}px")


def check_len(a: Any, n: int) -> None:
    """Make sure that something has a length.

    Raises:
        DataError: it has another one.

    Example:
        >>> check_len([1, 2], 3)
        Traceback (most recent call last):
        ...
        unrolled.errors.DataError: the length is 2; expected 3
    """
    if len(a) != n:
        raise DataError(f"the length is {len(a)}; expected {n}")


def check_shape(a: Any, shape: Sequence[int]) -> None:
    """Make sure that an array has a shape.

    Raises:
        DataError: it has another one.
    """
    if tuple(a.shape) != tuple(shape):
        raise DataError(f"the shape is {tuple(a.shape)}; expected {tuple(shape)}")


class _Pyplot:
    """``matplotlib.pyplot``, loaded when it is first used."""

    def __getattr__(self, name: str) -> Any:
        try:
            from matplotlib import pyplot
        except ImportError:
            raise SettingError("plt needs matplotlib: pip install matplotlib") from None
        return getattr(pyplot, name)


plt = _Pyplot()


def set_figsize(figsize: tuple[float, float] = (3.5, 2.5)) -> None:
    """Set matplotlib's default size of figures in inches, where it is installed."""
    try:
        from matplotlib import rcParams
    except ImportError:
        return
    rcParams["figure.figsize"] = figsize


def use_svg_display() -> None:
    """Accepted: what is drawn here is sharp at every size."""


def _dash(fmt: str) -> str:
    """The line style in matplotlib's short form of colour and style: ``"--"`` of ``"m--"``."""
    return fmt.lstrip("bgrcmykw") or "-"


def _lines(values: Any) -> list[list[float]]:
    """One line, or several, as lists of numbers."""
    values = list(values.detach() if hasattr(values, "detach") else values)
    # an array of no dimension has a length by name only
    several = bool(values) and hasattr(values[0], "__len__") and bool(getattr(values[0], "ndim", 1))
    return [[_number(v) for v in line] for line in (values if several else [values])]


def _number(value: Any) -> float:
    """A number, or that of an array of one: a line may be a column ``(N, 1)``."""
    if getattr(value, "shape", ()):
        (value,) = value
    return float(value)
