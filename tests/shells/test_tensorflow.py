"""The library on TensorFlow: its models are TensorFlow's and Keras' own, and train as said."""

import copy
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import unrolled.tensorflow as unrolled
from unrolled.d2l import tensorflow as d2l
from unrolled.nndl import tensorflow as nndl

# isort: split
import keras
import tensorflow as tf

from unrolled.backends.tensorflow import _without_notices
from unrolled.data.vocabulary import Vocab
from unrolled.errors import SettingError
from unrolled.models.generation import generate

W, BIAS = [2, -3.4], 4.2
TEXT = "the quick brown fox jumps over the lazy dog and runs away " * 6
V = 28


class Batches(unrolled.DataModule):
    """These minibatches, in this order, and none to validate on."""

    def __init__(self, *batches: Any) -> None:
        self.batches = list(batches)

    def get_dataloader(self, train: bool) -> Any:
        return self.batches if train else None


def regression_data(**settings: Any) -> Any:
    return unrolled.SyntheticRegressionData(W, BIAS, **({"seed": 0} | settings))


def linear(**settings: Any) -> Any:
    return unrolled.LinearRegressionScratch(2, **({"lr": 0.03, "seed": 0} | settings))


def text_data(**settings: Any) -> Any:
    return unrolled.TextData(TEXT, **({"batch_size": 3, "num_steps": 5, "seed": 0} | settings))


def scratch(cell: str = "rnn", H: int = 6, layers: int = 1, vocab_size: int = V) -> Any:
    unrolled.backend.seed(0)
    return unrolled.LanguageModel(vocab_size, H, cell, layers)


def with_layer(cell: str = "rnn", H: int = 6, layers: int = 1, vocab_size: int = V) -> Any:
    unrolled.backend.seed(0)
    layer = unrolled.recurrent_layer(cell, vocab_size, H, layers)
    return unrolled.RNNModel(layer, vocab_size)


def bidirectional(cell: str, H: int = 3, vocab_size: int = 5) -> Any:
    unrolled.backend.seed(0)
    layer = unrolled.recurrent_layer(cell, vocab_size, H)
    return unrolled.RNNModel(keras.layers.Bidirectional(layer), vocab_size)


def tokens(*shape: int, vocab_size: int = V, seed: int = 0) -> Any:
    return tf.constant(np.random.default_rng(seed).integers(0, vocab_size, shape))


def example_batch(rows: int = 4, seed: int = 1) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    shapes = (rows, 2), (rows, 1)
    return tuple(tf.constant(rng.normal(size=s).astype(np.float32)) for s in shapes)


# TensorFlow's own idioms


def test_models_from_scratch_are_modules_of_variables_in_order() -> None:
    model = scratch(layers=2)
    assert isinstance(model, tf.Module)
    listed = model.trainable_variables
    assert all(isinstance(variable, tf.Variable) for variable in listed)
    shapes = [tuple(v.shape) for v in unrolled.backend.parameters(model).values()]
    assert [tuple(variable.shape) for variable in listed] == shapes


def test_models_with_layers_are_keras_models_that_list_every_variable() -> None:
    for model, count in ((with_layer("gru", layers=2), 8), (bidirectional("lstm"), 8)):
        assert isinstance(model, keras.Model)
        assert len(model.trainable_variables) == count
    names = list(unrolled.backend.parameters(with_layer()))
    kinds = ("kernel", "recurrent_kernel", "bias")
    assert names == [*(f"rnn.cell.{kind}" for kind in kinds), "linear.kernel", "linear.bias"]


def test_a_loop_of_ones_own_trains_with_a_tape_and_pairs() -> None:
    model, (X, y) = linear(lr=0.1), example_batch(32)
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, unrolled.SGD)
    before = {v.ref(): v.numpy() for v in model.trainable_variables}
    with tf.GradientTape() as tape:
        loss = model.loss(model(X), y)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        expected = before[variable.ref()] - 0.1 * gradient.numpy()
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6)


class Native(keras.Model):
    """A model as Keras has it, which knows nothing of this library."""

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.dense = keras.layers.Dense(1)
        self.dense.build(input_shape)

    def call(self, X: Any) -> Any:
        return self.dense(X) * self.scale


class Derived(unrolled.Module):
    """The same on our base, with a variable of TensorFlow's own and layers not yet built."""

    def __init__(self, lr: float = 0.03) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.dense = keras.layers.Dense(1)
        self.scale = tf.Variable(1.0)

    def call(self, X: Any) -> Any:
        return self.dense(X) * self.scale

    def loss(self, y_hat: Any, y: Any) -> Any:
        return tf.reduce_mean((y_hat - y) ** 2)


def mean_squared_error(y_hat: Any, y: Any) -> Any:
    return keras.losses.mean_squared_error(y, y_hat)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (Derived, 3),
        (lambda: unrolled.NativeModel(Native(), mean_squared_error, keras.optimizers.Adam(0.1)), 3),
        (
            lambda: unrolled.NativeModel(
                keras.Sequential([keras.layers.Dense(1)]), mean_squared_error, lr=0.03
            ),
            2,
        ),
    ],
    ids=["derived", "plain with Adam", "Sequential"],
)
def test_a_keras_model_of_ones_own_trains(make: Any, count: int) -> None:
    unrolled.backend.seed(0)
    model, data = make(), regression_data()
    trainer = unrolled.Trainer(max_epochs=5)
    trainer.fit(model, data)
    assert len(model.trainable_variables) == len(unrolled.backend.parameters(model)) == count
    assert trainer.validate() < 1e-2
    X, y = next(iter(data.val_dataloader()))
    np.testing.assert_allclose(model(X).numpy(), y.numpy(), atol=0.3)


def test_every_variable_of_a_model_of_ones_own_moves_and_layers_know_when_they_train() -> None:
    seen = []

    class Watching(Derived):
        def call(self, X: Any, training: Any = None) -> Any:
            seen.append(training)
            return super().call(X)

    trainer = unrolled.Trainer(max_epochs=1)
    trainer.prepare(Watching(), regression_data())
    before = {name: v.numpy() for name, v in trainer.parameters.items()}
    assert list(before) == ["dense.kernel", "dense.bias", "scale"]
    seen.clear()
    trainer.fit_epoch()
    assert (seen[0], seen[-1], {*seen}) == (True, False, {True, False})
    for name, value in before.items():
        assert not np.array_equal(trainer.parameters[name].numpy(), value), name


class InPython(Derived):
    """One that no graph can hold: it counts, and asks for values."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def call(self, X: Any) -> Any:
        while tf.reduce_sum(tf.abs(X)) > 1000:
            X = X / 2
        return super().call(X)

    def training_step(self, batch: Any) -> Any:
        self.count += 1
        return super().training_step(batch) * float(self.count <= 10)


def test_a_model_of_ones_own_runs_in_python() -> None:
    after = []
    for epochs in (1, 2):  # in the second none of the ten minibatches shall count
        unrolled.backend.seed(0)
        model, trainer = InPython(), unrolled.Trainer(epochs)
        model(example_batch()[0])
        trainer.fit(model, Batches(*(example_batch(800, seed) for seed in range(10))))
        assert model.count == trainer.train_batch_idx == 10 * epochs
        after.append(model.get_weights())
    np.testing.assert_array_equal(after[0][0], after[1][0])


def test_a_model_of_ones_own_runs_in_python_inside_another() -> None:
    model = unrolled.NativeModel(InPython(), mean_squared_error, lr=0.03)
    assert model.runs_eagerly
    unrolled.Trainer(max_epochs=1).fit(model, Batches(example_batch(800)))


@pytest.mark.parametrize(
    "make",
    [
        *(linear, scratch, with_layer, lambda: unrolled.LinearRegression(0.1)),
        lambda: d2l.RNNLM(d2l.RNN(3), V),
        lambda: d2l.RNNLMScratch(d2l.RNNScratch(V, 3), V),
        lambda: nndl.Model_RNN4SeqClass(nndl.BiLSTM(3, 3), 10, 3, 6, 19),
        lambda: unrolled.NativeModel(Native(), mean_squared_error),
    ],
)
def test_models_of_the_library_are_compiled(make: Any) -> None:
    assert not make().runs_eagerly


def test_the_import_is_quiet() -> None:
    code = "import unrolled.tensorflow, os; print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PATH": ""}
    )
    assert (done.stdout, done.stderr) == ("None\n", "")


@pytest.mark.parametrize("level", ["0", "1"])
def test_notices_of_the_import_are_shown_where_logs_are_asked_for(
    level: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    with _without_notices():
        os.write(2, b"oneDNN custom operations are on\n")
    assert (capfd.readouterr().err == "") is (level == "1")


def test_many_texts_are_written_without_a_warning_of_tensorflow() -> None:
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    model, vocab = scratch(), Vocab(TEXT)
    tf.get_logger().addHandler(handler)
    for length in range(1, 8):
        generate(unrolled.backend, model, vocab, "the", length)
    tf.get_logger().removeHandler(handler)
    assert told == []


def test_models_of_other_kinds_are_refused() -> None:
    trainer = unrolled.Trainer(max_epochs=1)
    with pytest.raises(SettingError, match="NativeModel"):
        trainer.fit(Native(), regression_data())
    torch = pytest.importorskip("unrolled.torch")
    with pytest.raises(SettingError, match=r"a model of unrolled\.torch"):
        trainer.fit(torch.LinearRegressionScratch(2, lr=0.1), regression_data())


# Linear regression


# Language models


CELL_LAYERS = {
    "rnn": keras.layers.SimpleRNNCell,
    "gru": keras.layers.GRUCell,
    "lstm": keras.layers.LSTMCell,
}


def of_cells(*cells: Any, **settings: Any) -> Any:
    return keras.layers.RNN(
        list(cells), **({"return_sequences": True, "return_state": True} | settings)
    )


@pytest.mark.parametrize("cell", CELL_LAYERS)
def test_a_layer_of_several_cells_is_several_layers(cell: str) -> None:
    layer = of_cells(CELL_LAYERS[cell](4), CELL_LAYERS[cell](4))
    model, X = unrolled.RNNModel(layer, 5), tokens(3, 6, vocab_size=5)
    logits, state = model(X)
    H, *last = layer(tf.one_hot(X, 5))  # (B, T, H); of every cell its parts
    Y = model.linear(tf.transpose(H, (1, 0, 2)))  # (T, B, V)
    np.testing.assert_allclose(logits.numpy(), tf.reshape(Y, (-1, 5)).numpy(), rtol=1e-5, atol=1e-6)
    for i, states in enumerate(last):
        parts = state if cell == "lstm" else [state]
        for part, expected in zip(parts, tf.nest.flatten(states), strict=True):
            np.testing.assert_allclose(part[i].numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
    written_out = scratch(cell, H=4, layers=2, vocab_size=5)
    written_out.import_parameters(model.export_parameters())
    np.testing.assert_allclose(written_out(X)[0].numpy(), logits.numpy(), rtol=1e-5, atol=1e-5)


# The book's functions


@pytest.mark.parametrize("kind", ["keras", "function"])
def test_an_epoch_takes_any_kind_of_updater(kind: str) -> None:
    def function(params: Any, gradients: Any) -> None:
        for param, gradient in zip(params, gradients, strict=True):
            param.assign_sub(0.5 * gradient)

    updaters = {"ours": unrolled.SGD(0.5), "keras": keras.optimizers.SGD(0.5), "function": function}
    perplexities = []
    for updater in (updaters["ours"], updaters[kind]):
        batches, vocab = d2l.load_data_time_machine(4, 5, max_tokens=300, seed=0)
        net = scratch(vocab_size=len(vocab))
        net.import_parameters({n: v * 30 for n, v in net.export_parameters().items()})
        perplexities.append(d2l.train_epoch_ch8(net, batches, None, updater)[0])
    assert 1 < perplexities[0] < 60
    assert perplexities[1] == pytest.approx(perplexities[0], rel=1e-4)


def test_a_loop_of_epochs_compiles_a_step_once(monkeypatch: pytest.MonkeyPatch) -> None:
    batches, vocab = d2l.load_data_time_machine(4, 5, max_tokens=300, seed=0)
    batches = list(batches)
    nets = [scratch(vocab_size=len(vocab)) for _ in range(2)]
    traced: list[int] = []
    forward = unrolled.LanguageModel.forward

    def counted(*inputs: Any) -> Any:
        traced.append(1)
        return forward(*inputs)

    monkeypatch.setattr(unrolled.LanguageModel, "forward", counted)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for net, losses in zip(nets, (loss, None), strict=True):
        traced.clear()
        counts = []
        for lr in (0.5, 0.5, 0.1):
            d2l.train_epoch_ch8(net, batches, losses, unrolled.SGD(lr), False)
            counts.append(len(traced))
        assert counts[0] == counts[-1]
    # each epoch had its own optimizer, and copies of the net are on their own
    one = scratch(vocab_size=len(vocab))
    for lr in (0.5, 0.5, 0.1):
        d2l.train_epoch_ch8(copy.deepcopy(one), batches, None, unrolled.SGD(9.0), False)
        d2l.train_epoch_ch8(one, batches, None, unrolled.SGD(lr), False)
        one._kept = None
    for name, value in one.export_parameters().items():
        for net in nets:
            found = net.export_parameters()[name]
            np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-7, err_msg=name)


def test_clipping_a_list_of_gradients_scales_them_together() -> None:
    clipped = d2l.grad_clipping([tf.constant([3.0]), tf.constant([[4.0]])], 1.0)
    np.testing.assert_allclose(clipped[0].numpy(), [0.6], rtol=1e-6)
    np.testing.assert_allclose(clipped[1].numpy(), [[0.8]], rtol=1e-6)


def test_models_are_kept_by_tensorflows_checkpoints(tmp_path: Path) -> None:
    model, other = scratch(), scratch()
    model.W_hq.assign(np.full((6, V), 7))
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "kept"))
    tf.train.Checkpoint(model=other).restore(path).assert_consumed()
    np.testing.assert_array_equal(other.W_hq.numpy(), model.W_hq.numpy())


class Nested(unrolled.Module):
    """Variables of TensorFlow's, Keras' and our own, at every place where one can stand."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.inner = d2l.RNNLMScratch(d2l.RNNScratch(vocab_size, 4, 1.0), vocab_size)
        self.scales = [tf.Variable(tf.random.normal((3,))), keras.layers.Dense(2)]
        self.scales[1].build((None, 3))
        self.mean = tf.Variable(tf.random.normal(()), trainable=False)

    def get_config(self) -> dict[str, Any]:
        return {"vocab_size": self.vocab_size}

    def forward(self, X: Any) -> Any:
        return self.inner(tf.cast(X, tf.int64))  # Keras builds with zeros of float32


def called(vocab_size: int = 5) -> Nested:
    model = Nested(vocab_size)
    model(tokens(2, 3, vocab_size=vocab_size))
    return model


NESTED = [(5, 4), (4, 4), (4,), (4, 5), (5,), (3,), (3, 2), (2,), ()]
"""Shapes of its variables."""


def test_keras_lists_every_variable_of_a_model() -> None:
    model = called()
    assert sorted(w.shape for w in model.get_weights()) == sorted(NESTED)
    assert model.count_params() == sum(int(np.prod(shape)) for shape in NESTED)
    assert [tuple(v.shape) for v in model.non_trainable_weights] == [()]
    assert len(model.trainable_variables) == len(unrolled.backend.parameters(model)) == 8
    model.set_weights([np.full(w.shape, 7) for w in model.get_weights()])
    for _, variable in unrolled.backend.named_arrays(model, frozen=True).items():
        np.testing.assert_array_equal(variable.numpy(), np.full(variable.shape, 7))


kerass_own_warning = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)


def values_of(model: Any) -> dict[str, Any]:
    return {n: v.numpy() for n, v in unrolled.backend.named_arrays(model, frozen=True).items()}


@kerass_own_warning
def test_models_are_kept_by_kerass_files(tmp_path: Path) -> None:
    model, other = called(), called()
    model.save_weights(tmp_path / "kept.weights.h5")
    other.load_weights(tmp_path / "kept.weights.h5")
    model.save(tmp_path / "kept.keras")
    made = keras.saving.load_model(tmp_path / "kept.keras", custom_objects={"Nested": Nested})
    for loaded in (other, made):
        found = values_of(loaded)
        assert sorted(value.shape for value in found.values()) == sorted(NESTED)
        for name, value in values_of(model).items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)


@kerass_own_warning
def test_a_file_without_a_models_variables_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)]).save_weights(path)
    with pytest.raises(ValueError, match="has no b of this"):
        Small().load_weights(path)


class Small(unrolled.Module):
    def __init__(self) -> None:
        super().__init__()
        self.b = tf.Variable(0.0)
        self.built = True


def test_only_functions_that_branch_on_tensors_are_translated_by_autograph() -> None:
    found = []

    def note() -> None:
        found.append(tf.__internal__.autograph.control_status_ctx().status.name)

    def double(x: Any) -> Any:
        note()
        return 2 * x

    def halve_until_small(x: Any) -> Any:
        note()
        while tf.reduce_sum(x) > 1:
            x = x / 2
        return x

    assert unrolled.backend.compile(double)(tf.ones(3)).numpy().tolist() == [2, 2, 2]
    assert found == ["DISABLED"]
    halve = unrolled.backend.compile(halve_until_small)
    assert halve(tf.ones(3)).numpy().tolist() == [0.25] * 3
    assert halve(4 * tf.ones(3)).numpy().tolist() == [0.25] * 3
    assert found[1:] == ["DISABLED", "ENABLED"]
