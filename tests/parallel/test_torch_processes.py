"""Several processes of PyTorch train as one does."""

from dataclasses import replace
from pathlib import Path

import pytest

from installed import INSTALLED
from parallel.harness import check_same, run
from parallel.program import Case

pytestmark = pytest.mark.skipif("torch" not in INSTALLED, reason="PyTorch is not installed")

CARRIED = Case("carried", "lstm", method="adaptive", save=True)
SPARSE = Case("sparse", "rnn", random=True, vocab=1500)
LAYER = Case("layer", "gru", layer=True, random=True, method="per_tensor", back_steps=3)
DOUBLE = Case("double", "rnn", layer=True, method="value", state="drawn", double=True)
UNEVEN = Case("uneven", rows=71)
SUM = Case("sum", rows=71, reduction="sum")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process gives."""
    folder = tmp_path_factory.mktemp("one") / "runs"
    run("torch", folder, [CARRIED, SPARSE, LAYER, DOUBLE, UNEVEN, SUM])
    return folder


def test_two_processes_train_as_one_and_four_go_on_from_their_checkpoint(
    one: Path, tmp_path: Path
) -> None:
    two, four = tmp_path / "two", tmp_path / "four"
    run("torch", two, [CARRIED, SPARSE, LAYER, DOUBLE, UNEVEN, SUM], processes=2)
    for case in (CARRIED, SPARSE, LAYER, UNEVEN, SUM):
        check_same(one / f"{case.name}.npz", two / f"{case.name}.npz")
    check_same(one / "double.npz", two / "double.npz", limit=1e-10)

    resumed = replace(CARRIED, save=False, resume=str(two / "carried"))
    told = run("torch", four, [resumed, UNEVEN], processes=4)
    assert told.count("goes on in 4 parts where there were 2: only roundings differ") == 1
    for case in (CARRIED, UNEVEN):
        check_same(one / f"{case.name}.npz", four / f"{case.name}.npz")
