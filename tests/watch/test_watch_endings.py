"""How a watch ends: what its run says of an error, and that it does not begin again."""

import json

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from unrolled.errors import SettingError
from unrolled.watch import watch


def train(model):
    model(torch.ones(2, 3)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, None])
def test_a_run_that_an_error_ended_is_not_finished(error, tmp_path, unrolled):
    out, model = tmp_path / "mine", nn.Linear(3, 1)

    def run():
        with watch(model, out=out):
            train(model)
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(error):
            run()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["status"] == ("finished" if error is None else "interrupted")
    assert summary["steps"] == 1
    assert unrolled("diagnose", out).code == 0
    assert not any(module._forward_hooks for module in model.modules())


def test_a_closed_watch_says_that_it_is():
    model = nn.Linear(3, 1)
    with watch(model) as watched:
        train(model)
    with pytest.raises(SettingError, match="closed"), watched:
        train(model)
    assert watched.last.step == 1


def test_a_sink_that_raises_an_error_ends_no_training():
    seen = []

    def sink(record):
        seen.append(record.step)
        if record.step < 3:
            raise ConnectionError("the tracker is down")

    model = torch.nn.Linear(3, 1)
    with watch(model, sink=sink) as watched:
        with pytest.warns(RuntimeWarning, match="ConnectionError at step 1: the tracker"):
            train(model)
        for _ in range(2):  # warnings are errors: there is no second one
            train(model)
        assert "tracker is down" in watched.notes["sink"]
        assert seen == [record.step for record in watched.records] == [1, 2, 3]
