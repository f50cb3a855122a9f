"""The English edition's recurrent chapters as a reader types them, on every framework.

The recurrent network and the language model are written out around the library's base classes;
from the same values they must make the steps that the library's own make. Then come the layers
that later sections put into them.
"""

from typing import Any

import numpy as np
import pytest
from frameworks_of_tests import on

from minibatches import data_of
from models import with_values

H, V, LAYERS = 6, 28, 2


def tools(framework: str) -> tuple[Any, Any, Any]:
    """How a framework marks a parameter, holds several layers, and makes an LSTM of its own."""
    if framework == "torch":
        from torch import nn

        return nn.Parameter, nn.ModuleList, lambda H: nn.LSTM(V, H)
    if framework == "tensorflow":
        import tensorflow as tf

        options = {"return_sequences": True, "return_state": True}
        return tf.Variable, list, lambda H: tf.keras.layers.LSTM(H, **options)
    from mxnet.gluon import rnn

    return lambda array: array, list, rnn.LSTM


def eager_models(d2l: Any) -> tuple[Any, Any, Any, Any]:
    parameter, several, lstm = tools(d2l.backend.name)

    class RNNScratch(d2l.Module):
        def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.W_xh = parameter(d2l.randn(num_inputs, num_hiddens) * sigma)
            self.W_hh = parameter(d2l.randn(num_hiddens, num_hiddens) * sigma)
            self.b_h = parameter(d2l.zeros(num_hiddens))

        def forward(self, inputs: Any, state: Any = None) -> Any:
            if state is None:
                state = d2l.zeros((inputs.shape[1], self.num_hiddens))
            else:
                (state,) = state
                state = d2l.reshape(state, (-1, self.num_hiddens))
            outputs = []
            for X in inputs:
                state = d2l.tanh(d2l.matmul(X, self.W_xh) + d2l.matmul(state, self.W_hh) + self.b_h)
                outputs.append(state)
            return outputs, state

    class RNNLMScratch(d2l.Classifier):
        def __init__(self, rnn: Any, vocab_size: int, lr: float = 0.01) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.init_params()

        def init_params(self) -> None:
            W_hq = d2l.randn(self.rnn.num_hiddens, self.vocab_size) * self.rnn.sigma
            self.W_hq, self.b_q = parameter(W_hq), parameter(d2l.zeros(self.vocab_size))
            if d2l.backend.name == "mxnet":
                for param in self.get_scratch_params():
                    param.attach_grad()

        def training_step(self, batch: Any) -> Any:
            loss = self.loss(self(*batch[:-1]), batch[-1])
            self.plot("ppl", d2l.exp(loss), train=True)
            return loss

        def validation_step(self, batch: Any) -> None:
            loss = self.loss(self(*batch[:-1]), batch[-1])
            self.plot("ppl", d2l.exp(loss), train=False)

        def one_hot(self, X: Any) -> Any:
            xp = d2l.backend.xp
            return xp.one_hot(xp.transpose(X), self.vocab_size)

        def forward(self, X: Any, state: Any = None) -> Any:
            outputs, _ = self.rnn(self.one_hot(X), state)
            return d2l.stack([d2l.matmul(H, self.W_hq) + self.b_q for H in outputs], 1)

    class Stacked(d2l.Module):
        def __init__(self, num_hiddens: int, sigma: float = 0.01) -> None:
            super().__init__()
            self.save_hyperparameters()
            sizes = [V, *[num_hiddens] * (LAYERS - 1)]
            self.rnns = several([d2l.RNNScratch(n, num_hiddens, sigma) for n in sizes])

        def forward(self, inputs: Any, Hs: Any = None) -> Any:
            outputs, Hs = inputs, [None] * LAYERS if Hs is None else Hs
            for i in range(LAYERS):
                outputs, Hs[i] = self.rnns[i](outputs, Hs[i])
                outputs = d2l.stack(outputs, 0)
            return outputs, Hs

    class LSTM(d2l.RNN):
        def __init__(self, num_hiddens: int) -> None:
            d2l.Module.__init__(self)
            self.save_hyperparameters()
            self.rnn = lstm(num_hiddens)

        if d2l.backend.name == "mxnet":

            def forward(self, inputs: Any, H_C: Any = None) -> Any:
                if H_C is None:
                    H_C = self.rnn.begin_state(inputs.shape[1], ctx=inputs.ctx)
                return self.rnn(inputs, H_C)

    return RNNScratch, RNNLMScratch, Stacked, LSTM


def jax_models(d2l: Any) -> tuple[Any, Any, Any, Any]:
    import jax
    from flax import linen as nn
    from jax import numpy as jnp

    class RNNScratch(nn.Module):
        num_inputs: int
        num_hiddens: int
        sigma: float = 0.01

        def setup(self) -> None:
            normal = nn.initializers.normal(self.sigma)
            self.W_xh = self.param("W_xh", normal, (self.num_inputs, self.num_hiddens))
            self.W_hh = self.param("W_hh", normal, (self.num_hiddens, self.num_hiddens))
            self.b_h = self.param("b_h", nn.initializers.zeros, (self.num_hiddens))

        def __call__(self, inputs: Any, state: Any = None) -> Any:
            if state is not None:
                (state,) = state
            outputs = []
            for X in inputs:
                recurrent = jnp.matmul(state, self.W_hh) if state is not None else 0
                state = jnp.tanh(jnp.matmul(X, self.W_xh) + recurrent + self.b_h)
                outputs.append(state)
            return outputs, state

    class RNNLMScratch(d2l.Classifier):
        rnn: nn.Module
        vocab_size: int
        lr: float = 0.01

        def setup(self) -> None:
            normal = nn.initializers.normal(self.rnn.sigma)
            self.W_hq = self.param("W_hq", normal, (self.rnn.num_hiddens, self.vocab_size))
            self.b_q = self.param("b_q", nn.initializers.zeros, (self.vocab_size))

        def training_step(self, params: Any, batch: Any, state: Any) -> Any:
            value, grads = jax.value_and_grad(self.loss, has_aux=True)(
                params, batch[:-1], batch[-1], state
            )
            self.plot("ppl", jnp.exp(value[0]), train=True)
            return value, grads

        def validation_step(self, params: Any, batch: Any, state: Any) -> None:
            loss, _ = self.loss(params, batch[:-1], batch[-1], state)
            self.plot("ppl", jnp.exp(loss), train=False)

        def one_hot(self, X: Any) -> Any:
            return jax.nn.one_hot(X.T, self.vocab_size)

        def forward(self, X: Any, state: Any = None) -> Any:
            outputs, _ = self.rnn(self.one_hot(X), state)
            return jnp.stack([jnp.matmul(H, self.W_hq) + self.b_q for H in outputs], 1)

    class Stacked(d2l.Module):
        num_hiddens: int
        sigma: float = 0.01

        def setup(self) -> None:
            sizes = [V, *[self.num_hiddens] * (LAYERS - 1)]
            self.rnns = [d2l.RNNScratch(n, self.num_hiddens, self.sigma) for n in sizes]

        def forward(self, inputs: Any, Hs: Any = None) -> Any:
            outputs, Hs = inputs, [None] * LAYERS if Hs is None else Hs
            for i in range(LAYERS):
                outputs, Hs[i] = self.rnns[i](outputs, Hs[i])
                outputs = jnp.stack(outputs, 0)
            return outputs, Hs

    class LSTM(d2l.RNN):
        num_hiddens: int

        @nn.compact
        def __call__(self, inputs: Any, H_C: Any = None, training: bool = False) -> Any:
            cell = nn.OptimizedLSTMCell(self.num_hiddens, parent=None)
            if H_C is None:
                H_C = cell.initialize_carry(jax.random.PRNGKey(0), inputs[0].shape)
            LSTM = nn.scan(
                nn.OptimizedLSTMCell,
                variable_broadcast="params",
                in_axes=0,
                out_axes=0,
                split_rngs={"params": False},
            )
            H_C, outputs = LSTM(self.num_hiddens)(H_C, inputs)
            return outputs, H_C

    return RNNScratch, RNNLMScratch, Stacked, LSTM


def models(d2l: Any) -> tuple[Any, Any, Any, Any]:
    return (jax_models if d2l.backend.name == "jax" else eager_models)(d2l)


def some_data(d2l: Any, num_train: int = 64) -> Any:
    data = d2l.TimeMachine(batch_size=16, num_steps=5, num_train=num_train, num_val=32)
    data.seed = 0  # the same minibatches for all
    return data


def trained(d2l: Any, model: Any, data: Any, epochs: int = 2) -> Any:
    trainer = d2l.Trainer(max_epochs=epochs, gradient_clip_val=0.5, num_gpus=1)
    trainer.fit(model, data)
    return trainer


VALUES = {
    name: np.random.default_rng(0).normal(size=shape).astype(np.float32) * 0.3
    for name, shape in {
        "rnn.W_xh": (V, H),
        "rnn.W_hh": (H, H),
        "rnn.b_h": (H,),
        "W_hq": (H, V),
        "b_q": (V,),
    }.items()
}


def test_a_readers_models_make_the_steps_of_the_librarys(d2l: Any) -> None:
    RNNScratch, RNNLMScratch, *_ = models(d2l)
    data = some_data(d2l)
    batch = next(iter(data.val_dataloader()))

    def of_the_same_values(layer: Any, whole: Any) -> Any:
        model = whole(layer(V, H), vocab_size=V, lr=1)
        model = with_values(model, batch[0])
        model(batch[0])  # Keras looks at its inputs first
        return trained(d2l, model.import_parameters(VALUES), data)

    ours = of_the_same_values(d2l.RNNScratch, d2l.RNNLMScratch)
    truth = ours.bound_model.export_parameters()
    assert not np.allclose(truth["W_hq"], VALUES["W_hq"], atol=1e-3)  # it has moved
    for layer, whole in (
        (RNNScratch, RNNLMScratch),
        (d2l.RNNScratch, RNNLMScratch),
        (RNNScratch, d2l.RNNLMScratch),
    ):
        theirs = of_the_same_values(layer, whole)
        for name, value in theirs.bound_model.export_parameters().items():
            np.testing.assert_allclose(value, truth[name], rtol=1e-3, atol=1e-5, err_msg=name)
        assert set(theirs.model.board.points) == {"train_ppl", "val_ppl"}
        for curve, points in ours.model.board.points.items():
            np.testing.assert_allclose(theirs.model.board.points[curve], points, rtol=1e-4)


@pytest.mark.parametrize("kind", ["stacked", "LSTM"])
def test_layers_of_a_reader_learn_in_the_librarys_language_models(d2l: Any, kind: str) -> None:
    *_, Stacked, LSTM = models(d2l)
    data = some_data(d2l, num_train=512)
    if kind == "stacked":
        model = d2l.RNNLMScratch(Stacked(H), vocab_size=V, lr=1)
    else:
        model = d2l.RNNLM(LSTM(H), vocab_size=V, lr=1)
    trainer = trained(d2l, model, data, epochs=3)
    points = trainer.model.board.points
    assert {name: len(line) for name, line in points.items()} == {"train_ppl": 6, "val_ppl": 3}
    assert points["train_ppl"][-1][1] < 0.9 * points["train_ppl"][0][1]
    # every layer's weights are parameters
    recurrent = [n for n in d2l.parameters(trainer.bound_model) if n.startswith("rnn.")]
    assert len(recurrent) >= (3 * LAYERS if kind == "stacked" else 3)
    last = trainer.state.params if d2l.backend.name == "jax" else None
    text = model.predict("it has", 2, data.vocab, last)
    assert text.startswith("it has")
    assert len(text) == 8


@on("jax")
def test_a_tied_parameter_of_a_published_step_gets_the_sum_over_its_places_in_jax(d2l: Any) -> None:
    import jax
    from jax import numpy as jnp

    class Twice(d2l.Module):
        lr: float = 0.1

        def setup(self) -> None:
            self.a = self.param("a", lambda _: jnp.ones((1,)))
            self.b = self.param("b", lambda _: jnp.ones((1,)))

        def forward(self, X: Any) -> Any:
            return X * (2 * self.a + self.b)

        def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:
            return (state.apply_fn({"params": params}, *X) - y).mean()

        def training_step(self, params: Any, batch: Any, state: Any) -> Any:
            return jax.value_and_grad(self.loss)(params, batch[:-1], batch[-1], state)

    ones = jnp.ones((2, 1))
    params = {"a": jnp.ones((1,)), "b": jnp.ones((1,))}
    d2l.parameters(params).tie("b", to="a")
    trainer = d2l.Trainer(max_epochs=1)
    trainer.fit(Twice().bind({"params": params}), data_of([(ones, ones)]))
    np.testing.assert_allclose(trainer.state.params["a"], 1 - 0.1 * 3, rtol=1e-6)
    np.testing.assert_allclose(trainer.state.params["b"], 1 - 0.1 * 3, rtol=1e-6)
