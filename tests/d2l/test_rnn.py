"""The English edition's recurrent models, on every framework, beside NumPy by hand."""

import math
from typing import Any

import numpy as np
import pytest

from models import with_values
from parity.reference import LanguageModel, rnn_forward
from unrolled.errors import TextError

T, B, D, H = 4, 2, 3, 5


def in_numpy(X: Any, values: Any) -> Any:
    """The hidden states ``(T, B, H)``."""
    states, _, _ = rnn_forward(X, (np.zeros((X.shape[1], H)),), values)
    return states


def test_a_recurrent_layer_gives_every_state_and_goes_on_from_the_last(d2l: Any) -> None:
    asarray, to_numpy = d2l.backend.asarray, d2l.backend.to_numpy
    x = np.random.default_rng(0).normal(size=(2 * T, B, D)).astype(np.float32)
    first, then = asarray(x[:T]), asarray(x[T:])
    rnn = with_values(d2l.RNNScratch(D, H, sigma=0.5), first)
    truth = in_numpy(x, rnn.export_parameters())

    outputs, state = rnn(first)
    assert isinstance(outputs, list)
    np.testing.assert_allclose([to_numpy(h) for h in outputs], truth[:T], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(to_numpy(state), truth[T - 1], rtol=1e-4, atol=1e-6)
    for before in (state, (state,), [state]):
        outputs, _ = rnn(then, before)
        np.testing.assert_allclose(to_numpy(outputs[-1]), truth[-1], rtol=1e-4, atol=1e-6)
    # steps in a list, as the layer below gives them, or in an iterator, as reversed() does
    outputs, _ = rnn([then[t] for t in range(T)], state)
    np.testing.assert_allclose(to_numpy(outputs[-1]), truth[-1], rtol=1e-4, atol=1e-6)
    outputs, _ = rnn(reversed([first[t] for t in range(T)]))
    backwards = in_numpy(x[:T][::-1], rnn.export_parameters())
    np.testing.assert_allclose(to_numpy(outputs[-1]), backwards[-1], rtol=1e-4, atol=1e-6)


def test_a_recurrent_layer_begins_with_the_spread_that_was_asked_for(d2l: Any) -> None:
    inputs = d2l.backend.asarray(np.zeros((1, 1, 200), np.float32))
    rnn = with_values(d2l.RNNScratch(num_inputs=200, num_hiddens=100, sigma=0.1), inputs)
    values = rnn.export_parameters()
    shapes = {name: value.shape for name, value in values.items()}
    assert shapes == {"W_xh": (200, 100), "W_hh": (100, 100), "b_h": (100,)}
    assert 0.095 < values["W_xh"].std() < 0.105
    assert 0.095 < values["W_hh"].std() < 0.105
    assert not values["b_h"].any()
    assert (rnn.num_inputs, rnn.num_hiddens, rnn.sigma) == (200, 100, 0.1)


def language_model(d2l: Any, data: Any, **settings: Any) -> Any:
    rnn = d2l.RNNScratch(len(data.vocab), H, **settings)
    return d2l.RNNLMScratch(rnn, vocab_size=len(data.vocab), lr=1)


def some_data(d2l: Any, **sizes: int) -> Any:
    return d2l.TimeMachine(
        **{"batch_size": 16, "num_steps": T, "num_train": 64, "num_val": 32} | sizes
    )


def test_a_language_model_is_the_layer_and_an_affine_map(d2l: Any) -> None:
    data = some_data(d2l)
    X, _ = next(iter(data.val_dataloader()))
    model = with_values(language_model(d2l, data, sigma=0.5), X)
    values = model.export_parameters()
    assert set(values) == {"rnn.W_xh", "rnn.W_hh", "rnn.b_h", "W_hq", "b_q"}
    plain = {name.removeprefix("rnn."): value for name, value in values.items()}
    reference = LanguageModel("rnn", 1, 28, H)
    ids, state = d2l.backend.to_numpy(X), reference.begin_state(16)
    truth = reference.forward(plain, ids, state)[0].reshape(T, 16, 28).swapaxes(0, 1)
    logits = d2l.backend.to_numpy(model(X))
    assert logits.shape == (16, T, 28)
    np.testing.assert_allclose(logits, truth, rtol=1e-3, atol=1e-5)


def predicted(d2l: Any, trained: Any, vocab: Any, prefix: str, count: int) -> str:
    """A continuation as the edition writes it: all of the text again for each character."""
    text = prefix
    for _ in range(count):
        logits = d2l.backend.to_numpy(trained(d2l.backend.asarray(np.array([vocab[list(text)]]))))
        text += vocab.idx_to_token[int(logits[0, -1].argmax())]
    return text


def check_prediction(d2l: Any, trainer: Any, data: Any) -> None:
    model = trainer.model
    last = trainer.state.params if d2l.backend.name == "jax" else d2l.try_gpu()
    found = model.predict("it has", 2, data.vocab, last)
    assert found == predicted(d2l, trainer.bound_model, data.vocab, "it has", 2)
    with pytest.raises(TextError, match="empty"):
        model.predict("", 3, data.vocab, last)


def test_training_draws_perplexities_and_learns_and_predict_goes_on(d2l: Any) -> None:
    data = some_data(d2l, num_train=512)
    trainer = d2l.Trainer(max_epochs=3, gradient_clip_val=1, num_gpus=1)
    trainer.fit(language_model(d2l, data), data)
    points = trainer.model.board.points
    assert {name: len(line) for name, line in points.items()} == {"train_ppl": 6, "val_ppl": 3}
    assert 20 < points["train_ppl"][0][1] <= 28  # near the uniform model at first
    assert 1 < points["train_ppl"][-1][1] < 20
    # the last validation perplexity is that of the trained model; the minibatches are alike
    losses = []
    for X, y in data.val_dataloader():
        logits = d2l.backend.to_numpy(trainer.bound_model(X)).reshape(-1, 28).astype(float)
        of_target = logits[np.arange(len(logits)), d2l.backend.to_numpy(y).reshape(-1)]
        losses.append((np.log(np.exp(logits).sum(-1)) - of_target).mean())
    truth = np.mean([math.exp(loss) for loss in losses])
    assert points["val_ppl"][-1][1] == pytest.approx(truth, rel=1e-4)
    check_prediction(d2l, trainer, data)


def test_the_layers_of_a_framework_give_a_language_model_too(d2l: Any) -> None:
    data = some_data(d2l, num_train=256)
    sizes = {"num_inputs": len(data.vocab)} if d2l.backend.name == "torch" else {}
    rnn = d2l.RNN(**sizes, num_hiddens=H)
    model = d2l.RNNLM(rnn, vocab_size=len(data.vocab), lr=1)
    trainer = d2l.Trainer(max_epochs=2, gradient_clip_val=1)
    trainer.fit(model, data)
    points = trainer.model.board.points
    assert 1 < points["train_ppl"][-1][1] < points["train_ppl"][0][1] < 60
    check_prediction(d2l, trainer, data)


def test_the_layer_of_a_framework_reads_time_first_and_goes_on_from_its_state(d2l: Any) -> None:
    x = np.random.default_rng(0).normal(size=(2 * T, B, D)).astype(np.float32)
    X = d2l.backend.asarray(x)
    sizes = {"num_inputs": D} if d2l.backend.name == "torch" else {}
    rnn = d2l.RNN(**sizes, num_hiddens=H)
    if d2l.backend.name == "mxnet":
        rnn.initialize()
    rnn = with_values(rnn, X)
    whole, _ = rnn(X)
    assert tuple(whole.shape) == (2 * T, B, H)
    first, state = rnn(X[:T])
    second, _ = rnn(X[T:], state)
    parts = [d2l.backend.to_numpy(part) for part in (first, second)]
    np.testing.assert_allclose(
        np.concatenate(parts), d2l.backend.to_numpy(whole), rtol=1e-4, atol=1e-6
    )
    # the sequences of a minibatch know nothing of each other
    alone, _ = rnn(X[:, :1])
    np.testing.assert_allclose(
        d2l.backend.to_numpy(alone), d2l.backend.to_numpy(whole)[:, :1], rtol=1e-4, atol=1e-6
    )
