"""Several devices of TensorFlow train as one does."""

from dataclasses import replace
from pathlib import Path

import pytest

from installed import INSTALLED
from parallel.harness import check_same, run
from parallel.program import Case

pytestmark = pytest.mark.skipif("tensorflow" not in INSTALLED, reason="TensorFlow is missing")

CARRIED = Case("carried", method="adaptive", save=True)
SUM = Case("sum", rows=71, reduction="sum")
LONG = (
    Case("uneven", rows=71),
    Case(
        "value", num_layers=2, cell="gru", random=True, method="value", state="drawn", back_steps=3
    ),
    Case("layer", num_layers=2, cell="lstm", layer=True, random=True, method="per_tensor"),
    Case("carried layer", num_layers=2, cell="gru", layer=True, method="adaptive"),
)


def test_two_devices_train_as_one_which_goes_on_from_their_checkpoint(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run("tensorflow", two, [CARRIED, SUM], devices=2)
    rest = replace(CARRIED, name="rest", save=False, resume=str(two / "carried"))
    told = run("tensorflow", one, [CARRIED, SUM, rest])
    assert "goes on in 1 part where there were 2: only roundings differ" in told
    check_same(one / "carried.npz", one / "rest.npz")
    for case in (CARRIED, SUM):
        check_same(one / f"{case.name}.npz", two / f"{case.name}.npz")


@pytest.mark.long
@pytest.mark.parametrize("devices", [2, 4])
def test_every_kind_of_training_is_the_same(tmp_path: Path, devices: int) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    run("tensorflow", one, LONG)
    run("tensorflow", many, LONG, devices=devices)
    for case in LONG:
        check_same(one / f"{case.name}.npz", many / f"{case.name}.npz")
