"""The table of competitors of ``unrolled bench``: names, frameworks, how each one starts.

The table is light: a framework is loaded when a competitor starts.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unrolled.bench.task import Competing, Task
from unrolled.errors import SettingError, did_you_mean
from unrolled.frameworks import FRAMEWORKS, advice, is_installed, load
from unrolled.kernels import native

LAYERS = {
    "nn": {"rnn": "nn.RNN", "gru": "nn.GRU", "lstm": "nn.LSTM"},
    "keras": {"rnn": "SimpleRNN", "gru": "GRU", "lstm": "LSTM"},
}
"""What frameworks call their own layers."""


@dataclass(frozen=True)
class Competitor:
    """One way to train.

    Attributes:
        name: as on the command line.
        title: in tables; ``{}`` is what the framework calls its layer.
        about: in a line.
        framework: which it needs.
        start: ``task -> Competing``, loads the framework.
        layers: the row of `LAYERS` for the title.
        precision: of its products.
        needs: functions that give a reason why it cannot run here, or "".
        deep: whether it can have several layers.
        on_gpu: whether it can be measured on a GPU.
    """

    name: str
    title: str
    about: str
    framework: str
    start: Callable[[Task], Competing]
    layers: str = ""
    precision: str = "float32"
    needs: tuple[Callable[[], str], ...] = ()
    deep: bool = True
    on_gpu: bool = False

    def title_for(self, cell: str) -> str:
        """Its title in a table about a cell."""
        return self.title.format(LAYERS[self.layers][cell]) if self.layers else self.title

    def absent(self, gpu: bool = False) -> str:
        """Why it cannot run here, or on a GPU here, in a clause; "" if it can."""
        if not is_installed(self.framework):
            return f"{FRAMEWORKS[self.framework]} is not installed; get it {advice(self.framework)}"
        if gpu and not self.on_gpu:
            return "is measured on CPUs only"
        if gpu and not load(self.framework).backend.devices(1):
            return f"{FRAMEWORKS[self.framework]} sees no GPU here"
        return next((reason for need in self.needs if (reason := need())), "")


def _in(module: str, function: str, *arguments: Any) -> Callable[[Task], Competing]:
    """A function of ``bench/<module>.py``, loaded when it is called."""

    def start(task: Task) -> Competing:
        loaded = importlib.import_module(f"unrolled.bench.{module}")
        made: Competing = getattr(loaded, function)(task, *arguments)
        return made

    return start


def _ours(framework: str, *how: Any) -> Callable[[Task], Competing]:
    def start(task: Task) -> Competing:
        from unrolled.bench.ours import trained

        return trained(framework, task, *how)

    return start


def _ours_without_native(task: Task) -> Competing:
    from unrolled.bench.ours import trained_without_native

    return trained_without_native("torch", task)


def native_kernels() -> str:
    """Why the native kernels cannot be used, or ""."""
    usable, reason = native.available()
    return "" if usable else f"native kernels: {reason}"


COMPETITORS: dict[str, Competitor] = {}
"""By name, in the order of their turns; the first that runs is the yardstick."""


def register(*competitors: Competitor) -> None:
    """Let competitors take part from here on; one of the same name is replaced."""
    COMPETITORS.update({competitor.name: competitor for competitor in competitors})


register(
    Competitor(
        "unrolled",
        "unrolled",
        "ours on PyTorch as the command line trains: its own choice of engine",
        "torch",
        _ours("torch"),
        on_gpu=True,
    ),
    Competitor(
        "unrolled-pytorch",
        "unrolled, no compiler",
        "the same in PyTorch's own operations, as where nothing was compiled",
        "torch",
        _ours_without_native,
        needs=(native_kernels,),
    ),
    Competitor(
        "unrolled-reference",
        "unrolled, reference",
        "the formulas under automatic differentiation",
        "torch",
        _ours("torch", "reference"),
        on_gpu=True,
    ),
    Competitor(
        "unrolled-bfloat16",
        "unrolled, bfloat16",
        "ours on PyTorch with products in bfloat16",
        "torch",
        _ours("torch", "auto", "bfloat16"),
        precision="bfloat16",
        needs=(native_kernels,),
    ),
    Competitor(
        "textbook",
        "textbook loop",
        "one-hot, a step at a time, autograd (PyTorch)",
        "torch",
        _in("torch", "textbook"),
        deep=False,
        on_gpu=True,
    ),
    Competitor(
        "nn",
        "{}",
        "PyTorch's own layer, clipping and optimizer",
        "torch",
        _in("torch", "layer"),
        layers="nn",
        on_gpu=True,
    ),
    Competitor(
        "jax-scan",
        "JAX scan",
        "written by hand for speed: lookups, lax.scan, all in one jit",
        "jax",
        _in("jax", "scan"),
        deep=False,
        on_gpu=True,
    ),
    Competitor("unrolled-jax", "unrolled, JAX", "ours on JAX", "jax", _ours("jax"), on_gpu=True),
    Competitor(
        "unrolled-tensorflow",
        "unrolled, TensorFlow",
        "ours on TensorFlow",
        "tensorflow",
        _ours("tensorflow"),
    ),
    Competitor(
        "keras-tensorflow",
        "Keras {}, TensorFlow",
        "Keras' own layer under fit, on TensorFlow",
        "tensorflow",
        _in("keras", "fit"),
        layers="keras",
        deep=False,
    ),
    Competitor("unrolled-mxnet", "unrolled, MXNet", "ours on MXNet", "mxnet", _ours("mxnet")),
)


def chosen(names: Sequence[str]) -> list[Competitor]:
    """Competitors by name, all if none is named.

    Raises:
        SettingError: there is none of a name; the message has the nearest.

    Example:
        >>> [competitor.name for competitor in chosen(["nn", "unrolled"])]
        ['unrolled', 'nn']
    """
    for name in names:
        if name not in COMPETITORS:
            raise SettingError(f"unknown competitor '{name}': {did_you_mean(name, COMPETITORS)}")
    return [c for c in COMPETITORS.values() if not names or c.name in names]
