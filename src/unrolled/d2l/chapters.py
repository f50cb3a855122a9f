"""`Chapters` of a framework: the book's `train_ch8`, `load_array`, `try_gpu`, ...; `BookModel`.

Functions of the chapters on linear regression and recurrent networks in the Chinese and first
English editions, as calls of our loaders, trainer and text generation.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np

from unrolled.backends import Array, Backend
from unrolled.checks import checked
from unrolled.d2l.rnn_models import predict
from unrolled.d2l.text import SeqDataLoader
from unrolled.d2l.three_functions import by_name
from unrolled.data.batching import ArrayLoader, SequenceLoader
from unrolled.data.vocabulary import Vocab
from unrolled.errors import SettingError
from unrolled.functional.linear import affine
from unrolled.functional.losses import perplexity, squared_loss
from unrolled.functional.updates import clip_by_global_norm
from unrolled.models.language_model import RecurrentLanguageModel
from unrolled.models.native import reduction_of
from unrolled.training.preparation import count
from unrolled.training.records import EpochRecord, Listener

MANY = 64
"""More GPUs than a machine has."""

THETA = 1.0
"""Where the books' training loops clip the global gradient norm."""


def own_parameters(net: Any) -> dict[str, Any]:
    """The ``params`` or ``trainable_variables`` of a plain class by name; of a module none."""
    if hasattr(net, "parameters") or hasattr(net, "collect_params") or hasattr(net, "submodules"):
        return {}
    params: Any = getattr(net, "params" if hasattr(net, "params") else "trainable_variables", ())
    return by_name(params)


def parameters_of(backend: Backend, net: Any) -> dict[str, Any]:
    """The live parameters of a net by name, be it a module of the framework or not."""
    return own_parameters(net) or backend.parameters(net)


def place_of(device: Any) -> Any:
    """The device, but None for a strategy of TensorFlow, which has placed all variables."""
    return None if hasattr(device, "scope") else device


class BookModel(RecurrentLanguageModel):
    """A network under the trainer with the loss and the optimizer that a book's loop names.

    The net is a recurrent language model: one of this library, any module of the framework, or a
    plain class with ``params``. It is called with ``(X, state)`` and has a ``begin_state``. Its
    optimizer is made once the net has all its parameters. The loss is of ``(logits (T * B, V),
    targets (T * B,))`` and averaged here; None takes the net's own.
    """

    def __init__(
        self,
        net: Any,
        make_optimizer: Callable[[], Any] | None,
        loss: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.make_optimizer = make_optimizer
        self.loss_fn = loss
        for name, parameter in own_parameters(net).items():
            setattr(self, name, parameter)  # now they are this model's

    @property
    def reduction(self) -> str:
        return reduction_of(self.loss_fn)

    @property
    def is_ours(self) -> bool:
        """Whether the net is of this library: it has a loss, and begins by itself."""
        return isinstance(self.net, RecurrentLanguageModel)

    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        begin = self.net.begin_state
        asks = {"batch_size": batch_size, "device": device, "ctx": device}  # MXNet's word
        takes = signature(begin).parameters.values()
        # one that hands anything on to a framework's layer is told what all layers take
        named = {p.name for p in takes} | {"batch_size" for p in takes if p.kind is p.VAR_KEYWORD}
        return begin(**{name: value for name, value in asks.items() if name in named})

    def forward(self, X: Any, state: Any = None) -> Any:
        if state is None and not self.is_ours:
            state = self.begin_state(X.shape[0], getattr(X, "device", getattr(X, "ctx", None)))
        return self.net(X, state)

    def loss(self, y_hat: Any, y: Any) -> Any:
        if self.loss_fn is None:
            return self.net.loss(y_hat, y) if self.is_ours else super().loss(y_hat, y)
        xp = self.backend.xp
        return xp.mean(self.loss_fn(y_hat, xp.reshape(xp.transpose(y), (-1,))))

    def configure_optimizers(self) -> Any:
        return self.make_optimizer and self.make_optimizer()


class _Updater:
    """A book's ``updater(batch_size)`` as an optimizer."""

    def __init__(self, updater: Callable[..., Any]) -> None:
        self.updater = updater

    def step(self, batch_size: int = 1) -> None:
        self.updater(batch_size)  # 1: the loss is a mean already

    def apply_gradients(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """In TensorFlow an updater is called with the parameters and their gradients."""
        gradients, parameters = zip(*pairs, strict=True)
        self.updater(parameters, gradients)


@dataclass(eq=False)
class _Data:
    """A book's ``train_iter`` as a data module and its loader, with minibatches on a device."""

    backend: Backend
    train_iter: Any
    continues: bool
    device: Any

    def train_dataloader(self) -> "_Data":
        return self

    def val_dataloader(self) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        for batch in self.train_iter:
            if self.device is None:
                yield batch
            else:
                yield self.backend.to_device(tuple(batch), self.device)

    def __len__(self) -> int:
        return count(self.train_iter)


class _Report(Listener):
    """Calls ``show`` with the model every ten epochs; keeps the last epoch."""

    def __init__(self, show: Callable[[Any], None] | None) -> None:
        self.show = show
        self.last: EpochRecord | None = None

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        self.last = epoch
        if self.show is not None and epoch.epoch % 10 == 0:
            self.show(trainer.bound_model)


@dataclass(frozen=True)
class Chapters:
    """The chapters' functions for one framework, from its own classes."""

    backend: Backend
    trainer: type[Any]
    sgd: Callable[..., Any]  # (net, lr) -> optimizer
    model: Callable[..., Any]
    loader: type[SeqDataLoader]
    regression_data: type[Any]

    def try_gpu(self, i: int = 0) -> Any:
        """The i-th GPU if there is one, else the CPU."""
        gpus = self.backend.devices(i + 1)
        return gpus[i] if len(gpus) > i else self.backend.cpu()

    def try_all_gpus(self) -> list[Any]:
        """All GPUs, or the CPU alone."""
        return self.backend.devices(MANY) or [self.backend.cpu()]

    def num_gpus(self) -> int:
        """How many GPUs there are."""
        return len(self.backend.devices(MANY))

    def cpu(self) -> Any:
        """The CPU."""
        return self.backend.cpu()

    def gpu(self, i: int = 0) -> Any:
        """The i-th GPU.

        Raises:
            SettingError: there is none.
        """
        if self.num_gpus() <= i:
            raise SettingError(f"there is no GPU {i} here; try_gpu({i}) takes the CPU then")
        return self.try_gpu(i)

    def synthetic_data(self, w: Any, b: Any, num_examples: int) -> tuple[Array, Array]:
        """Examples ``X (n, d)`` from N(0, 1), and ``y = X w + b + noise (n, 1)``, noise 0.01."""
        data = self.regression_data(w, b, num_train=num_examples, num_val=0)
        return data.X, data.y

    def linreg(self, X: Array, w: Array, b: Array) -> Array:
        """Linear regression: ``X w + b``."""
        return affine(self.backend.xp, X, w, b)

    def squared_loss(self, y_hat: Array, y: Array) -> Array:
        """Half the squared error of every prediction, in the shape of ``y_hat``."""
        return squared_loss(self.backend.xp, y_hat, y, averaged=False)

    @checked
    def load_array(
        self, data_arrays: Sequence[Any], batch_size: int, is_train: bool = True
    ) -> ArrayLoader:
        """Minibatches of arrays that share their first axis, shuffled for training."""
        arrays = [self.backend.to_numpy(array) for array in data_arrays]
        seed = self.backend.fresh_seed()
        return ArrayLoader(arrays, batch_size, is_train, self.backend.asarray, seed)

    def evaluate_loss(
        self, net: Callable[..., Any], data_iter: Iterable[Any], loss: Callable[..., Any]
    ) -> float:
        """The mean loss of a net on a data set.

        Args:
            net: called with the inputs of a minibatch.
            data_iter: minibatches ``(X, y)``.
            loss: ``(y_hat, y) -> losses`` of any shape; of one that averages, the mean of the
                minibatches.
        """
        xp = self.backend.xp
        total, number = 0.0, 0
        with self.backend.without_gradients():
            for X, y in data_iter:
                y_hat = net(X)
                losses = loss(y_hat, xp.reshape(y, tuple(y_hat.shape)))
                total += float(xp.sum(losses))
                number += math.prod(losses.shape)
        return total / number

    @checked
    def seq_data_iter_random(
        self, corpus: Sequence[int], batch_size: int, num_steps: int
    ) -> Iterator[tuple[Any, Any]]:
        """Minibatches ``(X, Y)`` of ``(B, T)`` ids, subsequences in random order."""
        return self._sequences(corpus, batch_size, num_steps, use_random_iter=True)

    @checked
    def seq_data_iter_sequential(
        self, corpus: Sequence[int], batch_size: int, num_steps: int
    ) -> Iterator[tuple[Any, Any]]:
        """Minibatches ``(X, Y)`` of ``(B, T)`` ids that continue each other."""
        return self._sequences(corpus, batch_size, num_steps, use_random_iter=False)

    def _sequences(
        self, corpus: Any, batch_size: int, num_steps: int, use_random_iter: bool
    ) -> Iterator[tuple[Any, Any]]:
        ids, seed = np.asarray(corpus), self.backend.fresh_seed()
        asarray = self.backend.asarray
        return iter(SequenceLoader(ids, batch_size, num_steps, use_random_iter, asarray, seed))

    @checked
    def load_data_time_machine(
        self,
        batch_size: int,
        num_steps: int,
        use_random_iter: bool = False,
        max_tokens: int = 10000,
        seed: int | None = None,
    ) -> tuple[SeqDataLoader, Vocab]:
        """A `SeqDataLoader` of these arguments, and its vocabulary."""
        loader = self.loader(batch_size, num_steps, use_random_iter, max_tokens, seed)
        return loader, loader.vocab

    @checked
    def predict_ch8(
        self,
        prefix: str | Sequence[str],
        num_preds: int,
        net: Any,
        vocab: Any,
        device: Any = None,
    ) -> str:
        """The prefix and ``num_preds`` tokens after it, each the most likely.

        Args:
            prefix: a text, or a list of words.
            num_preds: tokens to add.
            net: a recurrent language model.
            vocab: any with ``vocab[token]`` and ``idx_to_token``, as the books print one; what
                it does not know is written as ``<unk>``.
            device: where the model is.
        """
        ours = isinstance(net, RecurrentLanguageModel)
        model = net if ours else self.model(net, None)
        return predict(self.backend, model, vocab, prefix, num_preds, place_of(device))

    def grad_clipping(self, net: Any, theta: float) -> None:
        """Scale a network's gradients in place so that their global norm is at most theta."""
        parameters = parameters_of(self.backend, net)
        held = {name: self.backend.gradient(p) for name, p in parameters.items()}
        gradients = {name: g for name, g in held.items() if g is not None}
        clipped, _ = clip_by_global_norm(self.backend.xp, gradients, theta)
        self.backend.assign(gradients, clipped)

    def train_epoch_ch8(
        self,
        net: Any,
        train_iter: Any,
        loss: Callable[..., Any] | None,
        updater: Any,
        device: Any = None,
        use_random_iter: bool = False,
    ) -> tuple[float, float]:
        """One epoch; gradients clipped at norm 1.

        Args:
            net: a recurrent language model.
            train_iter: minibatches ``(X, Y)``.
            loss: as for `BookModel`.
            updater: an optimizer, or ``updater(batch_size)``.
            device: where the model is; may be left out, as TensorFlow's edition does.
            use_random_iter: reset the state for every minibatch instead of carrying it.

        Returns:
            Perplexity, and tokens per second.
        """
        if isinstance(device, bool):  # TensorFlow's edition has no device
            device, use_random_iter = None, device
        if not (hasattr(updater, "step") or hasattr(updater, "apply_gradients")):
            updater = _Updater(updater)
        model = self.model(net, lambda: updater, loss)
        last, _ = self._fit(model, train_iter, 1, device, use_random_iter)
        return perplexity(last.loss), last.targets_per_s

    @checked
    def train_ch8(
        self,
        net: Any,
        train_iter: Any,
        vocab: Any,
        lr: float,
        num_epochs: int,
        device: Any = None,
        use_random_iter: bool = False,
    ) -> Any:
        """Train with SGD and clipping at norm 1; print continuations and the perplexity.

        Args:
            net: a recurrent language model.
            train_iter: minibatches ``(X, Y)``.
            vocab: their vocabulary, as for `predict_ch8`.
            lr: learning rate.
            num_epochs: passes over ``train_iter``.
            device: where the model is.
            use_random_iter: reset the state for every minibatch instead of carrying it.

        Returns:
            The trained network: ``net`` itself; in JAX, where it cannot change, another one.
        """

        def show(net: Any, prefix: str = "time traveller") -> None:
            print(self.predict_ch8(prefix, 50, net, vocab, device))

        model = self.model(net, lambda: self.sgd(net, lr))
        last, trained = self._fit(model, train_iter, num_epochs, device, use_random_iter, show)
        speed = last.targets_per_s
        where = place_of(device) or self.backend.cpu()
        print(f"perplexity {perplexity(last.loss):.1f}, {speed:.1f} tokens/sec on {where}")
        show(trained.net)
        show(trained.net, "traveller")
        return trained.net

    def trainer_of(self, model: Any) -> tuple[Any, Any]:
        """What trains a `BookModel`, and the one to train in its place, here itself."""
        return self.trainer(max_epochs=1, gradient_clip_val=THETA), model

    def _fit(
        self,
        model: Any,
        train_iter: Any,
        num_epochs: int,
        device: Any,
        use_random_iter: bool,
        show: Callable[[Any], None] | None = None,
    ) -> tuple[EpochRecord, Any]:
        """Train a `BookModel`; the last epoch, and the trained model."""
        data = _Data(self.backend, train_iter, not use_random_iter, place_of(device))
        report = _Report(show)
        trainer, model = self.trainer_of(model)
        trainer.max_epochs, trainer.listeners = num_epochs, [report]
        trainer.fit(model, data)
        if report.last is None:
            raise ValueError(f"num_epochs is {num_epochs}; it must be at least 1")
        return report.last, trainer.bound_model
