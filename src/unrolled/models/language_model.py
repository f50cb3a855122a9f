"""``LanguageModel`` from scratch, and what all recurrent language models share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from unrolled.backends import Array, Backend
from unrolled.checks import check, check_ids, check_inputs, checked
from unrolled.errors import check_fit
from unrolled.frameworks import load
from unrolled.functional.initial import normal_weights
from unrolled.functional.losses import cross_entropy, perplexity
from unrolled.functional.recurrent import CELLS, State
from unrolled.kernels import check_engine, project, recur
from unrolled.kernels.taps import begin_piece
from unrolled.models.layer_options import check_same_function
from unrolled.models.weights import parameter_shapes
from unrolled.parameters import shapes_of
from unrolled.training.module import Module
from unrolled.training.records import EpochRecord, StepRecord


@dataclass(frozen=True)
class RecurrentNetwork:
    """The functions that a recurrent language model is made of, pure and of no framework's classes.

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
        return _network, (type(self), self.backend.name, *rest)

    def __post_init__(self) -> None:
        check([("cell", self.cell, ...), ("num_layers", self.num_layers, ...)], "RecurrentNetwork")
        check_engine(self.engine)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the formula."""
        return tuple(self.shapes(1, 1))

    def shapes(self, vocab_size: int, num_hiddens: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters by name, in the order of the formula."""
        return parameter_shapes(self.cell, self.num_layers, vocab_size, num_hiddens)

    @checked
    def initial_parameters(
        self,
        vocab_size: int,
        num_hiddens: int,
        device: Any = None,
        *,
        sigma: float = 0.01,
        seed: int | None = None,
    ) -> dict[str, Array]:
        """Return fresh parameters by name: weights from ``N(0, sigma^2)``, biases zero.

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
        shapes = self.shapes(vocab_size, num_hiddens)
        seed = self.backend.fresh_seed() if seed is None else seed
        return self.backend.initialize(normal_weights(shapes, sigma, seed), device)

    @checked
    def begin_state(self, batch_size: int, num_hiddens: int, device: Any = None) -> State:
        """Return the state before the first step: a tuple of zeros ``(B, H)``.

        One for each layer, for an LSTM two: ``(H, C)`` of layer 0, then of layer 1, ...
        """
        zeros = np.zeros((batch_size, num_hiddens), dtype=np.float32)
        count = CELLS[self.cell].num_states * self.num_layers
        return tuple(self.backend.asarray(zeros, device) for _ in range(count))

    def forward(
        self, inputs: Array, state: State, params: Sequence[Array] | Mapping[str, Array]
    ) -> tuple[Array, State]:
        """Return the logits of every step, and the state after the last.

        Args:
            inputs: ids ``(T, B)``, or one-hot (or any other) rows ``(T, B, V)``.
            state: as from `begin_state`, or as returned for the text before.
            params: as from `initial_parameters`, or their values in that order; those of a GRU also
                without ``b_hh``, as the books print it, see `unrolled.functional.recurrent.gru`.

        Returns:
            Logits ``(T * B, V)``, time-major, and the state.
        """
        xp = self.backend.xp
        values = list(params.values() if isinstance(params, Mapping) else params)
        cell, size = CELLS[self.cell], (len(values) - 2) // self.num_layers
        new_state: State = ()
        H = inputs
        for layer in range(self.num_layers):
            weights = values[layer * size : (layer + 1) * size]
            old = state[layer * cell.num_states : (layer + 1) * cell.num_states]
            H, last = recur(  # (T, B, H)
                self.backend, cell, H, old, weights, self.engine, precision=self.precision
            )
            new_state += tuple(last)
        W_hq, b_q = values[-2:]
        H = xp.reshape(H, (-1, H.shape[-1]))  # (T * B, H)
        Y = project(self.backend, H, W_hq, b_q, self.engine)  # (T * B, V)
        return Y, new_state


def _network(kind: Any, framework: str, *rest: Any) -> RecurrentNetwork:
    network: RecurrentNetwork = kind(load(framework).backend, *rest)
    return network


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


class LanguageModel(RecurrentLanguageModel):
    """A recurrent language model written out in equations; see `RecurrentNetwork`.

    Calling the model, ``model(X, state)`` with ids ``X (B, T)``, gives logits ``(T * B, V)``,
    time-major, and the new state, a tuple. ``X`` may be one-hot ``(T, B, V)`` too.

    Args:
        vocab_size: ``V``.
        num_hiddens: ``H``.
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        num_layers: recurrent layers; each reads the hidden states of the one below.
        lr: learning rate of `configure_optimizers`.
        sigma: standard deviation of the initial weights; biases begin at zero.
        seed: of the initial weights; None takes one from the framework's own generator.
        values: initial values by name, NumPy arrays, in the place of drawn ones.
        device: where the parameters go; None is the framework's default.
        engine: what carries the cell over time, see `unrolled.kernels`.
        precision: of the products over time, see `unrolled.kernels.recur`.

    Example:
        >>> from unrolled import torch
        >>> data = torch.TextData("hello world " * 100, batch_size=4, num_steps=10, seed=0)
        >>> model = torch.LanguageModel(len(data.vocab), num_hiddens=8, cell="gru", seed=0)
        >>> torch.Trainer(max_epochs=1, gradient_clip_val=1).fit(model, data)
        >>> list(model.state_dict())[:3]
        ['W_xz', 'W_hz', 'b_z']
    """

    looks_up_rows: ClassVar[bool] = True
    vocab_size: int
    num_hiddens: int
    network: RecurrentNetwork

    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        cell: str = "rnn",
        num_layers: int = 1,
        lr: float = 1.0,
        sigma: float = 0.01,
        seed: int | None = None,
        values: Mapping[str, Any] | None = None,
        device: Any = None,
        engine: str = "auto",
        precision: str = "float32",
    ) -> None:
        super().__init__()
        self.vocab_size, self.num_hiddens, self.lr = vocab_size, num_hiddens, lr
        self.network = RecurrentNetwork(self.backend, cell, num_layers, engine, precision)
        for name, array in self.initial(sigma, seed, values, device).items():
            self.declare(name, array)

    def initial(
        self, sigma: float, seed: int | None, values: Mapping[str, Any] | None, device: Any
    ) -> dict[str, Array]:
        """Return the parameters' first arrays: those given, else drawn ones."""
        sizes = self.vocab_size, self.num_hiddens
        if values is None:
            return self.network.initial_parameters(*sizes, device, sigma=sigma, seed=seed)
        check_fit(self.network.shapes(*sizes), shapes_of(values))
        return self.backend.initialize(values, device)

    def weights(self) -> list[Array]:
        """Return the parameters in the order of the formula."""
        values = self.backend.named_arrays(self)
        return [values[name] for name in self.network.names]

    def begin_state(self, batch_size: int = 1, device: Any = None) -> State:
        return self.network.begin_state(batch_size, self.num_hiddens, device)

    def forward(self, X: Array, state: State | None = None) -> tuple[Array, State]:
        if len(X.shape) == 3:
            check_inputs(self, X, "(T, B, V)", self.vocab_size)
        else:
            check_ids(self, X, "(B, T)")
            X = self.backend.xp.transpose(X)  # (T, B)
        if state is None:
            state = self.begin_state(X.shape[1])
        return self.network.forward(X, state, self.weights())
