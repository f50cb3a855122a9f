"""``SRN``, ``GRU``, ``LSTM``, ``Bidirectional``, ``Embedding``, ``Linear``, for any framework.

Layers of *Neural Networks and Deep Learning* that read a sequence and give their last state. The
recurrences are those of `unrolled.functional.recurrent`; here is only what the published form
adds: inputs ``(B, L, D)``, biases ``(1, H)``, and the names ``W``, ``U``, ``b``.

Shape letters: ``B`` batch, ``L`` length of a sequence, ``D`` inputs, ``H`` hidden units.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from unrolled.backends import Array
from unrolled.checks import check_ids, check_inputs
from unrolled.errors import ParameterError
from unrolled.functional import bptt
from unrolled.functional.initial import Seed, is_bias, xavier_uniform
from unrolled.functional.linear import affine
from unrolled.functional.recurrent import CELLS, State
from unrolled.kernels import recur
from unrolled.kernels.analytic_backward import Operations
from unrolled.models.scratch_layer import ScratchLayer, zero_state

PUBLISHED = {"W_x": "W_", "W_h": "U_", "b_": "b_", "b_h": "b_h"}
"""What the published programs call a cell's weight, whose last letter names the gate."""

NAMES = {
    cell: tuple(PUBLISHED[name[:-1]] + name[-1] for name in CELLS[cell].weights)
    for cell in ("gru", "lstm")
} | {"rnn": ("W", "U", "b")}  # one gate: no letter is needed
"""The published names of each cell's weights, in the order of its formula."""


def split_seed(seed: Seed, number: int) -> Seed:
    """A seed of its own for each part of a model; None stays None."""
    if seed is None:
        return None
    return [*([seed] if isinstance(seed, int) else seed), number]


class Layer(ScratchLayer):
    """A layer that draws its initial values from Xavier's uniform distribution."""

    def drawn(self, shapes: Mapping[str, Any], seed: Seed) -> dict[str, Any]:
        """Return initial values as `xavier_uniform` draws them; without a seed, a fresh one."""
        return dict(xavier_uniform(shapes, self.backend.fresh_seed() if seed is None else seed))


class RecurrentLayer(Layer):
    """What the recurrent layers share: parameters, and the way through a sequence.

    Args:
        input_size: ``D``.
        hidden_size: ``H``.
        seed: of the draws; None takes one from the framework's own generator.
        engine: what carries the cell over time, see `unrolled.kernels`.
        attrs: initial values by name, ``{"W_attr": [[...]]}`` for ``W``, ``"Wi_attr"`` for
            ``W_i``; they can be arguments of their own too (not in JAX), ``Wi_attr=...``.
            What is not given is drawn, biases too, as `xavier_uniform` does.

    Raises:
        ParameterError: an initial value has no such parameter, or another shape.
    """

    cell: ClassVar[str]
    input_size: int
    hidden_size: int
    engine: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        seed: Seed = None,
        engine: str = "auto",
        attrs: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.engine = input_size, hidden_size, engine
        self.declare_all(self.initial_values(seed, {**(attrs or {}), **named}))

    @property
    def output_size(self) -> int:
        """Entries of what `forward` gives for a sequence."""
        return self.hidden_size

    def shapes(self) -> dict[str, tuple[int, ...]]:
        D, H = self.input_size, self.hidden_size
        return {name: {"W": (D, H), "U": (H, H), "b": (1, H)}[name[0]] for name in NAMES[self.cell]}

    def initial_values(self, seed: Seed = None, attrs: Any = None) -> dict[str, Any]:
        values = self.drawn(self.shapes(), seed)
        known = {f"{name.replace('_', '')}_attr": name for name in values}
        for attr, value in (attrs or {}).items():
            if value is None:
                continue
            if attr not in known:
                raise ParameterError(
                    f"{type(self).__name__} takes no {attr}; there are: {', '.join(known)}"
                )
            name, given = known[attr], np.array(value, dtype=np.float32)
            shape = values[name].shape
            if given.size != values[name].size or given.shape[-1:] != shape[-1:]:
                raise ParameterError(f"{attr} has shape {given.shape}; expected {shape}")
            values[name] = given.reshape(shape)
        return values

    def cell_weights(self) -> list[Array]:
        """The parameters as the cell's formula takes them, biases ``(H,)``."""
        reshape = self.backend.xp.reshape
        arrays = {name: self.array(name) for name in NAMES[self.cell]}
        return [reshape(a, (-1,)) if is_bias(name) else a for name, a in arrays.items()]

    def begin(self, X: Array, states: Any = None) -> State:
        """The state before the first step of ``X (L, B, D)``: that given, else zeros."""
        if states is not None:
            return states if isinstance(states, tuple) else (states,)
        zeros = zero_state(self.backend.xp, X, self.array(NAMES[self.cell][1]))
        return (zeros,) * CELLS[self.cell].num_states

    def unroll(self, inputs: Array, states: Any = None, reverse: bool = False) -> Any:
        """The hidden states of every step, ``(L, B, H)``, and the last state.

        Args:
            inputs: ``(B, L, D)``.
            states: to begin with: ``(B, H)``, of an LSTM a pair; None: zeros.
            reverse: read from the end.
        """
        check_inputs(self, inputs, "(B, L, D)", self.input_size)
        X, cell = self.backend.xp.transpose(inputs), CELLS[self.cell]  # (L, B, D)
        state, weights = self.begin(X, states), self.cell_weights()
        return recur(self.backend, cell, X, state, weights, self.engine, reverse=reverse)

    def forward(self, inputs: Array, states: Any = None) -> Array:
        """The hidden state after the last step, ``(B, H)``, of inputs ``(B, L, D)``."""
        return self.unroll(inputs, states)[1][0]


class SRN(RecurrentLayer):
    """Simple recurrent network: ``h_t = tanh(x_t W + h_{t-1} U + b)``, the last state given.

    ``W (D, H)``, ``U (H, H)``, ``b (1, H)``; calling it with ``(B, L, D)`` gives ``(B, H)``.

    Args:
        input_size: ``D``.
        hidden_size: ``H``.
        W_attr, U_attr, b_attr: initial values; what is None is drawn from Xavier's uniform
            distribution.
        seed: of the draws; None takes one from the framework's own generator.
        engine: what carries the cell over time, see `unrolled.kernels`.

    Example:
        >>> import torch
        >>> from unrolled.nndl.torch import SRN
        >>> srn = SRN(2, 2, [[0.1, 0.2], [0.1, 0.2]], [[0.0, 0.1], [0.1, 0.0]], [[0.1, 0.1]])
        >>> [round(h, 5) for h in srn(torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])).flatten().tolist()]
        [0.31774, 0.4775]
    """

    cell = "rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        W_attr: Any = None,
        U_attr: Any = None,
        b_attr: Any = None,
        seed: Seed = None,
        engine: str = "auto",
    ) -> None:
        attrs = {"W_attr": W_attr, "U_attr": U_attr, "b_attr": b_attr}
        super().__init__(input_size, hidden_size, seed, engine, attrs)


class GRU(RecurrentLayer):
    """Gated recurrent unit, see `unrolled.functional.recurrent.gru`; the last state given.

    ``W_z, W_r, W_h (D, H)``, ``U_z, U_r, U_h (H, H)``, ``b_z, b_r, b_h, b_hh (1, H)``;
    arguments as of `RecurrentLayer`.
    """

    cell = "gru"


class LSTM(RecurrentLayer):
    """Long short-term memory, see `unrolled.functional.recurrent.lstm`; the last state given.

    ``W_i, W_f, W_o, W_c (D, H)``, ``U_. (H, H)``, ``b_. (1, H)``; arguments as of
    `RecurrentLayer`, ``Wi_attr, Ui_attr, bi_attr, ...``.

    Example:
        >>> import torch
        >>> from unrolled.nndl.torch import LSTM
        >>> W, U, b = [[0.1, 0.2], [0.1, 0.2]], [[0.0, 0.1], [0.1, 0.0]], [[0.1, 0.1]]
        >>> given = {"W": W, "U": U, "b": b}
        >>> lstm = LSTM(2, 2, **{f"{k}{g}_attr": v for k, v in given.items() for g in "ifoc"})
        >>> [round(h, 5) for h in lstm(torch.tensor([[[1.0, 0.0]]])).flatten().tolist()]
        [0.05944, 0.09524]
    """

    cell = "lstm"

    def gates(self, inputs: Array) -> dict[str, Array]:
        """What happens inside at every step of inputs ``(B, L, D)``, ``(L, B, H)`` each.

        Returns:
            ``"input"``, ``"forget"`` and ``"output"``, the gates between 0 and 1;
            ``"cell"`` and ``"hidden"``, the states after the step.
        """
        check_inputs(self, inputs, "(B, L, D)", self.input_size)
        xp = self.backend.xp
        X = xp.transpose(inputs)  # (L, B, D)
        _, tape = Operations(xp).tape(self.cell, X, self.begin(X), self.cell_weights())
        hidden, cell = tape.new
        named = zip(("input", "forget", "output"), bptt.gates(tape.kept[0], 3), strict=True)
        return {**dict(named), "cell": cell, "hidden": hidden}


class Bidirectional(Layer):
    """Two layers, one reading from the start and one from the end; both last states given.

    Calling it with ``(B, L, D)`` gives ``(B, 2 H)``. The second layer meets the first
    inputs last, so it need not remember them for long.

    Args:
        input_size: ``D``.
        hidden_size: ``H`` of each direction.
        seed, engine, attrs: as of `RecurrentLayer`; initial values are the same for both.
    """

    layer: ClassVar[Any]
    input_size: int
    hidden_size: int
    engine: str
    forwards: Any
    backwards: Any

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        seed: Seed = None,
        engine: str = "auto",
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.engine = input_size, hidden_size, engine
        self.make_layers(seed, dict(attrs or {}))

    def make_layers(self, seed: Seed, attrs: Mapping[str, Any]) -> None:
        """Make the layers of the two directions."""
        sizes = self.input_size, self.hidden_size
        given = attrs if self.layer.cell == "rnn" else {"attrs": attrs}
        self.forwards, self.backwards = (
            self.layer(*sizes, seed=split_seed(seed, number), engine=self.engine, **given)
            for number in range(2)
        )

    @property
    def output_size(self) -> int:
        """Entries of what `forward` gives for a sequence."""
        return 2 * self.hidden_size

    def forward(self, inputs: Array) -> Array:
        """The last states of both directions side by side, ``(B, 2 H)``."""
        _, (last, *_) = self.forwards.unroll(inputs)
        _, (first, *_) = self.backwards.unroll(inputs, reverse=True)
        return self.backend.xp.concat([last, first], -1)


class Embedding(Layer):
    """A vector for each id, looked up and trained: ``W (num_embeddings, embedding_dim)``.

    Args:
        num_embeddings: how many ids there are.
        embedding_dim: ``D``.
        seed: of the initial values, Xavier's uniform distribution; None takes one from the
            framework's own generator.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, seed: Seed = None) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.declare_all(self.initial_values(seed))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"W": (self.num_embeddings, self.embedding_dim)}

    def initial_values(self, seed: Seed = None) -> dict[str, Any]:
        return self.drawn(self.shapes(), seed)

    def forward(self, inputs: Array) -> Array:
        """The rows ``(..., D)`` of ids of any shape."""
        check_ids(self, inputs)
        return self.backend.xp.take(self.array("W"), inputs)


class Linear(Layer):
    """``X weight^T + bias``, with ``weight (out, in)`` and ``bias (out,)``.

    Args:
        in_features: entries of a row that goes in.
        out_features: entries of a row that comes out.
        seed: of the weight, Xavier's uniform distribution; the bias begins at zero. None
            takes one from the framework's own generator.
    """

    def __init__(self, in_features: int, out_features: int, seed: Seed = None) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.declare_all(self.initial_values(seed))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.out_features, self.in_features), "bias": (self.out_features,)}

    def initial_values(self, seed: Seed = None) -> dict[str, Any]:
        weight = self.drawn({"weight": self.shapes()["weight"]}, seed)
        return {**weight, "bias": np.zeros(self.out_features, np.float32)}

    def forward(self, inputs: Array) -> Array:
        """Rows ``(N, out)`` of rows ``(N, in)``."""
        check_inputs(self, inputs, "(N, in)", self.in_features)
        xp = self.backend.xp
        return affine(xp, inputs, xp.transpose(self.array("weight")), self.array("bias"))
