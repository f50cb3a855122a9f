"""Several processes and devices of JAX train as one device does."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from installed import INSTALLED
from parallel.harness import check_same, launch, run
from parallel.program import Case

pytestmark = pytest.mark.skipif("jax" not in INSTALLED, reason="JAX is not installed")

CARRIED = Case("carried", method="adaptive", save=True)
SUM = Case("sum", rows=71, reduction="sum")
UNEVEN = Case("uneven", rows=71)
LONG = (
    UNEVEN,
    Case(
        "value", num_layers=2, cell="gru", random=True, method="value", state="drawn", back_steps=3
    ),
    Case("layer", num_layers=2, cell="lstm", layer=True, random=True, method="per_tensor"),
    Case("carried layer", num_layers=2, cell="gru", layer=True, method="adaptive", back_steps=2),
)
DOUBLE = Case("double", "rnn", layer=True, double=True)

DIVIDED = """
from unrolled import jax as u

parallel = u.data_parallel(devices=4)
data = u.TextData("hello world " * 100, batch_size=8, num_steps=5, seed=0)
trainer = u.Trainer(1, data_parallel=parallel)
trainer.prepare(u.LanguageModel(len(data.vocab), 16, seed=0), data)
batch = trainer.data_parallel.own_part(trainer, next(iter(trainer.train_dataloader)))
program = trainer.differentiate.lower(trainer.parameters, batch, None, *trainer.context)
text = program.compile().as_text()
print("gathers", text.count("all-gather("), "adds", text.count("all-reduce(") > 0)
print("logits", "f32[10,{0}]".format(len(data.vocab)) in text)  # 2 sequences of 5 steps a device
"""


def test_two_processes_train_as_one_and_four_devices_go_on_from_their_checkpoint(
    tmp_path: Path,
) -> None:
    one, two, four = tmp_path / "one", tmp_path / "two", tmp_path / "four"
    run("jax", one, [CARRIED, SUM])
    run("jax", two, [CARRIED, SUM], processes=2)
    resumed = replace(CARRIED, save=False, resume=str(two / "carried"))
    told = run("jax", four, [resumed, SUM], devices=4)
    assert told.count("goes on in 4 parts where there were 2: only roundings differ") == 1
    for case in (CARRIED, SUM):
        check_same(one / f"{case.name}.npz", two / f"{case.name}.npz")
        check_same(one / f"{case.name}.npz", four / f"{case.name}.npz")


def test_each_device_computes_its_part_alone() -> None:
    told = launch([sys.executable, "-c", DIVIDED])
    assert "gathers 0 adds True" in told
    assert "logits True" in told


@pytest.mark.long
@pytest.mark.parametrize(("processes", "devices"), [(2, 1), (1, 4), (2, 2)])
def test_every_kind_of_training_is_the_same(tmp_path: Path, processes: int, devices: int) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    run("jax", one, LONG)
    run("jax", many, LONG, processes, devices)
    for case in LONG:
        check_same(one / f"{case.name}.npz", many / f"{case.name}.npz")


@pytest.mark.long
def test_in_float64_it_is_the_same_to_ten_digits(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run("jax", one, [DOUBLE], JAX_ENABLE_X64="1")
    run("jax", two, [DOUBLE], processes=2, JAX_ENABLE_X64="1")
    check_same(one / "double.npz", two / "double.npz", limit=1e-10)
