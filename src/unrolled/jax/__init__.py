"""unrolled on JAX: ``from unrolled import jax``.

The models are Flax Linen dataclass modules and the optimizers Optax transformations. What
they compute is written once for all frameworks, in `unrolled.functional`,
`unrolled.training` and `unrolled.models`; here is only what is JAX's own.

A Linen module describes a model and holds no values. They live in
``trainer.state.params``; ``trainer.trained_model`` is the module bound to them, which can
be called. (``grad_clipping`` and ``train_epoch_ch8`` change arrays in place and so have no
meaning here; ``train_ch8`` returns the trained network.)

Example:
    >>> from unrolled import jax
    >>> data = jax.SyntheticRegressionData(w=[2, -3.4], b=4.2, seed=0)
    >>> model = jax.LinearRegressionScratch(num_inputs=2, lr=0.03, seed=0)
    >>> trainer = jax.Trainer(max_epochs=3)
    >>> trainer.fit(model, data)
    >>> b = trainer.state.params["b"].item()
    >>> 3.9 < b < 4.1  # three epochs are few: 5% of 4.2 is still missing
    True
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from unrolled.backends import Backend
from unrolled.backends import jax as backend
from unrolled.books import recurrent as books
from unrolled.data import synthetic, text_data
from unrolled.data.text import load_corpus_time_machine, read_time_machine, tokenize
from unrolled.data.vocabulary import Vocab
from unrolled.errors import SettingError
from unrolled.functional import updates
from unrolled.models import language_model, linear_regression, native
from unrolled.models.language_model import Scratch
from unrolled.models.layers import (
    join_gates,
    layer_prefix,
    split_gates,
    with_prefix,
    without_prefix,
)
from unrolled.parameters import Parameters
from unrolled.training import board, data, hyperparameters, module, trainer

HyperParameters = hyperparameters.HyperParameters
add_to_class = hyperparameters.add_to_class
ProgressBoard = board.ProgressBoard


class Module(module.Module, nn.Module):
    """The base class of models, a Linen module.

    A subclass has fields instead of an ``__init__``, makes its parameters in ``setup`` or in
    an ``@nn.compact`` ``__call__``, and defines `loss`.
    """

    backend: ClassVar[Backend] = backend
    plot_train_per_epoch: int = field(default=2, kw_only=True, repr=False)
    plot_valid_per_epoch: int = field(default=1, kw_only=True, repr=False)
    board: Any = field(default_factory=ProgressBoard, kw_only=True, repr=False, compare=False)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "trainer":  # all else of a Linen module is frozen
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __call__(self, *inputs: Any) -> Any:
        return self.forward(*inputs)

    def loss(  # type: ignore[override]  # the published form in JAX
        self, params: Any, X: tuple[Any, ...], y: Any, state: Any
    ) -> Any:
        """The mean loss of a minibatch, a pure function of the parameters.

        Args:
            params: nested dicts, as in ``trainer.state.params``.
            X: the inputs, all that comes before the targets.
            y: the targets.
            state: for ``state.apply_fn({"params": params}, *X)``, the predictions.
        """
        raise NotImplementedError(f"{type(self).__name__} must define loss(params, X, y, state)")

    def configure_optimizers(self) -> Any:
        """`optax.sgd` at ``self.lr``."""
        return optax.sgd(self.lr)

    @property
    def training(self) -> bool:
        """Whether it is being trained: ``nn.Dropout(0.5, deterministic=not self.training)``."""
        return bool(self.has_rng("dropout"))

    def batch_loss(self, batch: Any) -> Any:
        params = self.variables["params"]
        rngs = {"dropout": self.make_rng("dropout")} if self.training else {}
        apply = partial(self.unbind()[0].apply, rngs=rngs)
        state = TrainState(step=0, apply_fn=apply, params=params, tx=None, opt_state=None)
        return self.loss(params, batch[:-1], batch[-1], state)

    def plot(self, key: str, value: Any, train: bool) -> None:
        if self.trainer is None and self.scope is not None:
            self.sow("plots", key, value)  # in compiled code: the trainer draws it afterwards
        else:
            super().plot(key, value, train)

    def example_inputs(self, data: Any) -> tuple[Any, ...]:
        """Inputs that show the shapes of the parameters, from a loader of their own."""
        return tuple(next(iter(data.train_dataloader()))[:-1])

    def initialize(self, *inputs: Any) -> Any:
        """The model bound to fresh parameters, made for inputs like these."""
        variables = self.init(jax.random.key(backend.fresh_seed()), *inputs)
        others = set(variables) - {"params", "plots"}
        if others:
            raise SettingError(
                f"{type(self).__name__} keeps {', '.join(sorted(others))} beside its parameters; "
                "the trainer changes parameters only. Use layers without running statistics, "
                "as LayerNorm or GroupNorm"
            )
        return self.bind({"params": variables.get("params", {})})

    def with_parameters(self, parameters: Mapping[str, Any], **options: Any) -> Any:
        return backend.bind(self, parameters, **options)


class NativeModel(native.NativeModel, Module):
    net: Any
    loss_fn: Callable[..., Any]
    optimizer: Any = None
    lr: float = 0.1

    def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:  # type: ignore[override]
        return super().loss(state.apply_fn({"params": params}, *X), y)


class DataModule(data.DataModule):
    backend: ClassVar[Backend] = backend


class Trainer(trainer.Trainer):
    """Adds ``state``, a Flax `TrainState` of what has been learned so far."""

    backend: ClassVar[Backend] = backend

    @property
    def state(self) -> TrainState:
        """Parameters (``state.params``, nested), optimizer and its state, step."""
        return TrainState(
            step=self.train_batch_idx,
            apply_fn=self.model.unbind()[0].apply,
            params=backend.nested(self.parameters),
            tx=self.optim.transformation,
            opt_state=self.optim.state,
        )

    def prepare(self, model: Any, data: Any) -> None:
        self.check_model(model)
        if model.scope is None:
            model = model.initialize(*model.example_inputs(data))
        device = self.gpus[0] if self.gpus else jax.devices("cpu")[0]
        super().prepare(backend.to_device(model, device), data)
        self.optim = backend.Optimizer(self.optim, self.parameters)
        self._validate = backend.compile(self._validation_step)
        differentiate, key = self.differentiate, jax.random.key(backend.fresh_seed())
        self.differentiate = lambda *given: differentiate(*given, key, self.train_batch_idx)

    def objective(
        self, parameters: Any, batch: Any, state: Any, key: Any = None, step: int = 0
    ) -> tuple[Any, Any]:
        rngs = {"dropout": jax.random.fold_in(key, step)}
        model = self.model.with_parameters(parameters, rngs=rngs)
        return model.loss_and_state(batch, state)  # type: ignore[no-any-return]

    def validation_step(self, batch: Any) -> Any:
        loss, plots = self._validate(self.parameters, batch)
        for key, values in plots.items():
            for value in values:
                self.model.plot(key, value, train=False)
        return loss

    def _validation_step(self, parameters: Any, batch: Any) -> tuple[Any, Any]:
        model = self.model.with_parameters(parameters, mutable=["plots"])
        loss = model.validation_step(batch)
        return loss, model.variables.get("plots", {})


def SGD(lr: float) -> Any:  # noqa: N802 (the published name)
    """Minibatch stochastic gradient descent, ``param -= lr * grad``, for Optax.

    Args:
        lr: learning rate.

    Returns:
        An `optax.GradientTransformation`.

    Example:
        >>> import optax
        >>> sgd, params = SGD(lr=0.1), {"w": 1.0}
        >>> changes, _ = sgd.update({"w": 3.0}, sgd.init(params), params)
        >>> round(float(optax.apply_updates(params, changes)["w"]), 2)
        0.7
    """

    def init(params: Any) -> Any:
        return optax.EmptyState()

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        # Optax adds what comes out here to the parameters: it is the step from zero
        return jax.tree.map(lambda gradient: updates.sgd(0, gradient, lr), gradients), state

    return optax.GradientTransformation(init, update)


class SyntheticRegressionData(synthetic.SyntheticRegressionData, DataModule):
    pass


class TextData(text_data.TextData, DataModule):
    pass


class LinearRegressionScratch(linear_regression.LinearRegressionScratch, Module):
    num_inputs: int
    lr: float
    sigma: float = 0.01
    seed: int | None = None

    def setup(self) -> None:
        self.w = self.param("w", self._initial, "w")
        self.b = self.param("b", self._initial, "b")

    def _initial(self, key: Any, name: str) -> Any:
        values = self.initial_values(self.num_inputs, self.sigma, self.seed)
        return backend.asarray(values[name])

    def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:  # type: ignore[override]
        return super().loss(state.apply_fn({"params": params}, *X), y)

    def configure_optimizers(self) -> Any:
        return SGD(self.lr)


class LinearRegression(linear_regression.LinearRegression, Module):
    lr: float
    sigma: float = 0.01

    def setup(self) -> None:
        self.net = nn.Dense(1, kernel_init=nn.initializers.normal(self.sigma))

    def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:  # type: ignore[override]
        y_hat = state.apply_fn({"params": params}, *X)
        return optax.squared_error(y_hat, y.reshape(y_hat.shape)).mean()

    @property
    def w(self) -> Any:
        return self.net.variables["params"]["kernel"]

    @property
    def b(self) -> Any:
        return self.net.variables["params"]["bias"]


def try_gpu(i: int = 0) -> Any:
    """The i-th GPU if there is one, else the CPU."""
    gpus = backend.devices(i + 1)
    return gpus[i] if len(gpus) > i else jax.devices("cpu")[0]


_rnn, _gru, _lstm = (Scratch(backend, cell) for cell in ("rnn", "gru", "lstm"))
get_params, init_rnn_state, rnn = _rnn.get_params, _rnn.init_state, _rnn.forward
get_gru_params, init_gru_state, gru = _gru.get_params, _gru.init_state, _gru.forward
get_lstm_params, init_lstm_state, lstm = _lstm.get_params, _lstm.init_state, _lstm.forward


class _LanguageModel(Module):
    """What language models have in common here; their `loss` is that of all frameworks."""

    def example_inputs(self, data: Any) -> tuple[Any, ...]:
        return ()

    def initialize(self, *inputs: Any) -> Any:
        ids = jnp.zeros((1, 1), int)  # no parameter depends on B or T
        return super().initialize(*(inputs or (ids,)))

    def import_parameters(self, values: Mapping[str, Any]) -> Any:
        if self.scope is None:
            return self.initialize().import_parameters(values)
        return super().import_parameters(values)


class RNNModelScratch(language_model.RNNModelScratch, _LanguageModel):  # type: ignore[misc]  # two forms of loss
    vocab_size: int
    num_hiddens: int
    device: Any = None
    get_params: Callable[..., Any] = get_params
    init_state: Callable[..., Any] = init_rnn_state
    forward_fn: Callable[..., Any] = rnn
    lr: float = 1.0
    initial: Any = field(default=None, kw_only=True, repr=False, compare=False)
    """What ``get_params`` gave, pairs of name and values: drawn once, shared by clones."""

    def __post_init__(self) -> None:
        if self.initial is None:
            params = self.get_params(self.vocab_size, self.num_hiddens, self.device)
            self.initial = tuple(language_model.by_name(params).items())
        super().__post_init__()

    def setup(self) -> None:
        for name, part in backend.nested(dict(self.initial)).items():
            self.param(name, lambda _, part=part: part)

    @property
    def params(self) -> list[Any]:
        values = backend.places(self)
        return [values[name] for name, _ in self.initial]  # JAX may have sorted the names

    def configure_optimizers(self) -> Any:
        return SGD(self.lr)


KINDS = {"rnn": nn.SimpleCell, "gru": nn.GRUCell, "lstm": (nn.OptimizedLSTMCell, nn.LSTMCell)}

GATES = {
    "rnn": {"h": ""},
    "gru": {"r": "r", "z": "z", "h": "n"},
    "lstm": {"i": "i", "f": "f", "c": "g", "o": "o"},
}
"""Our gates and Flax's names of them: layer ``i<name>`` is the input's, ``h<name>`` the state's."""


def recurrent_layer(cell: str, num_inputs: int, num_hiddens: int, num_layers: int = 1) -> Any:
    """Flax's own layer for a cell, `nn.RNN`; for several layers a tuple of them.

    Flax takes ``num_inputs`` from what a layer is first given.
    """
    cells = {"rnn": nn.SimpleCell, "gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}
    layers = tuple(nn.RNN(cells[cell](num_hiddens)) for _ in range(num_layers))
    return layers if num_layers > 1 else layers[0]


class RNNModel(language_model.RNNModel, _LanguageModel):  # type: ignore[misc]  # two forms of loss
    rnn_layer: Any  # nn.RNN or nn.Bidirectional, or a tuple of them, the lowest first
    vocab_size: int
    lr: float = 1.0

    def __post_init__(self) -> None:
        cells = [getattr(part, "cell", None) for _, _, part in self._parts()]
        kinds = {(type(cell), getattr(cell, "features", None)) for cell in cells}
        if len(kinds) > 1 or not any(isinstance(cells[0], kind) for kind in KINDS.values()):
            raise SettingError(
                "RNNModel takes nn.RNN or nn.Bidirectional layers of SimpleCell, GRUCell or "
                "LSTMCell, a tuple of them with equal cells for several; it was given "
                + ", ".join(sorted(f"{kind.__name__} of size {size}" for kind, size in kinds))
            )
        super().__post_init__()

    def setup(self) -> None:
        self.linear = nn.Dense(self.vocab_size)

    def forward(self, inputs: Any, state: Any = None) -> tuple[Any, Any]:
        Y = backend.xp.one_hot(inputs.T, self.vocab_size)  # (T, B, V)
        state = self.begin_state(inputs.shape[0]) if state is None else state
        pair = isinstance(state, tuple)
        # Flax's LSTM cells carry (C, H) where the state here is (H, C)
        old = zip(*reversed(state), strict=True) if pair else iter(state)
        new: list[Any] = []
        for layer in self._layers:
            both = isinstance(layer, nn.Bidirectional)
            carry = (next(old), next(old)) if both else next(old)
            carry, Y = layer(Y, initial_carry=carry, return_carry=True, time_major=True)
            new += carry if both else [carry]  # Y: (T, B, directions * H)
        logits = self.linear(Y.reshape(-1, Y.shape[-1]))  # (T * B, V)
        if not pair:
            return logits, jnp.stack(new)
        C, H = zip(*new, strict=True)
        return logits, (jnp.stack(H), jnp.stack(C))

    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        cells = [part.cell for _, _, part in self._parts()]
        zeros = jnp.zeros((len(cells), batch_size, cells[0].features), device=device)
        return (zeros, zeros) if self._cell == "lstm" else zeros

    def export_parameters(self) -> dict[str, Any]:
        native, gates = super().export_parameters(), GATES[self._cell]
        values: dict[str, Any] = {}
        for prefix, path, part in self._parts():
            own, none = without_prefix(path, native), np.zeros(part.cell.features, np.float32)
            stacked = [  # (D, G * H), (H, G * H), (G * H,), (G * H,)
                np.concatenate(
                    [own.get(f"{side}{gate}.{kind}", none) for gate in gates.values()], axis=-1
                )
                for kind, side in (("kernel", "i"), ("kernel", "h"), ("bias", "i"), ("bias", "h"))
            ]
            values |= with_prefix(prefix, split_gates(self._cell, "".join(gates), *stacked))
        return values | {"W_hq": native["linear.kernel"], "b_q": native["linear.bias"]}

    def native_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        native = {"linear.kernel": values["W_hq"], "linear.bias": values["b_q"]}
        gates = GATES[self._cell]
        for prefix, path, _ in self._parts():
            stacked = join_gates(self._cell, "".join(gates), without_prefix(prefix, values))
            blocks = (np.split(array, len(gates), axis=-1) for array in stacked)
            for gate, W_x, W_h, b_x, b_h in zip(gates.values(), *blocks, strict=True):
                own = {f"i{gate}.kernel": W_x, f"h{gate}.kernel": W_h}
                if self._cell == "lstm":  # its one bias is on the side of the state
                    own[f"h{gate}.bias"] = b_x + b_h
                else:
                    own |= {f"i{gate}.bias": b_x, f"h{gate}.bias": b_h}
                native |= with_prefix(path, own)
        return native  # with biases that Flax has not, all zero: nobody asks for them

    @property
    def _layers(self) -> tuple[Any, ...]:
        return self.rnn_layer if isinstance(self.rnn_layer, tuple) else (self.rnn_layer,)

    @property
    def _cell(self) -> str:
        """Our name of the layers' cell."""
        (_, _, part), *_ = self._parts()
        return next(name for name, kind in KINDS.items() if isinstance(part.cell, kind))

    def _parts(self) -> Iterator[tuple[str, str, Any]]:
        """Of every layer and direction: our prefix, Flax's prefix, the layer itself."""
        layers = self._layers
        for number, layer in enumerate(layers):
            path = f"rnn_layer_{number}" if isinstance(self.rnn_layer, tuple) else "rnn_layer"
            parts = {f"{path}.cell.": layer}
            if isinstance(layer, nn.Bidirectional):
                parts = {
                    f"{path}.{name}.cell.": getattr(layer, name)
                    for name in ("forward_rnn", "backward_rnn")
                }
            for direction, (name, part) in enumerate(parts.items()):
                yield layer_prefix(number, len(layers), direction, len(parts)), name, part


class _BookModel(books.BookModel, _LanguageModel):  # type: ignore[misc]  # two forms of loss
    net: Any
    optimizer: Any
    loss_fn: Any = None


def _book_model(net: Any, optimizer: Any, loss: Any = None) -> Any:
    """The net under the trainer, with the values that it has if it is bound."""
    if net.scope is None:
        return _BookModel(net, optimizer, loss)
    model = _BookModel(net.unbind()[0], optimizer, loss)
    return backend.bind(model, with_prefix("net.", backend.parameters(net)))


_chapter = books.RecurrentChapter(backend, Trainer, lambda net, lr: SGD(lr), _book_model)
load_data_time_machine = _chapter.load_data_time_machine
predict_ch8 = _chapter.predict_ch8
train_ch8 = _chapter.train_ch8


class _Parameters(Parameters):
    def _take(self, live: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        renewed = backend.assign(live, values)
        for parameter in list(self.values()):
            for place in parameter.places:
                backend.put(self.model, place, renewed[parameter.name])


parameters = partial(_Parameters, backend)

__all__ = [
    "SGD",
    "DataModule",
    "HyperParameters",
    "LinearRegression",
    "LinearRegressionScratch",
    "Module",
    "NativeModel",
    "ProgressBoard",
    "RNNModel",
    "RNNModelScratch",
    "Scratch",
    "SyntheticRegressionData",
    "TextData",
    "Trainer",
    "Vocab",
    "add_to_class",
    "backend",
    "get_gru_params",
    "get_lstm_params",
    "get_params",
    "gru",
    "init_gru_state",
    "init_lstm_state",
    "init_rnn_state",
    "load_corpus_time_machine",
    "load_data_time_machine",
    "lstm",
    "parameters",
    "predict_ch8",
    "read_time_machine",
    "recurrent_layer",
    "rnn",
    "tokenize",
    "train_ch8",
    "try_gpu",
]
