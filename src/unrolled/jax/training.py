"""``Trainer`` and data modules bound to JAX's backend (the loop is shared), and ``SGD``."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np
import optax

from unrolled.backends import Backend
from unrolled.backends import jax as backend
from unrolled.backends.tied import first_places
from unrolled.checks import checked
from unrolled.data import data_module, synthetic, text_data
from unrolled.functional import updates
from unrolled.jax.data_parallel import local
from unrolled.jax.module import LEFT_LOSS, State, is_published, without_aux
from unrolled.training import trainer
from unrolled.training.tracing import ThroughTime


class DataModule(data_module.DataModule):
    backend: ClassVar[Backend] = backend


class SyntheticRegressionData(synthetic.SyntheticRegressionData, DataModule):
    pass


class TextData(text_data.TextData, DataModule):
    pass


class Trainer(trainer.Trainer):
    """Adds ``state``, a Flax `TrainState` of what has been learned so far."""

    backend: ClassVar[Backend] = backend

    @property
    def state(self) -> State:
        """Parameters (``state.params``, nested), optimizer and its state, step.

        It can be set, to what ``state.apply_gradients(grads=grads)`` gives, for one.
        """
        return State(
            step=self.train_batch_idx,
            apply_fn=self.model.unbind()[0].apply,
            params=backend.nested(backend.named_arrays(self.bound_model)),
            tx=self.optim.transformation,
            opt_state=self.optim.state,
            dropout_rng=self._key,
        )

    @state.setter
    def state(self, state: State) -> None:
        params = backend.named_arrays(state.params)
        self.parameters = OrderedDict((name, params[name]) for name in self.parameters)
        self.optim.state, self._key = state.opt_state, state.dropout_rng

    def clip_gradients(self, grad_clip_val: float, grads: Any) -> Any:
        """Gradients, nested as ``state.params``, clipped: for a `fit_epoch` of one's own."""
        return backend.nested(self.clipped(backend.named_arrays(grads), grad_clip_val)[0])

    def clipped_by_reader(self, gradients: Mapping[str, Any]) -> dict[str, Any]:
        found = self.clip_gradients(self.gradient_clip_val, backend.nested(gradients))
        clipped = backend.named_arrays(found)
        return OrderedDict((name, clipped[name]) for name in gradients)

    def build(self, model: Any, data: Any) -> Any:
        if backend.is_lazy(model):
            model = model.initialize(*model.example_inputs(data))
        if self.data_parallel.device is not None:  # which will have the weights
            return model
        return backend.to_device(model, self.gpus[0] if self.gpus else backend.cpu())

    def compile_functions(self) -> None:
        super().compile_functions()
        self.optim = backend.Optimizer(self.optim, self.parameters)
        if is_published(self.model.training_step):
            step = self.data_parallel.sharing(self, self._published_step)
            self.differentiate = backend.compile(step)
        self._validate = backend.compile(self._validation_step)
        self._key = jax.random.key(backend.fresh_seed())

    def prepare_batch(self, batch: Any) -> Any:
        # where several devices share minibatches, one of each process validates
        return batch if self.data_parallel.device is not None else super().prepare_batch(batch)

    def own_state(self) -> Any:
        return np.asarray(jax.random.key_data(self._key))

    def load_own_state(self, state: Any) -> None:
        self._key = jax.random.wrap_key_data(backend.asarray(state, self.device))

    @property
    def context(self) -> tuple[Any, ...]:  # type: ignore[override]  # read-only
        return self._key, self.train_batch_idx

    @property
    def bound_model(self) -> Any:
        return self.model.with_parameters(self._own_parameters)

    @property
    def _own_parameters(self) -> dict[str, Any]:
        """The parameters as arrays of this process, to compute with whatever the others do."""
        shared = self.data_parallel.device is not None
        return local(self.parameters) if shared else self.parameters

    def objective(
        self, parameters: Any, batch: Any, state: Any, key: Any = None, step: int = 0
    ) -> tuple[Any, Any]:
        model = self._model_in_training(parameters, key, step)
        loss, state = self.truncation.loss_and_state(self.backend, model, batch, state)
        return loss, (state, _plots(model))

    def _published_step(
        self, parameters: Any, batch: Any, state: Any, key: Any, step: int
    ) -> tuple[tuple[Any, Any], dict[str, Any]]:
        """As `differentiate`, of a model whose ``training_step`` gives the gradients too."""
        model = self._model_in_training(parameters, key, step)
        loss, found = model.training_step(*model.published(batch))
        gradients: dict[str, Any] = OrderedDict((name, 0) for name in parameters)
        first = first_places(backend.named_arrays(model))
        for place, gradient in backend.named_arrays(found).items():
            gradients[first[place]] += gradient
        return (without_aux(loss), (None, _plots(model))), gradients

    def _model_in_training(self, parameters: Any, key: Any, step: int) -> Any:
        self.draws_losses = True
        rngs = {"dropout": jax.random.fold_in(key, step)}
        return self.model.with_parameters(parameters, rngs=rngs, mutable=["plots"])

    def backward(
        self, batch: Any, state: Any, traced: bool = False
    ) -> tuple[Any, Any, ThroughTime | None]:
        (loss, (state, plots)), *rest = super().backward(batch, state, traced)
        self._draw(plots, train=True)
        return (loss, state), *rest

    def validation_step(self, batch: Any) -> Any:
        loss, plots = self._validate(self._own_parameters, batch)
        self._draw(plots, train=False)
        return loss

    def _draw(self, plots: Any, train: bool) -> None:
        self.leaves_losses |= LEFT_LOSS in plots
        for key, values in plots.items():
            for value in values if key != LEFT_LOSS else ():
                self.model.plot(key, value, train)

    def _validation_step(self, parameters: Any, batch: Any) -> tuple[Any, Any]:
        model = self.model.with_parameters(parameters, mutable=["plots"])
        step = model.validation_step
        loss = step(*model.published(batch)) if is_published(step) else step(batch)
        return loss, _plots(model)


def _plots(model: Any) -> Any:
    """What a bound model has plotted in compiled code, to be drawn when that has run."""
    return model.variables.get("plots", {})


@checked
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
