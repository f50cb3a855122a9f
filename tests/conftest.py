"""Fixtures shared by all tests."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from installed import with_framework
from unrolled import cli
from unrolled.frameworks import FRAMEWORKS

TINY = ("max_epochs=2", "num_hiddens=8", "batch_size=4", "num_steps=5", "max_tokens=200")
"""Settings of a language model that trains in a moment."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the frameworks that its file, name or parameters name: `-m "not jax"`."""
    for item in items:
        words = set(re.split(r"[^a-z0-9]+", item.nodeid.lower()))
        for framework in words.intersection(FRAMEWORKS):
            item.add_marker(framework)


@dataclass(frozen=True)
class Outcome:
    """What a command gave back."""

    code: int
    out: str
    err: str


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


@pytest.fixture
def tiny_run(unrolled: Command, tmp_path: Path) -> Path:
    """The directory of a tiny language model's run."""
    out = tmp_path / "tiny"
    sets = [part for setting in TINY for part in ("--set", setting)]
    assert unrolled("run", "language-model", "--out", out, *sets).code == 0
    return out
