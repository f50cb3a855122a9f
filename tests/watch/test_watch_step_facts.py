"""What records say of a step beside its norms."""

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from unrolled.telemetry import TelemetryRecord  # noqa: E402
from unrolled.watch import watch  # noqa: E402


def last(cell=nn.LSTM, clear=True, too_late=None, bias=0.0, **zero_grad):
    """The third record of a small training."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"rnn": cell(4, 8), "out": nn.Linear(8, 2), "spare": nn.Linear(3, 3)})
    nn.init.constant_(model["rnn"].bias_ih_l0[:8], bias)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, weight_decay=0.01)
    with watch(model) as watched:
        for _ in range(3):
            if clear:
                optimizer.zero_grad(**zero_grad)
            model["out"](model["rnn"](torch.randn(9, 4, 4))[0][-1]).square().sum().backward()
            optimizer.step()
            if too_late:
                nn.utils.clip_grad_norm_(model.parameters(), too_late)
        return watched.last


@pytest.mark.parametrize("set_to_none", [True, False])
def test_optimizer_and_unused_parameters(set_to_none):
    record = last(set_to_none=set_to_none)
    assert (record.optimizer, record.learning_rate, record.weight_decay) == ("SGD", 0.1, 0.01)
    assert record.unused == ["spare.weight", "spare.bias"]
    assert (record.uncleared, record.scaled_late) == (False, None)
    assert TelemetryRecord.from_dict(record.as_dict()) == record


def test_gradients_that_were_not_cleared():
    assert last(clear=False).uncleared


def test_gradients_scaled_down_after_the_step():
    factor = last(too_late=1e-3).scaled_late
    assert 0 < factor < 0.1
    assert last(too_late=1e9).scaled_late is None


@pytest.mark.parametrize(
    ("cell", "kind", "gate", "bias", "shares"),
    [
        (nn.LSTM, "lstm", "input", -20.0, [1, 0]),
        (nn.LSTM, "lstm", "input", 20.0, [0, 1]),
        (nn.GRU, "gru", "reset", -20.0, [1, 0]),
        (nn.GRU, "gru", "reset", 0.0, [0, 0]),
    ],
)
def test_gates(cell, kind, gate, bias, shares):
    (layer,) = last(cell, bias=bias).layers.values()
    assert layer.cell == kind
    assert layer.gates[gate] == shares


@pytest.mark.parametrize("kind", ["RNN", "RNN_RELU"])
def test_a_plain_network_has_no_gates(kind):
    relu = {"nonlinearity": "relu"} if kind == "RNN_RELU" else {}
    (layer,) = last(lambda *sizes: nn.RNN(*sizes, **relu)).layers.values()
    assert (layer.cell, layer.gates) == (kind.lower(), {})
