"""``BiSRN``, ``BiGRU`` and ``BiLSTM`` of *Neural Networks and Deep Learning*.

Shape letters as in `unrolled.nndl.recurrent_layers`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from unrolled.backends import Array
from unrolled.functional.initial import Seed
from unrolled.nndl.recurrent_layers import Layer, split_seed


class Bidirectional(Layer):
    """Two layers, one reading from the start and one from the end; both last states given.

    Calling it with ``(B, L, D)`` gives ``(B, 2 H)``. The second layer meets the first
    inputs last, so it need not remember them for long.

    Args:
        input_size: ``D``.
        hidden_size: ``H`` of each direction.
        seed: of the draws; None takes one from the framework's own generator.
        engine: what carries the cells over time, see `unrolled.kernels`.
        attrs: initial values by name, the same for both, as of `RecurrentLayer`.
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
        given = attrs if self.layer.cell == "rnn" else {"attrs": attrs}

        def make(number: int) -> Any:
            sizes = self.input_size, self.hidden_size
            return self.layer(*sizes, seed=split_seed(seed, number), engine=self.engine, **given)

        self.forwards, self.backwards = make(0), make(1)

    @property
    def output_size(self) -> int:
        """Entries of what `forward` gives for a sequence."""
        return 2 * self.hidden_size

    def unroll(self, inputs: Array) -> Any:
        """The hidden states of every step, ``(L, B, 2 H)``, and the two last ones."""
        ahead, (last, *_) = self.forwards.unroll(inputs)
        back, (first, *_) = self.backwards.unroll(inputs, reverse=True)
        return self.backend.xp.concat([ahead, back], -1), (last, first)

    def forward(self, inputs: Array) -> Array:
        """The last states of both directions side by side, ``(B, 2 H)``."""
        return self.backend.xp.concat(list(self.unroll(inputs)[1]), -1)
