"""The table of competitors of ``unrolled bench``: names, frameworks, how each one starts.

The table is light: a framework is loaded when a competitor starts.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unrolled.bench.task import Competing, Task
from unrolled.errors import SettingError, did_you_mean
from unrolled.frameworks import FRAMEWORKS, advice, is_installed, load


@dataclass(frozen=True)
class Competitor:
    """One way to train."""

    name: str  # as on the command line
    title: str  # in tables
    about: str  # in a line
    framework: str  # which it needs
    start: Callable[[Task], Competing]  # loads the framework
    titles: Mapping[str, str] = field(default_factory=dict)  # by cell, where they differ
    deep: bool = True  # whether it can have several layers
    on_gpu: bool = False  # whether it can be measured on a GPU

    def title_for(self, cell: str) -> str:
        """Its title in a table about a cell."""
        return self.titles.get(cell, self.title)

    def absent(self, gpu: bool = False) -> str:
        """Why it cannot run here, or on a GPU here, in a clause; "" if it can."""
        if not is_installed(self.framework):
            return f"{FRAMEWORKS[self.framework]} is not installed; get it {advice(self.framework)}"
        if gpu and not self.on_gpu:
            return "is measured on CPUs only"
        if gpu and not load(self.framework).backend.devices(1):
            return f"{FRAMEWORKS[self.framework]} sees no GPU here"
        return ""


def lazily(module: str, function: str, *arguments: Any) -> Callable[[Task], Any]:
    """``function(task, *arguments)`` of ``bench/<module>.py``, loaded when it is called."""

    def start(task: Task) -> Any:
        loaded = importlib.import_module(f"unrolled.bench.{module}")
        return getattr(loaded, function)(task, *arguments)

    return start


def _ours(framework: str) -> Callable[[Task], Any]:
    return lazily("ours", "trained", framework)


_ALL = (
    Competitor(
        "unrolled",
        "unrolled",
        "ours on PyTorch as the command line trains: its own choice of engine",
        "torch",
        _ours("torch"),
        on_gpu=True,
    ),
    Competitor(
        "textbook",
        "textbook loop",
        "one-hot, a step at a time, autograd (PyTorch)",
        "torch",
        lazily("torch", "textbook"),
        deep=False,
        on_gpu=True,
    ),
    Competitor(
        "nn",
        "nn",
        "PyTorch's own layer, clipping and optimizer",
        "torch",
        lazily("torch", "layer"),
        titles={"rnn": "nn.RNN", "gru": "nn.GRU", "lstm": "nn.LSTM"},
        on_gpu=True,
    ),
    Competitor(
        "jax-scan",
        "JAX scan",
        "written by hand for speed: lookups, lax.scan, all in one jit",
        "jax",
        lazily("jax", "scan"),
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
        "Keras",
        "Keras' own layer under fit, on TensorFlow",
        "tensorflow",
        lazily("keras", "fit"),
        titles={
            "rnn": "Keras SimpleRNN, TensorFlow",
            "gru": "Keras GRU, TensorFlow",
            "lstm": "Keras LSTM, TensorFlow",
        },
        deep=False,
    ),
    Competitor("unrolled-mxnet", "unrolled, MXNet", "ours on MXNet", "mxnet", _ours("mxnet")),
)

COMPETITORS = {competitor.name: competitor for competitor in _ALL}
"""By name, in the order of their turns; the first that runs is the yardstick."""


def chosen(names: Sequence[str]) -> list[Competitor]:
    """Competitors by name, all if none is named; an unknown name is a `SettingError`."""
    for name in names:
        if name not in COMPETITORS:
            raise SettingError(f"unknown competitor '{name}': {did_you_mean(name, COMPETITORS)}")
    return [c for c in COMPETITORS.values() if not names or c.name in names]
