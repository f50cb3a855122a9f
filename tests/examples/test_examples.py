"""Every example runs, and what it prints is what it should have found."""

import re
import runpy
from pathlib import Path

import pytest

pytest.importorskip("torch")

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def printed(capsys):
    def run(name):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+(?:e[-+]\d+)?", text)]


def test_every_example_is_in_the_table_and_tested():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    table = (EXAMPLES / "README.md").read_text()
    tests = Path(__file__).read_text()
    assert names
    for name in names:
        assert f"`{name}.py`" in table
        own = Path(__file__).with_name(f"test_{name}.py").exists()
        assert own or f'printed("{name}")' in tests


def test_zero_initialisation(printed):
    text = printed("zero_initialisation")
    assert numbers(text)[0] < 0.01
    assert "hold 1 different" in text


def test_large_sigma(printed):
    lines = printed("large_sigma").splitlines()
    errors = [numbers(line)[-1] for line in lines[:6]]
    assert errors[3] > 1 > errors[0]
    assert errors[5] < 0.02


def test_learning_rates(printed):
    lines = dict(line[3:].split(None, 1) for line in printed("learning_rates").splitlines()[:6])
    final = {lr: float(rest.split()[-1]) for lr, rest in lines.items() if "finite" not in rest}
    assert final["0.001"] > final["0.01"] > final["0.03"] > 10 * final["0.3"]
    assert final.get("3", float("inf")) > 1e3


def test_odd_batch_sizes(printed):
    assert "32 minibatches, the last has 8" in printed("odd_batch_sizes")


def test_robust_losses(printed):
    clean, corrupted = printed("robust_losses").split("with y_5")
    assert max(numbers(clean)) < 0.1
    squared, absolute, huber = numbers(corrupted)[:3]
    assert squared > 1 > 0.1 > absolute
    assert huber < 0.1


def test_why_shuffle(printed):
    shuffled, in_order = numbers(printed("why_shuffle"))[:2]
    assert shuffled < 0.02 < in_order


def test_ohms_law(printed):
    fitted, true, exact = numbers(printed("ohms_law"))
    assert fitted == pytest.approx(exact, abs=0.05)
    assert true == 47.0


def test_plancks_law(printed):
    text = printed("plancks_law")
    assert int(re.search(r"T = (\d+) K", text)[1]) == pytest.approx(5772, abs=30)


def test_second_derivatives(printed):
    text = printed("second_derivatives")
    assert "shape (2, 2)" in text
    assert float(re.search(r"up to (\S+)", text)[1]) < 1e-5
    assert "once.requires_grad=False" in text


def test_watch_your_model(printed):
    text = printed("watch_your_model")
    reach = {kind: int(n) for kind, n in re.findall(r"(\w+)\s+reaches\s+(\d+)", text)}
    assert reach["RNN"] < 12 < 25 < reach["LSTM"]
    assert "warning: vanished, rnn" in text


def test_resume_any_loop(printed):
    exact, without_optimizer = numbers(printed("resume_any_loop"))
    assert exact == 0
    assert without_optimizer > 1e-4
