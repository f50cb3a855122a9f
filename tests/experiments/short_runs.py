"""Runs of experiments, and what they have kept."""

import json

from installed import FRAMEWORK
from unrolled import experiments


def run(experiment, folder, framework=FRAMEWORK, seed=0, **settings):
    """The directory of a new run in a folder."""
    out = folder / f"run-{len(list(folder.iterdir()))}"
    assignments = tuple(f"{name}={value}" for name, value in settings.items())
    return experiments.run(experiment, assignments, framework, seed, out)


def summary(path):
    return json.loads((path / "summary.json").read_text())


def lines(path, file="metrics.jsonl"):
    return [json.loads(line) for line in (path / file).read_text().splitlines()]


def same(one, other, files=("metrics.jsonl", "model.safetensors")):
    """Whether two runs have the same bytes; all their files agree in that."""
    equal = [(one / name).read_bytes() == (other / name).read_bytes() for name in files]
    assert len(set(equal)) == 1
    return equal[0]
