"""Miniature runs of every kind, and comparing what they have left, byte for byte."""

import json
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torture.processes import Command, Ended, call, wait_for

TEXT = "time traveller for so it will be convenient to speak of him was expounding a recondite "

DIFFER = ("environment.json", "report.html")
"""Files that tell when a run was made, and how long it took."""


@dataclass(frozen=True)
class Plan:
    """An experiment, its settings and how often it saves a checkpoint."""

    experiment: str
    checkpoint: str
    settings: str

    def arguments(self, framework: str, out: Path) -> list[str]:
        """Of the command that runs it."""
        assignments = self.settings.split()
        if self.experiment == "language-model":
            text = out.parent / "text.txt"
            text.write_text(TEXT * 4)
            tiny = "num_hiddens=6 batch_size=4 num_steps=5 max_tokens=200 telemetry_every=1"
            assignments = [f"text={text}", "clean=true", *tiny.split(), *assignments]
        sets = [part for each in assignments for part in ("--set", each)]
        head = ["run", self.experiment, "--framework", framework, "--out", str(out)]
        return [*head, "--checkpoint", self.checkpoint, *sets]


PLANS = {
    "rnn": Plan("language-model", "every=3steps", "model=rnn max_epochs=3"),
    "gru-layer-random": Plan(
        "language-model",
        "every=1epoch",
        "model=gru scratch=false use_random_iter=true max_epochs=4",
    ),
    "lstm-random": Plan(
        "language-model",
        "every=4steps,keep=1",
        "model=lstm use_random_iter=true state=drawn num_layers=2 max_epochs=3",
    ),
    "lstm-layer": Plan(
        "language-model",
        "every=5steps,keep=3",
        "model=lstm scratch=false max_epochs=3 gradient_clip_method=adaptive",
    ),
    "gru": Plan("language-model", "every=1steps", "model=gru back_steps=3 max_epochs=2"),
    "digit-sum": Plan(
        "digit-sum",
        "every=4steps",
        "cells=srn,gru,lstm lengths=4 max_epochs=3 num_hiddens=4 batch_size=100",
    ),
    "gradient-explosion": Plan(
        "gradient-explosion",
        "every=1epoch",
        "length=5 num_hiddens=4 batch_size=75 max_epochs=3 adam_epochs=3",
    ),
}
"""RNN, GRU and LSTM written out and of the framework, in sequential and random order, by SGD and
Adam (digit-sum, gradient-explosion), and runs of several models."""


class Reference:
    """A run that was never stopped.

    Attributes:
        ended: of its process.
        took_s: from its first checkpoint to its end.
        path: its directory.
    """

    def __init__(self, plan: Plan, framework: str, folder: Path) -> None:
        self.plan, self.framework, self.folder = plan, framework, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "straight"
        command = Command(plan.arguments(framework, self.path), folder / "straight.log")
        wait_for(self.path / "checkpoints", command)
        began = time.monotonic()
        self.ended = command.wait()
        self.took_s = time.monotonic() - began
        if self.ended.code != 0:
            raise RuntimeError(f"{command.arguments} failed:\n{self.ended.text}")
        self.content = content(self.path)

    def new(self, name: str) -> "Attempt":
        """Another such run, to be stopped."""
        return Attempt(self, self.folder / name)


class Attempt:
    """A run that is stopped and resumed."""

    def __init__(self, reference: Reference, path: Path) -> None:
        self.reference, self.path = reference, path
        self.log = path.with_name(path.name + ".log")
        shutil.rmtree(path, ignore_errors=True)

    @property
    def first(self) -> list[str]:
        """Arguments of the command that begins it."""
        return self.reference.plan.arguments(self.reference.framework, self.path)

    @property
    def again(self) -> list[str]:
        """Arguments of the command that goes on."""
        checkpoint = self.reference.plan.checkpoint
        return ["run", "--resume", str(self.path), "--checkpoint", checkpoint]

    def start(self, **options: object) -> Ended:
        return call(*self.first, log=self.log, **options)

    def resume(self, *more: str, **options: object) -> Ended:
        return call(*self.again, *more, log=self.log, **options)

    def wrong(self) -> list[str]:
        """How it differs from the run that was never stopped."""
        return differences(self.reference.content, content(self.path))

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        for each in (self.log, self.log.with_suffix(".calls")):
            each.unlink(missing_ok=True)


def content(run: Path) -> dict[str, bytes]:
    """All that two equal runs have in common: the content of files by name."""
    found = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if name in DIFFER:
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            found[name] = b"no file"
        elif path.is_dir():
            found[name] = b"a folder"
        elif name == "summary.json":
            summary = json.loads(path.read_bytes())
            summary.pop("tokens_per_s", None)
            found[name] = json.dumps(summary).encode()
        elif name == "timings.jsonl":
            lines = [json.loads(line) for line in path.read_bytes().splitlines()]
            places = [[line.get("part"), line["epoch"], line["step"]] for line in lines]
            found[name] = json.dumps(places).encode()
        else:
            found[name] = path.read_bytes()
    return found


def differences(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """The files that differ, in words."""
    found = [f"{name} is missing" for name in one if name not in other]
    found += [f"{name} is there" for name in other if name not in one]
    return found + [f"{name} differs" for name in one if one[name] != other.get(name, one[name])]


def drawn(*seed: object) -> random.Random:
    """A generator of its own for a case."""
    return random.Random("-".join(map(str, seed)))
