"""Several processes of PyTorch train as one does."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from installed import INSTALLED
from parallel.harness import check_same, launch, run
from parallel.program import Case

pytestmark = pytest.mark.skipif("torch" not in INSTALLED, reason="PyTorch is not installed")

CARRIED = Case("carried", "lstm", num_layers=2, method="adaptive", save=True)
SPARSE = Case("sparse", vocab=1500, random=True)
DOUBLE = Case("double", layer=True, method="value", state="drawn", double=True)
UNEVEN = Case("uneven", rows=71)
SUM = Case("sum", rows=71, reduction="sum")
LONG = (
    Case(
        "layer",
        num_layers=2,
        cell="gru",
        layer=True,
        random=True,
        method="per_tensor",
        back_steps=3,
    ),
    Case("lstm layer", num_layers=2, cell="lstm", layer=True, method="adaptive"),
    Case(
        "drawn", num_layers=2, cell="gru", random=True, method="value", state="drawn", back_steps=2
    ),
    Case("sparse lstm", num_layers=2, cell="lstm", vocab=1500, method="per_tensor"),
    UNEVEN,
    SUM,
)


def test_two_processes_train_as_one_and_four_go_on_from_their_checkpoint(tmp_path: Path) -> None:
    one, two, four = tmp_path / "one", tmp_path / "two", tmp_path / "four"
    run("torch", one, [CARRIED, SPARSE, DOUBLE, UNEVEN, SUM])
    run("torch", two, [CARRIED, SPARSE, DOUBLE, SUM], processes=2)
    for case in (CARRIED, SPARSE, SUM):
        check_same(one / f"{case.name}.npz", two / f"{case.name}.npz")
    check_same(one / "double.npz", two / "double.npz", limit=1e-10)

    resumed = replace(CARRIED, save=False, resume=str(two / "carried"))
    told = run("torch", four, [resumed, UNEVEN], processes=4)
    assert told.count("goes on in 4 parts where there were 2: only roundings differ") == 1
    for case in (CARRIED, UNEVEN):
        check_same(one / f"{case.name}.npz", four / f"{case.name}.npz")


@pytest.mark.parametrize(
    ("kind", "told"),
    [("DataLoader", "10 True\n10 True\n"), ("TextData", "first minibatch sha256 is")],
)
def test_processes_see_the_same_minibatches_or_say_so(kind: str, told: str) -> None:
    program = Path(__file__).with_name("loaders_torch.py")
    environment = {"TORCH_CPP_LOG_LEVEL": "ERROR"}
    command = [sys.executable, str(program), kind]
    if kind == "DataLoader":  # which draws from PyTorch's generator
        assert launch(command, 2, **environment) == told
    else:  # whose seed was drawn before the processes met
        with pytest.raises(AssertionError, match=told):
            launch(command, 2, **environment)


@pytest.mark.long
@pytest.mark.parametrize("processes", [2, 4])
def test_every_kind_of_training_is_the_same(tmp_path: Path, processes: int) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    run("torch", one, LONG)
    run("torch", many, LONG, processes)
    for case in LONG:
        check_same(one / f"{case.name}.npz", many / f"{case.name}.npz")
