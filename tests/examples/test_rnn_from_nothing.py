"""The library computes the numbers of the program that uses nothing of it."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

PROGRAM = Path(__file__).parents[2] / "examples/rnn_from_nothing.py"
EPOCHS = 3


@pytest.fixture(scope="module")
def program():
    return SimpleNamespace(**runpy.run_path(str(PROGRAM)))


@pytest.fixture(scope="module")
def trained(program):
    """Parameters before and after training, and what the training printed."""
    text = program.read_text(program.TIME_MACHINE)
    characters = sorted(set(text))
    ids = np.array([characters.index(c) for c in text])
    p = program.initial_parameters(len(characters), 24, np.random.default_rng(0))
    before = {name: 10 * value.astype("float32") for name, value in p.items()}
    after = {name: value.astype("float64") for name, value in before.items()}
    rng = np.random.default_rng(1)
    losses = [program.train_epoch(after, ids, rng) for _ in range(EPOCHS)]
    return SimpleNamespace(ids=ids, before=before, after=after, losses=losses)


def test_it_imports_nothing_of_ours():
    lines = PROGRAM.read_text().splitlines()
    imports = [line for line in lines if line.startswith(("import", "from"))]
    assert imports == ["import re", "import sys", "from pathlib import Path", "import numpy as np"]
    assert len(lines) <= 160


def test_its_gradients_are_finite_differences(program):
    rng = np.random.default_rng(0)
    p = {name: rng.normal(size=value.shape) / 3
         for name, value in program.initial_parameters(5, 4, rng).items()}  # fmt: skip
    X, Y, H = rng.integers(0, 5, (2, 3)), rng.integers(0, 5, (2, 3)), rng.normal(size=(2, 4))
    _, gradients, _ = program.loss_and_gradients(p, X, Y, H)
    for name, value in p.items():
        for at in np.ndindex(value.shape):
            losses = []
            for step in (1e-6, -2e-6):
                value[at] += step
                losses.append(program.loss_and_gradients(p, X, Y, H)[0])
            value[at] += 1e-6
            slope = (losses[0] - losses[1]) / 2e-6
            assert gradients[name][at] == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_the_library_trains_and_writes_the_same(program, trained, engine):
    pytest.importorskip("torch")
    from unrolled import torch as u
    from unrolled.models.generation import continue_ids
    from unrolled.training.records import Listener

    class Losses(Listener):
        def __init__(self):
            self.epochs, self.norms = [], []

        def on_step(self, trainer, step):
            self.norms.append(step.gradient_norm)

        def on_epoch(self, trainer, epoch):
            self.epochs.append(epoch.loss)

    V, H = trained.before["W_xh"].shape
    model = u.LanguageModel(V, H, lr=program.LEARNING_RATE, values=trained.before, engine=engine)

    class Data(u.DataModule):
        def get_dataloader(self, train):
            return Minibatches() if train else None

    class Minibatches:
        continues = True

        def __len__(self):
            return (len(trained.ids) - 1) // program.BATCH_SIZE // program.NUM_STEPS

        def __iter__(self):
            for X, Y in program.minibatches(trained.ids, rng):
                yield u.backend.asarray(X), u.backend.asarray(Y)

    rng, heard = np.random.default_rng(1), Losses()
    u.Trainer(EPOCHS, 0, program.CLIP_NORM, [heard]).fit(model, Data())
    assert heard.epochs == pytest.approx([loss for loss, _ in trained.losses], rel=1e-5)
    norms = [norm for _, norms in trained.losses for norm in norms]
    assert heard.norms == pytest.approx(norms, rel=1e-4)
    for name, value in model.export_parameters().items():
        np.testing.assert_allclose(value, trained.after[name], rtol=1e-3, atol=1e-5)
    start = trained.ids[:15].tolist()
    ours = continue_ids(u.backend, model, [list(start)], 50)[0]
    assert ours == program.generate(trained.after, start, 50)
