"""The part of the trainer before the first step: model, minibatches, optimizer, objective."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.data.batching import EpochLoader
from unrolled.errors import SettingError
from unrolled.functional.clipping import clip
from unrolled.training.data_parallel import DataParallel
from unrolled.training.position import Position
from unrolled.training.records import EpochSums, Listener
from unrolled.training.recovery import Recovery
from unrolled.training.tracing import Tracer
from unrolled.training.truncation import Truncation


class Preparation:
    """The part of a trainer that makes everything ready for the first minibatch.

    Attributes:
        epoch: the running one, from 0.
        offset: minibatches of the running epoch that are done.
        whole_batch: the last of them, of all processes; None before the first of this one.
        hidden_state: the state after it, to carry on.
        sums: of their losses and norms.
        train_batch_idx, val_batch_idx: minibatches seen so far.
        num_train_batches, num_val_batches: minibatches of an epoch.
        train_curves: what the model has plotted of its training steps.
        recovery: what is done about a NaN or infinity.
        last_good: a copy of the last weights that gave a finite loss, of large tables only the
            rows that have moved since; None before any did.
    """

    backend: ClassVar[Backend]
    max_epochs: int
    gpus: Sequence[Any]
    gradient_clip_val: float
    gradient_clip_method: str
    truncation: Truncation
    listeners: Sequence[Listener]
    checkpoint: Listener | None
    on_nonfinite: str
    epoch: int
    train_batch_idx: int
    val_batch_idx: int
    data_parallel: DataParallel
    fit_epoch: Callable[[], None]
    parameters: dict[str, Any]
    last_good: dict[str, Any] | None
    clip_gradients: Callable[[float, Any], Any]
    _running: tuple[Any, Any]
    context: tuple[Any, ...] = ()
    """Further arguments of the objective; in JAX the random key is one."""
    draws_losses: bool = False
    """True if the loop draws training losses, so that `Module.plot_loss` need not."""
    leaves_losses: bool = False
    """True if the model has left a loss to the loop."""
    is_dry_run: bool = False
    """True while a model is only shown a minibatch: then nothing is plotted."""

    def prepare(self, model: Any, data: Any) -> None:
        """Make everything ready for the first minibatch; `fit` begins with it."""
        self.check_model(model)
        if self.data_parallel.parts > 1:
            self.check_sees_steps("data_parallel=", "leave it out")
        if self.checkpoint is not None:  # the last one: it saves what the others know
            others = [each for each in self.listeners if each is not self.checkpoint]
            self.listeners = [*others, self.checkpoint]
        self.prepare_data(data)
        if self.data_parallel.processes > 1:
            self.data_parallel.check_same({"data": about_data(self.train_dataloader)})
        self.epoch = self.train_batch_idx = self.val_batch_idx = 0
        self.begin_epoch()
        self.position = Position(self.backend, self.train_dataloader)
        self.train_curves: set[str] = set()
        self.draws_losses = self.leaves_losses = False
        self.prepare_model(self.data_parallel.same_model(self.build(model, data)))
        self.optim = self.model.configure_optimizers()
        self.parameters = self.backend.parameters(self.model)
        self.compile_functions()
        self.last_good = None
        self.recovery = Recovery(self.on_nonfinite)
        self._running, self.whole_batch = (None, None), None
        self.data_parallel.begin(self)

    def begin_epoch(self) -> None:
        """Begin an epoch with its first minibatch, without a state, and with sums of nothing."""
        self.offset, self.hidden_state, self.sums = 0, None, EpochSums()

    def check_sees_steps(self, what: str, instead: str) -> None:
        """Make sure that `fit_epoch` is the library's own, whose steps are known."""
        if not self.fit_epoch.__module__.startswith("unrolled."):
            own = self.fit_epoch.__qualname__
            raise SettingError(f"{what} cannot see into {own}, which is your own; {instead}")

    def check_model(self, model: Any) -> None:
        """Make sure that the trainer can train a model."""
        own = f"unrolled.{self.backend.name}"
        found = getattr(model, "backend", None)
        if found is self.backend:
            return
        kind = type(model)
        what = f"a model of unrolled.{found.name}" if found else f"a {kind.__module__} module"
        raise SettingError(
            f"this trainer trains models of {own}, and {kind.__name__} is {what}. Derive it from "
            f"{own}.Module, or give it a loss: {own}.NativeModel(net, loss)"
        )

    def prepare_data(self, data: Any) -> None:
        """Take the loaders of a data module, and count their minibatches."""
        self.data = data
        self.train_dataloader = data.train_dataloader()
        self.val_dataloader = data.val_dataloader()
        self.num_train_batches = count(self.train_dataloader)
        if not self.num_train_batches:
            raise SettingError(
                "the training loader gives no minibatch; it must give at least one an epoch"
            )
        self.num_val_batches = 0 if self.val_dataloader is None else count(self.val_dataloader)

    def build(self, model: Any, data: Any) -> Any:
        """The model on its device, with all its parameters.

        Many layers make their parameters when they first see how many inputs they get.
        They are shown a minibatch here, from a loader of its own, so that none is used up.
        """
        model = self.backend.to_device(model, self.gpus[0]) if self.gpus else model
        if self.backend.is_lazy(model):
            model.trainer = self  # its step may ask for it
            self.backend.set_training(model, False)
            with self.dry_running(), self.backend.without_gradients():
                model.loss_and_state(self.prepare_batch(next(iter(data.train_dataloader()))), None)
        return model

    @contextmanager
    def dry_running(self) -> Iterator[None]:
        """Mark that a model is only shown a minibatch."""
        self.is_dry_run = True
        try:
            yield
        finally:
            self.is_dry_run = False

    def prepare_model(self, model: Any) -> None:
        """Introduce model and trainer to each other."""
        model.trainer = self
        model.board.xlim = [0, self.max_epochs]
        self.model = model

    def prepare_batch(self, batch: Any) -> Any:
        """The minibatch on the model's device."""
        return self.backend.to_device(batch, self.gpus[0]) if self.gpus else batch

    def own_state(self) -> Any:
        """Return what a checkpoint must keep of this framework's trainer only."""
        return None

    def load_own_state(self, state: Any) -> None:
        """Go on from what `own_state` gave."""

    @property
    def device(self) -> Any:
        """Where the arrays of the training are; None: where the framework makes them."""
        return self.data_parallel.device or (self.gpus[0] if self.gpus else None)

    @property
    def bound_model(self) -> Any:
        """The model as trained so far, to be called: the model itself, but in JAX."""
        return self.model

    def compile_functions(self) -> None:
        """Compile the functions of a step, where the framework compiles."""
        xp, method = self.backend.xp, self.gradient_clip_method
        written_in: str = self.clip_gradients.__module__
        self.reader_clips = self.gradient_clip_val > 0 and not written_in.startswith("unrolled.")
        self.differentiate = self.differentiable(self.objective)
        self.tracer = Tracer(self)
        self._clip = self.backend.compile(partial(clip, xp, method))
        self._stack = self.backend.compile(xp.stack)

    def differentiable(self, objective: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
        """``(leaves, batch, state, *context) -> ((loss, auxiliary), gradients)``, compiled."""
        return self.backend.compile(self.data_parallel.differentiable(self, objective))

    def objective(self, parameters: Any, batch: Any, state: Any) -> tuple[Any, Any]:
        """Loss and carried state as a function of the parameters, to be differentiated."""
        self.draws_losses = True
        if self.truncation.back_steps is None:
            return self.model.loss_and_state(batch, state)  # type: ignore[no-any-return]
        return self.truncation.loss_and_state(self.backend, self.model, batch, state)

    def watch_layers(self) -> Any:
        """Return an observer of the framework's own recurrent layers; None if there is none.

        An object with ``start()``, called before a minibatch whose layers are to be looked
        at, and ``layers()``, called after its backward pass, which gives
        `unrolled.telemetry.records.LayerRecord` by the modules' names.
        """
        return None


def about_data(loader: Any) -> dict[str, Any]:
    """What tells data from others, as far as a loader says it."""
    known = isinstance(loader, EpochLoader)
    return {"minibatches": count(loader), **({"sha256": loader.sha256} if known else {})}


def count(loader: Any) -> int:
    """The minibatches of a loader; one that does not know is asked for them all once."""
    if hasattr(loader, "__len__"):
        return len(loader)
    if iter(loader) is loader:
        raise SettingError(
            f"a {type(loader).__name__} gives its minibatches once; every epoch needs them: give "
            "a list, or an object whose __iter__ begins anew"
        )
    return sum(1 for _ in loader)
