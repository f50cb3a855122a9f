"""``Module`` for JAX, a Linen module to subclass; ``NativeModel`` trains a plain one."""

from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial
from inspect import signature
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from unrolled.backends import Backend
from unrolled.backends import jax as backend
from unrolled.errors import SettingError
from unrolled.jax.listing import Parameters
from unrolled.models import native
from unrolled.models.weights import with_prefix
from unrolled.report.board import ProgressBoard
from unrolled.training import module

LEFT_LOSS = "loss, left to the trainer"
"""What a training loss is called among the plots of compiled code; the trainer draws it itself."""


class State(TrainState):
    """A `TrainState` with what the books' loops keep beside it."""

    dropout_rng: Any = None
    batch_stats: Any = None
    """Always None: the trainer changes parameters only."""


def without_aux(value: Any) -> Any:
    """The loss itself, of what a `Module.loss` gives."""
    return value[0] if isinstance(value, tuple) else value


def is_published(step: Callable[..., Any]) -> bool:
    """Whether a training or validation step takes ``(params, batch, state)``, as in the books."""
    return len(signature(step).parameters) == 3


class Module(module.Module, nn.Module):
    """The base class of models, a Linen module.

    A subclass has fields instead of an ``__init__``, makes its parameters in ``setup`` or in
    an ``@nn.compact`` ``__call__``, and defines `loss`.
    """

    backend: ClassVar[Backend] = backend
    has_aux: ClassVar[bool] = False
    """Whether `loss` gives a pair: the loss, and a dict of what else there is to tell."""
    plot_train_per_epoch: int = field(default=2, kw_only=True, repr=False)
    plot_valid_per_epoch: int = field(default=1, kw_only=True, repr=False)
    board: Any = field(default_factory=ProgressBoard, kw_only=True, repr=False, compare=False)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "trainer":  # all else of a Linen module is frozen
            object.__setattr__(self, name, value)
        elif name == "training":
            pass  # as loops switch it; here it follows from the random numbers that are given
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
        self.check_lr()
        return optax.sgd(self.lr)

    @property
    def training(self) -> bool:
        """Whether it is being trained: ``nn.Dropout(0.5, deterministic=not self.training)``."""
        return bool(self.has_rng("dropout"))

    def training_step(self, *arguments: Any) -> Any:
        """The loss of ``(batch)``; of ``(params, batch, state)`` the loss and its gradients.

        The second form is for a training loop of one's own, with ``trainer.state``.
        """
        if len(arguments) == 1:
            return super().training_step(*arguments)
        params, batch, state = arguments
        differentiate = jax.value_and_grad(self.loss, has_aux=self.has_aux)
        loss, gradients = differentiate(params, tuple(batch[:-1]), batch[-1], state)
        self.plot_loss(without_aux(loss), train=True)
        return loss, gradients

    def validation_step(self, *arguments: Any) -> Any:
        """The loss of ``(batch)``, or of ``(params, batch, state)``; it is plotted."""
        if len(arguments) == 1:
            return super().validation_step(*arguments)
        params, batch, state = arguments
        loss = without_aux(self.loss(params, tuple(batch[:-1]), batch[-1], state))
        self.plot_loss(loss, train=False)
        return loss

    def loss_and_state(self, batch: Any, state: Any) -> tuple[Any, Any]:
        if is_published(self.training_step):  # it differentiates by itself
            return self.batch_loss(batch), None
        return super().loss_and_state(batch, state)

    def batch_loss(self, batch: Any) -> Any:
        params, _, state = self.published(batch)
        return without_aux(self.loss(params, batch[:-1], batch[-1], state))

    def published(self, batch: Any) -> tuple[Any, Any, State]:
        """What the books' steps take, ``(params, batch, state)``, of a module that is bound."""
        params = self.variables["params"]
        rngs = {"dropout": self.make_rng("dropout")} if self.has_rng("dropout") else {}
        apply = partial(self.unbind()[0].apply, rngs=rngs)
        return params, batch, State(0, apply_fn=apply, params=params, tx=None, opt_state=None)

    def plot_loss(self, loss: Any, train: bool) -> None:
        if train and self.trainer is None and self.scope is not None:
            self.sow("plots", LEFT_LOSS, loss)
        else:
            super().plot_loss(loss, train)

    def plot(self, key: str, value: Any, train: bool) -> None:
        if self.trainer is None and self.scope is not None:
            self.sow("plots", key, value)  # in compiled code: the trainer draws it afterwards
        else:
            super().plot(key, value, train)

    def known_inputs(self) -> tuple[Any, ...]:
        """Inputs that show the shapes of the parameters, if the model knows any by itself."""
        return ()

    def example_inputs(self, data: Any) -> tuple[Any, ...]:
        """Inputs that show the shapes of the parameters, if need be from a loader of their own."""
        return self.known_inputs() or tuple(next(iter(data.train_dataloader()))[:-1])

    def initialize(self, *inputs: Any) -> Any:
        """The model bound to fresh parameters, made for inputs like these."""
        inputs = inputs or self.known_inputs()
        variables = self.init(jax.random.key(backend.fresh_seed()), *inputs)
        others = set(variables) - {"params", "plots"}
        if others:
            raise SettingError(
                f"{type(self).__name__} keeps {', '.join(sorted(others))} beside its parameters; "
                "the trainer changes parameters only. Use layers without running statistics, "
                "as LayerNorm or GroupNorm"
            )
        # copies: two parameters may have been given one array, and that would be a tie
        every = backend.named_arrays(variables.get("params", {})).items()
        return self.bind({"params": backend.nested({n: jnp.array(a) for n, a in every})})

    def import_parameters(self, values: Mapping[str, Any]) -> Any:
        if self.scope is not None:
            return super().import_parameters(values)
        if not self.known_inputs():
            name = type(self).__name__
            raise SettingError(
                f"{name} makes its parameters when it sees its first inputs: give it some, "
                f"{name}(...).initialize(X).import_parameters(values), or take "
                "trainer.bound_model after training"
            )
        return self.initialize().import_parameters(values)

    def load_values(self, values: Mapping[str, Any]) -> Any:
        params = backend.nested(backend.named_arrays(self))
        Parameters(backend, params).load_values(values)
        return self.unbind()[0].bind({"params": params})

    def with_parameters(self, parameters: Mapping[str, Any], **options: Any) -> Any:
        return backend.bind(self, parameters, **options)


class NativeModel(native.NativeModel, Module):
    net: Any
    loss_fn: Callable[..., Any]
    optimizer: Any = None
    lr: float = 0.1
    reduction: str | None = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        told = native.check_reduction(self.reduction, self.loss_fn)
        object.__setattr__(self, "reduction", told)  # the fields of Flax's modules are frozen
        super().__post_init__()

    def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:  # type: ignore[override]
        return super().loss(state.apply_fn({"params": params}, *X), y)


class ScratchModule(Module):
    """A `ScratchLayer` whose parameters are drawn when Flax asks for them."""

    def setup(self) -> None:
        for name in self.shapes():
            setattr(self, name, self.param(name, self._first, name))

    def _first(self, key: Any, name: str) -> Any:
        return jnp.array(self.initial_values(*self.given())[name])

    def given(self) -> tuple[Any, ...]:
        """Return the arguments of ``initial_values``, taken from the fields."""
        return ()


def around(kind: Callable[..., Any], net: Any, *options: Any) -> Any:
    """A model with ``net`` as a part, ``kind(net, *options)``, bound as far as the net is."""
    if net.scope is None:
        return kind(net, *options)
    model = kind(net.unbind()[0], *options)
    return backend.bind(model, with_prefix("net.", backend.parameters(net)))
