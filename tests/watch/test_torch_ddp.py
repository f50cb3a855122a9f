"""`watch` in another person's training by several processes, beside the same by one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

LOOP = Path(__file__).with_name("ddp_loop_torch.py")


def loops(size: int, out: Path) -> list[dict]:
    command = [sys.executable, LOOP, str(size)]
    store = out / f"store-{size}"
    running = [subprocess.Popen([*command, str(rank), out, store]) for rank in range(size)]
    assert [each.wait(timeout=120) for each in running] == [0] * size
    return [json.loads((out / f"{size}-{rank}.json").read_text()) for rank in range(size)]


def gradients(told: dict) -> list[list[float]]:
    """Of every record the norms before and after clipping, of all and of each parameter."""
    return [
        [record["gradient_norm"], record["clipped_norm"]]
        + [each["gradient_norm"] for each in record["parameters"].values()]
        for record in told["records"]
    ]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    out = tmp_path_factory.mktemp("two")
    return out, loops(2, out)


def test_gradients_are_the_reduced_ones_in_every_process(tmp_path: Path, two) -> None:
    (alone,) = loops(1, tmp_path)
    for rank, told in enumerate(two[1]):
        for found, expected in zip(gradients(told), gradients(alone), strict=True):
            assert found == pytest.approx(expected, rel=1e-5)
        assert f"process {rank} of 2" in told["notes"]["processes"]
    assert alone["notes"] == {}


def test_process_0_alone_writes(two) -> None:
    out, _ = two
    assert [each.name for each in out.glob("run*")] == ["run"]
    notes = json.loads((out / "run/notes.json").read_text())
    assert "process 0 of 2" in notes["processes"]
