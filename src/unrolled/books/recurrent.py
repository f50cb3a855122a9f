"""The recurrent chapter's functions: load the data, train, predict.

Faces over the project's loader, trainer and generation, under the names of the Chinese
and first English editions (``train_ch8``, ``predict_ch8``, ...).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from unrolled.backends import Backend
from unrolled.data.batching import SequenceLoader
from unrolled.data.text import load_corpus_time_machine
from unrolled.data.vocabulary import Vocab
from unrolled.functional.losses import perplexity
from unrolled.functional.updates import clip_by_global_norm
from unrolled.models.language_model import RecurrentLanguageModel
from unrolled.training.generation import generate
from unrolled.training.records import EpochRecord, Listener

THETA = 1.0
"""Where the books' training loops clip the global gradient norm."""


class BookModel(RecurrentLanguageModel):
    """A network under the trainer with the loss and the optimizer that a book's loop names.

    Args:
        net: a recurrent language model.
        optimizer: what `configure_optimizers` shall return.
        loss: ``(logits (T * B, V), targets (T * B,)) -> losses``, averaged here; None
            takes the net's own.
    """

    def __init__(self, net: Any, optimizer: Any, loss: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.net = net
        self.optimizer = optimizer
        self.loss_fn = loss

    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        return self.net.begin_state(batch_size=batch_size, device=device)

    def forward(self, X: Any, state: Any = None) -> Any:
        return self.net(X, state)

    def loss(self, y_hat: Any, y: Any) -> Any:
        if self.loss_fn is None:
            return self.net.loss(y_hat, y)
        xp = self.backend.xp
        return xp.mean(self.loss_fn(y_hat, xp.reshape(xp.transpose(y), (-1,))))

    def configure_optimizers(self) -> Any:
        return self.optimizer


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


class _Data:
    """A book's ``train_iter`` as a data module."""

    def __init__(self, train_iter: Any, use_random_iter: bool) -> None:
        self.train_iter = train_iter
        self.continues = not use_random_iter

    def train_dataloader(self) -> "_Data":
        return self

    def val_dataloader(self) -> None:
        return None

    def __iter__(self) -> Any:
        return iter(self.train_iter)

    def __len__(self) -> int:
        return len(self.train_iter)


class _Report(Listener):
    """Prints a continuation every ``every`` epochs; keeps the last epoch."""

    def __init__(self, predict: Callable[[Any, str], str], every: int) -> None:
        self.predict = predict
        self.every = every
        self.last: EpochRecord | None = None

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        self.last = epoch
        if self.every and epoch.epoch % self.every == 0:
            print(self.predict(trainer.trained_model, "time traveller"))


@dataclass(frozen=True)
class RecurrentChapter:
    """The chapter's functions for one framework.

    Args:
        backend: the framework's.
        trainer: its `Trainer`.
        sgd: ``(net, lr) -> optimizer`` with its ``SGD``.
        model: its ``BookModel``.
    """

    backend: Backend
    trainer: type[Any]
    sgd: Callable[..., Any]
    model: Callable[..., Any]

    def try_gpu(self, i: int = 0) -> Any:
        """The i-th GPU if there is one, else the CPU."""
        gpus = self.backend.devices(i + 1)
        return gpus[i] if len(gpus) > i else self.backend.cpu()

    def load_data_time_machine(
        self,
        batch_size: int,
        num_steps: int,
        use_random_iter: bool = False,
        max_tokens: int = 10000,
        seed: int | None = None,
    ) -> tuple[SequenceLoader, Vocab]:
        """Minibatches of *The Time Machine* and its vocabulary.

        Args:
            batch_size: ``B``.
            num_steps: ``T``.
            use_random_iter: random instead of sequential order.
            max_tokens: characters from the start of the book; 0 or less means all.
            seed: of offsets and orders; None takes one from the framework's generator.

        Returns:
            An iterable of ``(X, Y)``, ids ``(B, T)`` each, and the vocabulary.
        """
        corpus, vocab = load_corpus_time_machine(max_tokens)
        seed = self.backend.fresh_seed() if seed is None else seed
        loader = SequenceLoader(
            corpus, batch_size, num_steps, use_random_iter, self.backend.asarray, seed
        )
        return loader, vocab

    def predict_ch8(
        self, prefix: str, num_preds: int, net: Any, vocab: Vocab, device: Any = None
    ) -> str:
        """The prefix and ``num_preds`` characters after it, each the most likely."""
        return generate(self.backend, net, vocab, prefix, num_preds, device=device)

    def grad_clipping(self, net: Any, theta: float) -> None:
        """Scale a network's gradients in place so that their global norm is at most theta."""
        held = {name: self.backend.gradient(p) for name, p in self.backend.parameters(net).items()}
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
            device: where the model is.
            use_random_iter: reset the state for every minibatch instead of carrying it.

        Returns:
            Perplexity, and tokens per second.
        """
        if not (hasattr(updater, "step") or hasattr(updater, "apply_gradients")):
            updater = _Updater(updater)
        last, _ = self._fit(self.model(net, updater, loss), train_iter, 1, use_random_iter)
        return perplexity(last.loss), last.num_targets / last.train_s

    def train_ch8(
        self,
        net: Any,
        train_iter: Any,
        vocab: Vocab,
        lr: float,
        num_epochs: int,
        device: Any = None,
        use_random_iter: bool = False,
    ) -> Any:
        """Train with SGD and clipping at norm 1; print continuations and the perplexity.

        Args:
            net: a recurrent language model.
            train_iter: minibatches ``(X, Y)``.
            vocab: their vocabulary.
            lr: learning rate.
            num_epochs: passes over ``train_iter``.
            device: where the model is.
            use_random_iter: reset the state for every minibatch instead of carrying it.

        Returns:
            The trained network: ``net`` itself, but in JAX, where it cannot change.
        """

        def predict(net: Any, prefix: str) -> str:
            return self.predict_ch8(prefix, 50, net, vocab, device)

        model = self.model(net, self.sgd(net, lr))
        report = _Report(predict, 10)
        last, trained = self._fit(model, train_iter, num_epochs, use_random_iter, report)
        speed = last.num_targets / last.train_s
        print(f"perplexity {perplexity(last.loss):.1f}, {speed:.1f} tokens/sec on {device}")
        print(predict(trained.net, "time traveller"))
        print(predict(trained.net, "traveller"))
        return trained.net

    def _fit(
        self,
        model: Any,
        train_iter: Any,
        num_epochs: int,
        use_random_iter: bool,
        report: _Report | None = None,
    ) -> tuple[EpochRecord, Any]:
        report = report or _Report(lambda net, prefix: "", 0)
        trainer = self.trainer(num_epochs, gradient_clip_val=THETA, listeners=[report])
        trainer.fit(model, _Data(train_iter, use_random_iter))
        if report.last is None:
            raise ValueError(f"num_epochs is {num_epochs}; it must be at least 1")
        return report.last, trainer.trained_model
