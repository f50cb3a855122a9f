"""Fixtures shared by all tests."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from installed import FRAMEWORK, INSTALLED, with_framework
from unrolled import cli, experiments
from unrolled.frameworks import FRAMEWORKS, load

TINY = ("max_epochs=2", "num_hiddens=8", "batch_size=4", "num_steps=5", "max_tokens=200")
"""Settings of a language model that trains in a moment."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the frameworks that its file, name or parameters name: `-m "not jax"`."""
    for item in items:
        words = set(re.split(r"[^a-z0-9]+", item.nodeid.lower()))
        for framework in words.intersection(FRAMEWORKS):
            item.add_marker(framework)


@pytest.fixture(autouse=True)
def mode_of_mxnet() -> Iterator[None]:
    """Make sure that a test leaves MXNet's training mode off: it is the thread's."""
    yield
    mxnet = sys.modules.get("mxnet")
    assert mxnet is None or not mxnet.autograd.set_training(False), "the test left it on"


@dataclass(frozen=True)
class Outcome:
    """What a command gave back."""

    code: int
    out: str
    err: str

    def assert_refused(self, *words: str) -> None:
        """An error for people: exit code 2, on stderr only, no traceback, with these words."""
        assert self.code == 2
        assert self.err.startswith("error: ")
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.err


Command = Callable[..., Outcome]


@pytest.fixture
def unrolled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Run the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> Outcome:
        arguments = with_framework(*arguments)
        monkeypatch.setattr(sys, "argv", ["unrolled", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        return Outcome(int(exit_.value.code or 0), captured.out, captured.err)

    return command


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny language model's run, which no test may change."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    return experiments.run("language-model", TINY, FRAMEWORK, out=out)


@pytest.fixture
def tiny_run(unrolled: Command, trained_once: Path, tmp_path: Path) -> Path:
    """A copy of that run, in the folder of the test."""
    return Path(shutil.copytree(trained_once, tmp_path / "tiny"))


@pytest.fixture(params=INSTALLED)
def d2l(request: pytest.FixtureRequest) -> Any:
    """The names of *Dive into Deep Learning* on each framework."""
    return load(request.param, "unrolled.d2l")


@pytest.fixture(params=INSTALLED)
def nndl(request: pytest.FixtureRequest) -> Any:
    """The names of *Neural Networks and Deep Learning* on each framework."""
    return load(request.param, "unrolled.nndl")
