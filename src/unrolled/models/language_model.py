"""Recurrent character language models: from scratch as three functions, and in general."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar

import numpy as np

from unrolled.backends import Array, Backend
from unrolled.checks import check, check_ids, check_inputs, checked
from unrolled.frameworks import load
from unrolled.functional.initial import normal_weights
from unrolled.functional.losses import cross_entropy, perplexity
from unrolled.functional.recurrent import CELLS, Cell, State
from unrolled.kernels import check_engine, project, recur
from unrolled.kernels.taps import begin_piece
from unrolled.models.layer_options import check_same_function
from unrolled.models.layers import (
    IMPORTING,
    cell_of,
    check_apart,
    parameter_shapes,
)
from unrolled.training.module import Module
from unrolled.training.records import EpochRecord, StepRecord


def by_name(params: Sequence[Array] | Mapping[str, Array]) -> dict[str, Array]:
    """What a ``get_params`` gave, by name; those of a list are called ``param_0``, ..."""
    if isinstance(params, Mapping):
        return dict(params)
    return {f"param_{i}": param for i, param in enumerate(params)}


def indices_accepted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a forward function that takes ids ``(T, B)`` as well as one-hot ``(T, B, V)``."""
    function.takes_indices = True  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True)
class Scratch:
    """A recurrent language model from scratch, as the three functions of the books.

    The cell unrolled over time, layer upon layer, and a linear layer to the vocabulary:
    ``Y_t = H_t W_hq + b_q``.

    Args:
        backend: whose arrays to use.
        cell: name in `unrolled.functional.recurrent.CELLS`.
        num_layers: recurrent layers; each reads the hidden states of the one below.
        engine: what carries the cell over time, see `unrolled.kernels`.
        precision: of the products over time, see `unrolled.kernels.recur`.
    """

    backend: Backend
    cell: str = "rnn"
    num_layers: int = 1
    engine: str = "auto"
    precision: str = "float32"

    def __reduce__(self) -> tuple[Any, ...]:
        # by its name: a backend is a module, and modules do not pickle
        rest = (self.cell, self.num_layers, self.engine, self.precision)
        return _scratch, (self.backend.name, *rest)

    def __post_init__(self) -> None:
        check([("cell", self.cell, ...), ("num_layers", self.num_layers, ...)], "Scratch")
        check_engine(self.engine)

    @property
    def _cell(self) -> Cell:
        return CELLS[self.cell]

    @checked
    def get_params(
        self,
        vocab_size: int,
        num_hiddens: int,
        device: Any = None,
        *,
        sigma: float = 0.01,
        seed: int | None = None,
    ) -> dict[str, Array]:
        """Fresh parameters by name: weights from ``N(0, sigma^2)``, biases zero.

        Args:
            vocab_size: ``V``.
            num_hiddens: ``H``.
            device: where to put them; None is the framework's default.
            sigma: standard deviation of the weights.
            seed: None takes one from the framework's own generator.

        Returns:
            The cell's weights, as ``W_xh (V, H)``, ``W_hh (H, H)``, ``b_h (H,)`` (with
            several layers ``layers.0.W_xh`` and so on), then ``W_hq (H, V)``, ``b_q (V,)``.
        """
        shapes = parameter_shapes(self.cell, self.num_layers, vocab_size, num_hiddens)
        seed = self.backend.fresh_seed() if seed is None else seed
        return self.backend.initialize(normal_weights(shapes, sigma, seed), device)

    @checked
    def init_state(self, batch_size: int, num_hiddens: int, device: Any = None) -> State:
        """The state before the first step: a tuple of zeros ``(B, H)``.

        One for each layer, for an LSTM two: ``(H, C)`` of layer 0, then of layer 1, ...
        """
        zeros = np.zeros((batch_size, num_hiddens), dtype=np.float32)
        count = self._cell.num_states * self.num_layers
        return tuple(self.backend.asarray(zeros, device) for _ in range(count))

    @indices_accepted
    def forward(
        self, inputs: Array, state: State, params: Sequence[Array] | Mapping[str, Array]
    ) -> tuple[Array, State]:
        """Logits of every step, and the state after the last.

        Args:
            inputs: ids ``(T, B)``, or one-hot (or any other) rows ``(T, B, V)``.
            state: as from `init_state`, or as returned for the text before.
            params: as from `get_params`, or their values in that order; those of a GRU also
                without ``b_hh``, as the books print it, see `unrolled.functional.recurrent.gru`.

        Returns:
            Logits ``(T * B, V)``, time-major, and the state.
        """
        xp = self.backend.xp
        values = list(params.values() if isinstance(params, Mapping) else params)
        size, states = (len(values) - 2) // self.num_layers, self._cell.num_states
        new_state: State = ()
        H = inputs
        for layer in range(self.num_layers):
            weights = values[layer * size : (layer + 1) * size]
            old = state[layer * states : (layer + 1) * states]
            H, last = recur(  # (T, B, H)
                self.backend,
                self._cell,
                H,
                old,
                weights,
                engine=self.engine,
                precision=self.precision,
            )
            new_state += tuple(last)
        W_hq, b_q = values[-2:]
        H = xp.reshape(H, (-1, H.shape[-1]))  # (T * B, H)
        Y = project(self.backend, H, W_hq, b_q, self.engine)  # (T * B, V)
        return Y, new_state


def _scratch(framework: str, *rest: Any) -> Scratch:
    return Scratch(load(framework).backend, *rest)


class RecurrentLanguageModel(Module):
    """What all recurrent language models share: targets, loss, and the carried state.

    A subclass defines ``forward(X, state=None) -> (logits, state)`` and `begin_state`.
    """

    lr: float

    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        """The state before the first step of ``batch_size`` sequences."""
        raise NotImplementedError(f"{type(self).__name__} must define begin_state(batch_size)")

    def check_values(self, values: Mapping[str, Any]) -> None:
        check_same_function(self.export_parameters(), values)

    def loss(self, y_hat: Any, y: Any) -> Any:
        """Mean cross-entropy in nats.

        Args:
            y_hat: logits ``(T * B, V)``, time-major.
            y: target ids ``(B, T)``, or ``(T * B,)`` in the order of the logits.
        """
        xp = self.backend.xp
        if len(y.shape) == 2:
            y = xp.reshape(xp.transpose(y), (-1,))  # (T * B,)
        return cross_entropy(xp, y_hat, y)

    def loss_and_state(self, batch: Any, state: Any) -> tuple[Any, Any]:
        """Loss of ``(X, Y)``, ids ``(B, T)`` each, from this state on (None: from the start).

        With more inputs than targets the targets are those of the last inputs; the state to
        carry on is the one after as many inputs as there are targets, where the next window
        begins.
        """
        X, Y = batch
        new = Y.shape[1]
        if X.shape[1] == new:
            y_hat, state = self(X, state)  # type: ignore[operator]
            return self.loss(y_hat, Y), state
        begin_piece(cut=False)
        first, state = self(X[:, :new], state)  # type: ignore[operator]
        begin_piece(cut=False)
        second, _ = self(X[:, new:], state)  # type: ignore[operator]
        y_hat = self.backend.xp.concat([first, second], 0)  # time-major
        earlier = (X.shape[1] - new) * X.shape[0]
        return self.loss(y_hat[earlier:], Y), state

    def training_step(self, batch: Any) -> Any:
        """The loss of a minibatch by itself, from the zero state."""
        return self.loss_and_state(batch, None)[0]

    def validation_step(self, batch: Any) -> Any:
        """The loss of a validation minibatch by itself, from the zero state."""
        X, Y = batch
        return self.loss(self(X, None)[0], Y)  # type: ignore[operator]

    def step_end(self, record: StepRecord) -> None:
        """Perplexity belongs to whole epochs: nothing to draw for a minibatch."""

    def epoch_end(self, record: EpochRecord) -> None:
        """Add the epoch's perplexity to the board."""
        self.board.xlabel = "epoch"
        self.board.draw(record.epoch, perplexity(record.loss), "perplexity")


class RNNModelScratch(RecurrentLanguageModel):
    """A recurrent language model from scratch, made of three functions.

    Args:
        vocab_size: ``V``.
        num_hiddens: ``H``.
        device: where the parameters go; None is the framework's default.
        get_params: ``(vocab_size, num_hiddens, device) -> parameters``, a list, or a
            dict to give them names; None, here and below, takes those of `Scratch`.
        init_state: ``(batch_size, num_hiddens, device) -> tuple of states``.
        forward_fn: ``(inputs, state, params) -> (logits (T * B, V), state)``, with inputs
            one-hot ``(T, B, V)``, or ids ``(T, B)`` if it is marked `indices_accepted`,
            as the project's own functions are.
        lr: learning rate of `configure_optimizers`.

    Calling the model, ``model(X, state)`` with ids ``X (B, T)``, gives logits
    ``(T * B, V)``, time-major, and the new state, a tuple. ``X`` may be one-hot
    ``(T, B, V)`` too.
    """

    looks_up_rows: ClassVar[bool] = True
    vocab_size: int
    num_hiddens: int
    init_state: Callable[..., State]
    forward_fn: Callable[..., tuple[Array, State]]

    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        device: Any = None,
        get_params: Callable[..., Any] | None = None,
        init_state: Callable[..., Any] | None = None,
        forward_fn: Callable[..., Any] | None = None,
        lr: float = 1.0,
    ) -> None:
        super().__init__()
        own = Scratch(self.backend)
        self.vocab_size, self.num_hiddens, self.lr = vocab_size, num_hiddens, lr
        self.init_state = init_state or own.init_state
        self.forward_fn = forward_fn or own.forward
        params = by_name((get_params or own.get_params)(vocab_size, num_hiddens, device))
        self._names = list(params)
        declared: dict[int, str] = {}
        for name, values in params.items():
            self.declare(name, values)
            first = declared.setdefault(id(values), name)
            if first != name:  # one array at two places is one parameter
                self.backend.tie(self, name, first)

    @property
    def params(self) -> list[Array]:
        """The parameters in the order that ``get_params`` gave them."""
        return self.weights()

    def weights(self) -> list[Array]:
        """The same as ``params``, which in MXNet is Gluon's name for something else."""
        values = self.backend.places(self)
        return [values[name] for name in self._names]

    def begin_state(self, batch_size: int = 1, device: Any = None) -> State:
        return self.init_state(batch_size, self.num_hiddens, device)

    def one_hot(self, ids: Array) -> Array:
        """Ids of any shape as one-hot rows, float32 (in PyTorch of the parameters' type)."""
        return self.backend.xp.one_hot(ids, self.vocab_size)

    def forward(self, X: Array, state: State | None = None) -> tuple[Array, State]:
        return self._with_weights(X, state, self.weights())

    def _with_weights(
        self, X: Array, state: State | None, weights: list[Array]
    ) -> tuple[Array, State]:
        xp = self.backend.xp
        if len(X.shape) == 3:
            check_inputs(self, X, "(T, B, V)", self.vocab_size)
        else:
            check_ids(self, X, "(B, T)")
        if xp.is_integer(X):
            X = xp.transpose(X)  # (T, B)
            if not getattr(self.forward_fn, "takes_indices", False):
                X = self.one_hot(X)  # (T, B, V)
        if state is None:
            state = self.begin_state(X.shape[1])
        return self.forward_fn(X, state, weights)

    def export_parameters(self) -> dict[str, Any]:
        """As of `Module.export_parameters`; names of ours belong to what ours compute.

        Where ``forward_fn`` computes something else with them, the names say so.
        """
        values = super().export_parameters()
        return {name: values[own] for name, own in self._labelled(values).items()}

    def native_values(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        labelled = self._labelled(super().export_parameters())
        return {own: values[name] for name, own in labelled.items()}

    def _labelled(self, values: Mapping[str, Any]) -> dict[str, str]:
        """The names to export by, and those of the model."""
        kind = cell_of(values)
        if kind is None:  # the names are the reader's own
            return {name: name for name in values}
        ours = getattr(self.forward_fn, "__func__", None) is Scratch.forward
        if (ours and list(self._names) == kind[2]) or self._computes(*kind, values):
            return {name: name for name in values}
        label = f"forward_fn={getattr(self.forward_fn, '__name__', 'own')}."
        return {re.sub(r"(\w+)$", label + r"\1", name): name for name in values}

    def _computes(self, cell: str, layers: int, names: Sequence[str], values: Any) -> bool:
        """Compare the logits of ``forward_fn`` and of our own, with weights that are not small."""
        backend, places = self.backend, self.backend.places(self)
        changed = {
            name: places[name] / float(np.abs(values[name]).mean() + 1e-9) + 0.1 * number
            for number, name in enumerate(self._names)
        }
        X = backend.asarray(np.arange(10).reshape(2, 5) % values["W_hq"].shape[1])
        with backend.without_gradients():
            given, _ = self._with_weights(X, None, list(changed.values()))
            weights, state = [changed[name] for name in names], tuple(self.begin_state(2))
            expected, _ = Scratch(backend, cell, layers).forward(
                backend.xp.transpose(X), state, weights
            )
        given, expected = backend.to_numpy(given), backend.to_numpy(expected)
        return np.allclose(given, expected, rtol=1e-4, atol=1e-4)


def _reads_ids(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A model's ``forward`` that looks first whether it is given ids ``(B, T)``."""

    @wraps(forward)
    def checking(self: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        check_ids(self, inputs, "(B, T)")
        return forward(self, inputs, *rest, **named)

    return checking


class RNNModel(RecurrentLanguageModel):
    """A recurrent language model from the framework's own layer and a linear layer.

    Args:
        rnn_layer: the framework's RNN, GRU or LSTM layer with ``vocab_size`` inputs, of
            one or two directions and any number of layers. With two directions the
            model sees the characters that it shall predict: fine for tagging a text,
            useless for continuing one.
        vocab_size: ``V``.
        lr: learning rate of `configure_optimizers`.

    Calling the model, ``model(X, state)`` with ids ``X (B, T)``, gives logits
    ``(T * B, V)``, time-major, and the new state: ``(layers * directions, B, H)``, for
    an LSTM a pair of them.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "forward" in vars(cls) and cls.__module__.startswith("unrolled."):
            cls.forward = _reads_ids(cls.forward)  # type: ignore[method-assign]

    def import_parameters(self, values: Mapping[str, Any]) -> Any:
        """Take the values of all parameters from `export_parameters`, none of them tied.

        Returns:
            The model with these values: itself, but in JAX, where models cannot change.

        Raises:
            ParameterError: as of `Module.import_parameters`; or values are tied, which a
                layer that keeps its gates side by side cannot be.
        """
        return super().import_parameters(check_apart(values, IMPORTING))
