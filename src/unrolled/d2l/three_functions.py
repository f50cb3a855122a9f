"""``RNNModelScratch`` of *Dive into Deep Learning*: a model made of three functions."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from unrolled.backends import Array
from unrolled.checks import check_ids, check_inputs
from unrolled.functional.recurrent import State
from unrolled.models.language_model import RecurrentLanguageModel, RecurrentNetwork
from unrolled.models.layers import cell_of


def by_name(params: Sequence[Array] | Mapping[str, Array]) -> dict[str, Array]:
    """Return what a ``get_params`` gave, by name; those of a list are called ``param_0``, ..."""
    if isinstance(params, Mapping):
        return dict(params)
    return {f"param_{i}": param for i, param in enumerate(params)}


def indices_accepted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a forward function that takes ids ``(T, B)`` as well as one-hot ``(T, B, V)``."""
    function.takes_indices = True  # type: ignore[attr-defined]
    return function


def is_ours(function: Any) -> bool:
    """Return whether a function is our own forward pass."""
    return getattr(function, "__func__", None) is RecurrentNetwork.forward


def takes_ids(function: Any) -> bool:
    """Return whether a forward function is ours, or marked `indices_accepted`."""
    return is_ours(function) or getattr(function, "takes_indices", False)


class Scratch(RecurrentNetwork):
    """The three functions that `RNNModelScratch` takes, for each of our cells.

    Example:
        >>> from unrolled.d2l import torch as d2l
        >>> gru = d2l.Scratch(d2l.backend, "gru")
        >>> parts = gru.get_params, gru.init_state, gru.forward
        >>> model = d2l.RNNModelScratch(28, 8, None, *parts)
    """

    def get_params(
        self, vocab_size: int, num_hiddens: int, device: Any = None, **drawn: Any
    ) -> dict[str, Array]:
        """Return fresh parameters, see `RecurrentNetwork.initial_parameters`."""
        return self.initial_parameters(vocab_size, num_hiddens, device, **drawn)

    def init_state(self, batch_size: int, num_hiddens: int, device: Any = None) -> State:
        """Return the state before the first step, see `RecurrentNetwork.begin_state`."""
        return self.begin_state(batch_size, num_hiddens, device)


class RNNModelScratch(RecurrentLanguageModel):
    """A recurrent language model made of three functions, as the book writes one.

    Args:
        vocab_size: ``V``.
        num_hiddens: ``H``.
        device: where the parameters go; None is the framework's default.
        get_params: ``(vocab_size, num_hiddens, device) -> parameters``, a list, or a
            dict to give them names; None, here and below, takes those of `RecurrentNetwork`.
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
        own = RecurrentNetwork(self.backend)
        self.vocab_size, self.num_hiddens, self.lr = vocab_size, num_hiddens, lr
        self.init_state = init_state or own.begin_state
        self.forward_fn = forward_fn or own.forward
        params = by_name((get_params or own.initial_parameters)(vocab_size, num_hiddens, device))
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
        values = self.backend.named_arrays(self)
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
            if not takes_ids(self.forward_fn):
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
        ours = is_ours(self.forward_fn)
        if (ours and list(self._names) == kind[2]) or self._computes(*kind, values):
            return {name: name for name in values}
        label = f"forward_fn={getattr(self.forward_fn, '__name__', 'own')}."
        return {re.sub(r"(\w+)$", label + r"\1", name): name for name in values}

    def _computes(self, cell: str, layers: int, names: Sequence[str], values: Any) -> bool:
        """Compare the logits of ``forward_fn`` and of our own, with weights that are not small."""
        backend, places = self.backend, self.backend.named_arrays(self)
        changed = {
            name: places[name] / float(np.abs(values[name]).mean() + 1e-9) + 0.1 * number
            for number, name in enumerate(self._names)
        }
        X = backend.asarray(np.arange(10).reshape(2, 5) % values["W_hq"].shape[1])
        with backend.without_gradients():
            given, _ = self._with_weights(X, None, list(changed.values()))
            weights, state = [changed[name] for name in names], tuple(self.begin_state(2))
            expected, _ = RecurrentNetwork(backend, cell, layers).forward(
                backend.xp.transpose(X), state, weights
            )
        given, expected = backend.to_numpy(given), backend.to_numpy(expected)
        return np.allclose(given, expected, rtol=1e-4, atol=1e-4)
