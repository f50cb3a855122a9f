"""Differentiate the loss of a minibatch, with gradients through time where they are asked for."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from unrolled.backends import Backend, Namespace
from unrolled.backends.rows import row_gradients
from unrolled.functional.updates import clip
from unrolled.training.rows import rows_suffice
from unrolled.training.tracing import ThroughTime, Tracer
from unrolled.training.truncation import Truncation


class Differentiation:
    """The part of a trainer that computes losses and gradients."""

    backend: ClassVar[Backend]
    model: Any
    parameters: dict[str, Any]
    gradient_clip_method: str
    truncation: Truncation
    draws_losses: bool = False
    """True if the loop draws training losses, so that `Module.plot_loss` need not."""
    leaves_losses: bool = False
    """True if the model has left a loss to the loop."""

    def compile_functions(self) -> None:
        """Compile the functions of a step, where the framework compiles."""
        xp, method = self.backend.xp, self.gradient_clip_method
        self.differentiate = self.differentiable(self.objective)
        self.tracer = Tracer(self)
        self._clip = self.backend.compile(partial(clip, xp, method))
        self._stack = self.backend.compile(partial(_stack, xp))

    def objective(self, parameters: Any, batch: Any, state: Any) -> tuple[Any, Any]:
        """Loss and carried state as a function of the parameters, to be differentiated."""
        self.draws_losses = True
        model = self.model.with_parameters(parameters)
        with row_gradients(rows_suffice(self)):
            return self.truncation.loss_and_state(self.backend, model, batch, state)

    def differentiable(self, objective: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
        """``(leaves, batch, state, *context) -> ((loss, auxiliary), gradients)``, compiled."""
        return self.backend.compile(self.backend.value_and_grad(objective))

    def context(self) -> tuple[Any, ...]:
        """Return further arguments of the objective: none here, JAX's random key for one."""
        return ()

    def backward(
        self, batch: Any, state: Any, traced: bool = False
    ) -> tuple[Any, Any, ThroughTime | None]:
        """``(loss, state)`` of a minibatch, and the gradients of the parameters.

        Args:
            batch: on the model's device.
            state: what it begins with.
            traced: whether to look for gradients through time, the third result.
        """
        if traced:
            return self.tracer(self.parameters, batch, state, *self.context())
        return *self.differentiate(self.parameters, batch, state, *self.context()), None

    def trace(self, batch: Any, state: Any) -> ThroughTime:
        """The gradients through time of a minibatch with the weights as they are now."""
        return self.tracer(self.parameters, batch, state, *self.context())[2]

    @property
    def bound_model(self) -> Any:
        """The model as trained so far, to be called: the model itself, but in JAX."""
        return self.model.with_parameters(self.parameters)

    def watch_layers(self) -> Any:
        """Return an observer of the framework's own recurrent layers; None if there is none.

        An object with ``start()``, called before a minibatch whose layers are to be looked
        at, and ``layers()``, called after its backward pass, which gives
        `unrolled.telemetry.records.LayerRecord` by the modules' names.
        """
        return None


def _stack(xp: Namespace, scalars: tuple[Any, ...]) -> Any:
    """Scalars, or arrays of one number, as one vector."""
    return xp.stack([x if x.shape == () else xp.reshape(x, ()) for x in scalars])
