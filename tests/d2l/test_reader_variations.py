"""What readers change in the books' programs, or leave out, works or is answered in words."""

import importlib
from typing import Any

import numpy as np
import pytest
from frameworks_of_tests import eager, on

from installed import FRAMEWORK
from unrolled.errors import ParameterError, SettingError
from unrolled.frameworks import load

V = 28


def tied_params(d2l: Any) -> tuple[Any, list[Any]]:
    """``W`` at two places, and five arrays of the same values that are not tied."""
    rng = np.random.default_rng(0)
    values = {
        n: rng.normal(0, 0.3, s).astype(np.float32)
        for n, s in {"W": (V, V), "U": (V, V), "b": (V,), "c": (V,)}.items()
    }
    p = d2l.backend.initialize(values)
    apart = d2l.backend.initialize({**values, "W2": values["W"]})
    return [p["W"], p["U"], p["b"], p["W"], p["c"]], [apart[n] for n in ("W", "U", "b", "W2", "c")]


@eager
def test_an_array_at_two_places_of_get_params_is_one_parameter(d2l: Any) -> None:
    data, vocab = d2l.load_data_time_machine(8, 6, max_tokens=500, seed=1)
    one_step = [next(iter(data))]
    nets = [
        d2l.RNNModelScratch(V, V, None, lambda *_, given=given: given, d2l.init_rnn_state, d2l.rnn)
        for given in tied_params(d2l)
    ]
    assert d2l.parameters(nets[0]).total == 2 * V * V + 2 * V
    for net in nets:
        start = d2l.backend.to_numpy(net.weights()[0]).copy()
        d2l.train_ch8(net, one_step, vocab, 0.01, 1, d2l.try_gpu())  # too small to be clipped
        net.moved = [d2l.backend.to_numpy(w) - start for w in net.weights()]
    tied, apart = nets
    np.testing.assert_array_equal(tied.moved[0], tied.moved[3])
    np.testing.assert_allclose(tied.moved[0], apart.moved[0] + apart.moved[3], atol=2e-5)


@on("torch")
def test_a_readers_tensor_stays_itself_and_has_the_gradient(d2l: Any) -> None:
    torch = importlib.import_module("torch")
    params, _ = tied_params(d2l)
    net = d2l.RNNModelScratch(V, V, None, lambda *_: params, d2l.init_rnn_state, d2l.rnn)
    net(torch.zeros((2, 3), dtype=torch.long), None)[0].sum().backward()
    assert params[0].grad is not None
    assert {id(p) for p in net.parameters()} == {id(p) for p in params}


class Loader:
    """As the books write it: minibatches again and again, and no length."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)


def test_a_loader_need_not_know_its_length(d2l: Any, capsys: Any) -> None:
    data, vocab = d2l.load_data_time_machine(8, 6, max_tokens=500, seed=1)
    said = []
    for loader in (data, Loader(list(data))):
        net = d2l.RNNModelScratch(V, 8)
        net = net if d2l.backend.name == "jax" else net.import_parameters(start(d2l))
        d2l.train_ch8(net, loader, vocab, 1, 1, d2l.try_gpu())
        said.append([line for line in capsys.readouterr().out.splitlines() if "sec" not in line])
    assert said[0] == said[1] or d2l.backend.name == "jax"  # there each begins anew
    with pytest.raises(SettingError, match="generator gives its minibatches once"):
        d2l.train_ch8(net, (batch for batch in data), vocab, 1, 1, d2l.try_gpu())


def start(d2l: Any) -> dict[str, Any]:
    shapes = {"W_xh": (V, 8), "W_hh": (8, 8), "b_h": (8,), "W_hq": (8, V), "b_q": (V,)}
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


@on("tensorflow")
@pytest.mark.parametrize("cell", ["SimpleRNN", "GRU", "LSTM"])
def test_keras_layers_of_a_cell_are_the_layers(d2l: Any, cell: str) -> None:
    keras = importlib.import_module("keras")
    options = {"return_sequences": True, "return_state": True}
    layers = [
        getattr(keras.layers, cell)(6, **options),
        keras.layers.RNN(getattr(keras.layers, cell + "Cell")(6), **options),
    ]
    nets = [d2l.RNNModel(layer, vocab_size=V) for layer in layers]
    nets[1].import_parameters(nets[0].export_parameters())
    X = np.arange(6).reshape(2, 3)
    outputs = [net(X, net.begin_state(batch_size=2, dtype="float32"))[0] for net in nets]
    np.testing.assert_allclose(*outputs, atol=1e-6)
    backwards = keras.layers.RNN([keras.layers.LSTMCell(3)] * 2, go_backwards=True, **options)
    with pytest.raises(SettingError, match="or an RNN of one or more such cells"):
        d2l.RNNModel(backwards, V)


@on("tensorflow")
def test_tensorflows_loop_has_no_device_and_its_nets_are_built_by_the_trainer(d2l: Any) -> None:
    keras = importlib.import_module("keras")
    tf = importlib.import_module("tensorflow")

    class RNNModel(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = keras.layers.SimpleRNN(8, return_sequences=True, return_state=True)
            self.dense = keras.layers.Dense(V)

        def call(self, inputs: Any, state: Any) -> Any:
            Y, *state = self.rnn(tf.one_hot(inputs, V), state)
            return self.dense(tf.reshape(tf.transpose(Y, (1, 0, 2)), (-1, 8))), state

        def begin_state(self, *args: Any, **kwargs: Any) -> Any:
            return [tf.zeros((kwargs["batch_size"], 8))]

    data, vocab = d2l.load_data_time_machine(8, 6, max_tokens=500, seed=1)
    net = RNNModel()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    first, _ = d2l.train_epoch_ch8(net, data, loss, keras.optimizers.SGD(0.5), False)
    later, _ = d2l.train_epoch_ch8(net, data, loss, keras.optimizers.SGD(0.5), True)
    assert later < first < 29
    d2l.train_ch8(RNNModel(), data, vocab, 0.5, 1, d2l.try_gpu())


@on("mxnet")
def test_gluon_nets_without_values_get_some(d2l: Any) -> None:
    mx = importlib.import_module("mxnet")

    class RNNModel(mx.gluon.Block):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = mx.gluon.rnn.LSTM(8)
            self.dense = mx.gluon.nn.Dense(V)

        def forward(self, inputs: Any, state: Any) -> Any:
            Y, state = self.rnn(mx.npx.one_hot(inputs.T, V), state)
            return self.dense(Y.reshape(-1, 8)), state

        def begin_state(self, *args: Any, **kwargs: Any) -> Any:
            return self.rnn.begin_state(*args, **kwargs)

    data, vocab = d2l.load_data_time_machine(8, 6, max_tokens=500, seed=1)
    net = RNNModel()
    d2l.train_ch8(net, data, vocab, 0.5, 1, d2l.try_gpu())
    assert net.dense.weight.shape == (V, 8)


def test_short_names(d2l: Any) -> None:
    assert d2l.size(d2l.zeros((2, 3))) == 6
    assert d2l.plt.rcParams["figure.figsize"]


def test_a_step_that_gives_no_loss_and_a_model_without_a_rate() -> None:
    d2l = load(FRAMEWORK, "unrolled.d2l")
    if FRAMEWORK == "jax":
        pytest.skip("the models of JAX are written in another way")
    data = d2l.SyntheticRegressionData([2, -3.4], 4.2, seed=0)

    class Silent(d2l.LinearRegressionScratch):  # type: ignore[misc,name-defined]
        def training_step(self, batch: Any) -> None:
            pass

    with pytest.raises(SettingError, match=r"Silent\.training_step gave None"):
        d2l.Trainer(1).fit(Silent(2, lr=0.03), data)

    class Own(d2l.Module):  # type: ignore[misc,name-defined]
        pass

    with pytest.raises(SettingError, match=r"Own has no learning rate: set self\.lr"):
        Own().configure_optimizers()


@on("tensorflow")
def test_gradients_as_a_tape_gives_them(d2l: Any) -> None:
    tf = importlib.import_module("tensorflow")
    net = d2l.RNNModelScratch(V, 8)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(net(np.zeros((2, 3), int), None)[0])
    gradients = tape.gradient(loss, net.trainable_variables)
    found = d2l.parameters(net, gradients)
    np.testing.assert_allclose(found["b_q"].gradient, gradients[-1])
    with pytest.raises(ParameterError, match="1 gradients for 5 parameters"):
        d2l.parameters(net, gradients[:1])


@on("jax")
def test_gradients_of_all_variables_or_of_none(d2l: Any) -> None:
    jnp = importlib.import_module("jax.numpy")
    params = {"a": {"w": jnp.ones(3)}}
    gradients = {"a": {"w": jnp.arange(3.0)}}
    for given in (gradients, {"params": gradients}):
        assert d2l.parameters(params, given)["a.w"].gradient.tolist() == [0, 1, 2]
    with pytest.raises(ParameterError, match=r"gradients are of b\.w, and the parameters are a\.w"):
        d2l.parameters(params, {"b": {"w": jnp.ones(3)}})
