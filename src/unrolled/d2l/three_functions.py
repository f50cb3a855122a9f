"""``RNNModelScratch`` of *Dive into Deep Learning*: a model made of three functions."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from unrolled.backends import Array
from unrolled.checks import check_ids, check_inputs
from unrolled.functional.recurrent import State
from unrolled.models.language_model import RecurrentLanguageModel, RecurrentNetwork
from unrolled.models.weights import cell_of

__all__ = ["Scratch"]


def by_name(params: Sequence[Array] | Mapping[str, Array]) -> dict[str, Array]:
    """Return what a ``get_params`` gave, by name; those of a list are called ``param_0``, ..."""
    if isinstance(params, Mapping):
        return dict(params)
    return {f"param_{i}": param for i, param in enumerate(params)}


def is_ours(function: Any) -> bool:
    """Return whether a function is our own forward pass, which takes ids."""
    return getattr(function, "__func__", None) is RecurrentNetwork.forward


class Scratch(RecurrentNetwork):
    """The three functions that `RNNModelScratch` takes, for each of our cells.

    Example:
        >>> from unrolled.d2l import torch as d2l
        >>> gru = d2l.Scratch(d2l.backend, "gru")
        >>> parts = gru.get_params, gru.init_state, gru.forward
        >>> model = d2l.RNNModelScratch(28, 8, None, *parts)
    """

    get_params = RecurrentNetwork.initial_parameters
    init_state = RecurrentNetwork.begin_state


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
            one-hot ``(T, B, V)``; the project's own functions are given ids ``(T, B)``.
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
        xp = self.backend.xp
        if len(X.shape) == 3:
            check_inputs(self, X, "(T, B, V)", self.vocab_size)
        else:
            check_ids(self, X, "(B, T)")
        if xp.is_integer(X):
            X = xp.transpose(X)  # (T, B)
            if not is_ours(self.forward_fn):
                X = self.one_hot(X)  # (T, B, V)
        if state is None:
            state = self.begin_state(X.shape[1])
        return self.forward_fn(X, state, self.weights())

    def export_parameters(self) -> dict[str, Any]:
        """As of `Module.export_parameters`; names of ours belong to what ours computes.

        Where another ``forward_fn`` computes with them, the names say so.
        """
        values = super().export_parameters()
        kind = cell_of(values)
        if kind is None or (is_ours(self.forward_fn) and self._names == list(kind[2])):
            return values
        label = f"forward_fn={getattr(self.forward_fn, '__name__', 'own')}."
        return {re.sub(r"(\w+)$", label + r"\1", name): v for name, v in values.items()}

    def native_values(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        own = super().export_parameters()
        exported = self.export_parameters()
        return {name: values[key] for name, key in zip(own, exported, strict=True)}
