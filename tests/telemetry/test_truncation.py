"""Truncated backpropagation through time, against the same by hand in float64."""

import importlib.util
import sys
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from kept import Batches, Keeper

from installed import FRAMEWORK, INSTALLED
from unrolled.data.batching import SequenceLoader
from unrolled.errors import SettingError, TextError
from unrolled.frameworks import load
from unrolled.telemetry.recorder import Telemetry
from unrolled.training.truncation import Truncation

B, T, H, V = 3, 6, 4, 7
IDS = np.random.default_rng(2).integers(0, V, (B, 40))
IN_ALL = [(framework, "lstm") for framework in INSTALLED] + [(FRAMEWORK, "rnn")]


@cache
def by_hand():
    path = Path(__file__).parents[1] / "parity" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference_by_hand", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def train(framework, cell, pairs, truncation, lr=0.5):
    library, keeper, records = load(framework), Keeper(), []
    model = library.LanguageModel(V, H, cell, lr=lr, sigma=0.5, seed=1)
    listeners = [Telemetry(1, [records.append]), keeper]
    trainer = library.Trainer(1, listeners=listeners, truncation=truncation)
    trainer.fit(model, Batches(library.backend, *pairs))
    return keeper, records


def assert_close(found, expected):
    scale = max(np.abs(g).max() for g in expected.values())
    for name, g in expected.items():
        np.testing.assert_allclose(found[name], g, rtol=0, atol=1e-5 * scale, err_msg=name)


def cut(steps):
    return [
        (IDS[:, i : i + steps], IDS[:, i + 1 : i + 1 + steps]) for i in range(0, 2 * steps, steps)
    ]


@pytest.mark.parametrize(("framework", "cell"), IN_ALL)
def test_segments_cut_the_gradient_and_carry_the_state(framework, cell):
    back_steps = {"rnn": 4, "lstm": 2}[cell]
    keeper, records = train(framework, cell, cut(T), Truncation(back_steps=back_steps))
    reference, p = by_hand(), keeper.weights[0]
    model = reference.LanguageModel(cell, 1, V, H)
    state = model.begin_state(B)
    for k, (X, Y) in enumerate(cut(T)):
        loss, total = 0.0, dict.fromkeys(p, 0.0)
        for first in range(0, T, back_steps):
            part = slice(first, first + back_steps)
            share = X[:, part].shape[1] / T
            # begins from the state as from a constant: that is the cut
            l_part, g, state = model.loss_and_gradients(p, X[:, part], Y[:, part], state)
            loss += share * l_part
            total = {name: total[name] + share * g[name] for name in p}
        assert keeper.steps[k].loss == pytest.approx(loss, rel=1e-6)
        assert_close(keeper.gradients[k], total)
        p = {name: p[name] - 0.5 * total[name] for name in p}
        truncation_points = list(range(back_steps, T, back_steps))
        layer = records[k].layers["layers.0"]
        assert layer.truncation_points == (truncation_points if k == 0 else [0, *truncation_points])
        assert len(layer.hidden_gradient_mean) == T
        assert layer.horizon_steps <= T - 1 - truncation_points[-1]


def test_no_gradient_crosses_a_border():
    # the first segment's gradients through time are those of the first segment by itself
    X, Y = cut(T)[0]
    _, records = train(FRAMEWORK, "gru", [(X, Y)], Truncation(back_steps=4))
    _, alone = train(FRAMEWORK, "gru", [(X[:, :4], Y[:, :4])], Truncation())
    whole = records[0].layers["layers.0"]
    part = alone[0].layers["layers.0"]
    for name in ("hidden_gradient_mean", "hidden_gradient_max", "weight_gradient_per_step"):
        expected = 4 / T * np.array(getattr(part, name))
        np.testing.assert_allclose(getattr(whole, name)[:4], expected, rtol=1e-5)


@pytest.mark.parametrize(("framework", "cell"), IN_ALL)
def test_windows_reach_back_over_earlier_inputs(framework, cell):
    before = {"rnn": 2, "lstm": 8}[cell]
    pairs = [
        (IDS[:, i : i + before + T], IDS[:, i + before + 1 : i + before + 1 + T])
        for i in range(0, 2 * T, T)
    ]
    truncation = Truncation(back_steps=before + T)
    keeper, records = train(framework, cell, pairs, truncation)
    reference, p = by_hand(), keeper.weights[0]
    model = reference.LanguageModel(cell, 1, V, H)
    state = model.begin_state(B)
    for k, (X, Y) in enumerate(pairs):
        logits, _, tapes = model.forward(p, X, state)
        new = before * B  # rows of the logits, time-major, that have no target
        loss, d_new = reference.cross_entropy(logits[new:], Y.T.reshape(-1))
        d_logits = np.concatenate([np.zeros((new, V)), d_new])
        g = model.backward(p, d_logits, tapes, T=before + T)
        assert keeper.steps[k].loss == pytest.approx(loss, rel=1e-6)
        assert_close(keeper.gradients[k], g)
        # the next window begins T steps later
        _, state, _ = model.forward(p, X[:, :T], state)
        p = {name: p[name] - 0.5 * g[name] for name in p}
        layer = records[k].layers["layers.0"]
        assert layer.truncation_points == ([0] if k else [])
        assert len(layer.hidden_gradient_mean) == before + T
        assert layer.hidden_gradient_mean[0] > 0  # it does reach back


@pytest.mark.parametrize("framework", INSTALLED)
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_drawn_states_come_from_the_seed(framework, cell):
    library = load(framework)
    data = Batches(library.backend, *cut(T))

    def states(seed, sigma=2.0):
        truncation = Truncation(state="drawn", sigma=sigma, seed=seed)
        trainer = library.Trainer(1, truncation=truncation)
        trainer.prepare(library.LanguageModel(V, H, cell), data)
        drawn = []
        for batch in data:
            drawn.append(trainer.truncation.first_state(trainer, batch, None))
            trainer.train_batch_idx += 1
        return np.array([[library.backend.to_numpy(part) for part in state] for state in drawn])

    first = states(seed=3)
    assert first.shape == (2, 2 if cell == "lstm" else 1, B, H)
    np.testing.assert_array_equal(states(seed=3), first)
    assert (states(seed=4) != first).all()
    assert (first[0] != first[1]).all()
    assert 1.2 < first.std() < 3.0
    assert not states(seed=3, sigma=0.0).any()


@pytest.mark.parametrize(
    ("truncation", "said"),
    [
        (Truncation(state="drawn"), r"begin_state.*state=zero"),
        (Truncation(back_steps=1), r"inputs and targets \(B, T\)"),
    ],
)
def test_a_model_without_sequences_is_refused(truncation, said):
    library = load(FRAMEWORK)
    data = library.SyntheticRegressionData([2, -3.4], 4.2, num_train=32, num_val=0, seed=0)
    trainer = library.Trainer(1, truncation=truncation)
    with pytest.raises(SettingError, match=said):
        trainer.fit(library.LinearRegressionScratch(2, lr=0.03, seed=0), data)


def test_mistakes_are_told_at_once():
    with pytest.raises(SettingError) as error:
        Truncation(state="carry", back_steps=0, sigma=-1)
    message = str(error.value)
    assert "did you mean 'carried'" in message
    assert "back_steps is 0" in message
    assert "sigma is -1" in message


@pytest.mark.parametrize("back_steps", [5, 7, 12])
@pytest.mark.parametrize("random", [False, True])
def test_windows_have_every_target_once_and_what_came_before_it(random, back_steps):
    corpus = np.arange(100, 227)
    loader = SequenceLoader(corpus, 3, 5, random, seed=0, back_steps=back_steps)
    for _ in range(3):
        batches = list(loader)
        assert len(loader) - 1 <= len(batches) <= len(loader)
        targets = np.concatenate([Y.ravel() for _, Y in batches])
        assert len(set(targets)) == len(targets)
        for X, Y in batches:
            assert (X.shape, Y.shape) == ((3, back_steps), (3, 5))
            np.testing.assert_array_equal(Y, X[:, -5:] + 1)
            np.testing.assert_array_equal(np.diff(X), 1)
        if not random:
            firsts = np.array([X[:, 0] for X, _ in batches])
            np.testing.assert_array_equal(np.diff(firsts, axis=0), 5)


def test_without_overlap_a_window_is_a_sequence():
    corpus = np.arange(90)
    for random in (False, True):
        windows = SequenceLoader(corpus, 2, 5, random, seed=1, back_steps=5)
        assert len(windows) == len(SequenceLoader(corpus, 2, 5, random, seed=1))
        plain = list(SequenceLoader(corpus, 2, 5, False, seed=1))
    windows = list(SequenceLoader(corpus, 2, 5, seed=1, back_steps=5))
    for window, sequence in zip(windows, plain, strict=True):
        np.testing.assert_array_equal(window, sequence)


@pytest.mark.parametrize("random", [False, True])
def test_the_shortest_corpus_gives_a_minibatch_at_every_offset(random):
    make = partial(SequenceLoader, batch_size=3, num_steps=5, use_random_iter=random, seed=0)
    needs = make(np.arange(500), back_steps=9).needs
    loader = make(np.arange(needs), back_steps=9)
    assert all(len(list(loader)) >= 1 for _ in range(50))
    with pytest.raises(TextError, match=f"back_steps=9 need at least {needs}"):
        make(np.arange(needs - 1), back_steps=9)
    with pytest.raises(SettingError, match="at least as many"):
        make(np.arange(500), back_steps=4)
