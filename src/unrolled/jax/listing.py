"""Parameters of nested dicts in JAX: list, reach, tie, save and load them."""

from collections.abc import Mapping
from typing import Any

from flax.traverse_util import flatten_dict

from unrolled import parameters
from unrolled.backends import Backend
from unrolled.backends import jax as backend
from unrolled.errors import ParameterError


class Parameters(parameters.Parameters):
    """The listing of a nested dict as in ``trainer.state.params``, or of a bound module.

    Flax's own way of tying is one submodule at two places: it has one entry then, and one
    place. `tie` is for values that have two: both places hold one array from then on. A
    module bound to such a dict trains with the tie, ``module.bind({"params": params})``:
    the array is one parameter, and its gradient the sum over its places. A bound module
    itself cannot change, so `tie` and `load` want the dict.

    Args:
        model: nested dict of arrays, or bound Linen module.
        gradients: as from `jax.grad`, nested or by dotted name.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"a": {"w": jnp.ones((2, 2))}, "b": {"w": jnp.zeros((2, 2))}}
        >>> gradients = {"a": {"w": jnp.ones((2, 2))}, "b": {"w": jnp.ones((2, 2))}}
        >>> parameters = Parameters(backend, params, gradients)
        >>> parameters.tie("b.w", to="a.w")
        >>> print(parameters)
        name   shape   dtype    values  gradient norm  tied with
        a.w    (2, 2)  float32       4              4  b.w
        total                        4              4
    """

    def __init__(
        self, backend: Backend, model: Any, gradients: Mapping[str, Any] | None = None
    ) -> None:
        own = dict(gradients or {})
        if set(own) == {"params"}:  # of all variables, as model.init gives them
            own = own["params"]
        super().__init__(backend, model, flatten_dict(own, sep="."))
        if own and not set(self.gradients) & set(self._arrays()):
            raise ParameterError(
                f"these gradients are of {', '.join(self.gradients)}, and the parameters are "
                f"{', '.join(self._arrays())}: give a tree of the same names"
            )

    def _arrays(self) -> dict[str, Any]:
        return backend.named_arrays(self.model)  # a module without values is told what to do

    def _gradient(self, array: Any, places: tuple[str, ...]) -> Any:
        parts: list[Any] = [self.gradients[place] for place in places if place in self.gradients]
        return sum(parts[1:], start=parts[0]) if parts else None

    def _take(self, live: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        renewed = backend.assign(live, values)
        for name, (_, places) in self._places().items():
            for place in places:
                backend.put(self.model, place, renewed[name])
