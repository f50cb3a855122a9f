"""Training with gradients of the rows that were looked up, beside training with whole ones."""

from functools import partial

import numpy as np
import pytest

pytest.importorskip("torch")

import torch as pytorch

from unrolled import native, torch
from unrolled.backends.rows import MANY
from unrolled.errors import NotFiniteError
from unrolled.telemetry.recorder import Telemetry
from unrolled.torch.sparse_gradients import rows_suffice
from unrolled.training.records import Listener

TEXT = "".join(chr(0x4E00 + i * i % 4099) for i in range(MANY + 100)) * 2
near = partial(pytest.approx, rel=1e-3, abs=1e-7)
ENGINES = ["reference", "fast"] + ["written"] * native.available()[0]


class Looks(Listener):
    """Keeps the kinds of gradients; whether it can deal with rows is up to the test."""

    def __init__(self, takes_rows):
        self.takes_rows = takes_rows
        self.sparse = set()

    def on_gradients(self, trainer, gradients):
        self.sparse |= {name for name, g in gradients.items() if g.is_sparse}


class Diverges(Looks):
    """Far too large a step from the fifth minibatch on; the table as it was before the first."""

    def on_fit_start(self, trainer):
        self.trainer, self.start = trainer, trainer.parameters["W_xh"].detach().clone()

    def on_batch(self, trainer, step):
        trainer.optim.lr = 1.0 if step < 5 else 1e38
        return False


def train(takes_rows, cell="rnn", engine="fast", optimizer=None, listeners=(), **options):
    pytorch.manual_seed(0)
    data = torch.TextData(TEXT, batch_size=16, num_steps=8, seed=0)
    model = torch.LanguageModel(len(data.vocab), 8, cell, seed=1, sigma=0.3, engine=engine)
    if optimizer is not None:
        model.configure_optimizers = lambda: optimizer(model.parameters())
    looks = Looks(takes_rows)
    trainer = torch.Trainer(2, listeners=[looks, *listeners], **options)
    trainer.fit(model, data)
    return trainer, looks


@pytest.fixture
def engine(request, monkeypatch):
    """``written`` is the fast engine where there is no compiler."""
    if request.param == "written":
        monkeypatch.setattr(native, "available", lambda: (False, "switched off"))
    return "reference" if request.param == "reference" else "fast"


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("method", ["global_norm", "per_tensor"])
def test_rows_train_as_whole_gradients_do(engine, cell, method):
    clip = {"gradient_clip_val": 0.5, "gradient_clip_method": method}
    (rows, looks), (whole, dense) = (train(takes, cell, engine, **clip) for takes in (True, False))
    tables = {name for name in whole.parameters if name.startswith("W_x")}
    assert looks.sparse == tables
    assert dense.sparse == set()
    for name, array in whole.parameters.items():
        np.testing.assert_allclose(
            torch.backend.to_numpy(rows.parameters[name]),
            torch.backend.to_numpy(array),
            rtol=1e-4,
            atol=1e-5,
        )


def test_telemetry_records_the_same_numbers():
    found = []
    for takes in (True, False):
        records = []
        train(takes, listeners=[Telemetry(1, sinks=[records.append])], gradient_clip_val=0.5)
        found.append(records)
    assert len(found[0]) == len(found[1]) > 10
    for row, whole in zip(*found, strict=True):
        assert row.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-4)
        for name, values in whole.parameters.items():
            again = row.parameters[name]
            assert again.gradient_norm == near(values.gradient_norm)
            assert again.clipped_norm == near(values.clipped_norm)
            if values.update_ratio is not None:  # that of zeros
                assert again.update_ratio == near(values.update_ratio)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": partial(pytorch.optim.SGD, lr=0.1, momentum=0.9)},
        {"optimizer": partial(pytorch.optim.SGD, lr=0.1, weight_decay=0.1)},
        {"optimizer": partial(pytorch.optim.Adam, lr=0.1)},
        {"gradient_clip_val": 0.5, "gradient_clip_method": "value"},
        {"gradient_clip_val": 0.5, "gradient_clip_method": "adaptive"},
    ],
    ids=["momentum", "weight decay", "Adam", "value", "adaptive"],
)
def test_what_moves_or_reads_every_row_gets_whole_gradients(options):
    assert train(True, **options)[1].sparse == set()


def test_plain_sgd_of_pytorch_takes_rows():
    rows, looks = train(True, optimizer=partial(pytorch.optim.SGD, lr=0.5))
    whole, _ = train(False, optimizer=partial(pytorch.optim.SGD, lr=0.5))
    assert looks.sparse == {"W_xh"}
    for name, array in whole.parameters.items():
        assert pytorch.allclose(rows.parameters[name], array, 1e-4, 1e-5)


def test_a_hook_of_others_gets_whole_gradients():
    class Hooked(Looks):
        def on_fit_start(self, trainer):
            self.trainer, self.seen = trainer, []
            table = trainer.parameters["W_xh"]
            table.register_hook(lambda g: self.seen.append(g.is_sparse))

    hooked = Hooked(True)
    train(True, listeners=[hooked])
    assert rows_suffice(hooked.trainer)
    assert hooked.seen
    assert not any(hooked.seen)


def test_what_the_framework_holds_afterwards_can_be_listed():
    trainer, looks = train(True)
    listed = torch.parameters(trainer.model)["W_xh"]
    assert looks.sparse
    assert listed.gradient.shape == listed.shape
    assert listed.gradient_norm > 0


def test_a_diverged_run_keeps_the_weights_of_the_last_finite_loss():
    found = []
    for takes in (True, False):
        listener = Diverges(takes)
        with pytest.raises(NotFiniteError) as error:
            train(takes, listeners=[listener])
        weights = listener.trainer.parameters
        found.append((error.value.step, weights))
        assert all(p.isfinite().all() for p in weights.values())
        assert not pytorch.equal(weights["W_xh"], listener.start)  # it got somewhere
    (step, rows), (same, whole) = found
    assert step == same > 5
    for name, expected in whole.items():
        assert (rows[name] - expected).abs().max() <= 1e-4 * expected.abs().max()
