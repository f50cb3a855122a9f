"""Truncated backpropagation through time: first hidden states, and how far gradients go back."""

from dataclasses import dataclass
from typing import Any

from unrolled.backends import Backend
from unrolled.data.batching import generator_at
from unrolled.errors import SettingError, did_you_mean
from unrolled.kernels.taps import begin_piece

STATES = ("carried", "zero", "drawn")


@dataclass(frozen=True)
class Truncation:
    """What a minibatch knows of what came before it, and how far its gradient goes back.

    How often the weights step is the loader's matter: once a minibatch, of ``num_steps``
    targets a sequence. How far back the gradient goes may differ from it:

    - ``back_steps`` below ``num_steps``: the minibatch is run in segments of so many steps.
      The state goes on from one to the next, the gradient does not. The loss is the mean over
      all targets, and there is one update.
    - ``back_steps`` above ``num_steps``: the minibatch must reach back over earlier inputs,
      see `unrolled.data.batching.SequenceLoader`.

    Args:
        state: what a minibatch begins with: ``"carried"``, the state after the one before,
            where the loader says that they continue each other (else zero); ``"zero"``; or
            ``"drawn"`` from ``N(0, sigma^2)``, anew for every minibatch.
        back_steps: time steps that the gradient goes back at most; None: the minibatch's.
        sigma: standard deviation of drawn states.
        seed: of the draws.

    Raises:
        SettingError: an unknown state, or a number out of its range; all are told at once.

    Example:
        >>> from unrolled import torch
        >>> data = torch.TextData("hello world " * 100, batch_size=4, num_steps=10, seed=0)
        >>> model = torch.LanguageModel(len(data.vocab), num_hiddens=8)
        >>> truncation = Truncation(state="zero", back_steps=5)
        >>> torch.Trainer(max_epochs=1, truncation=truncation).fit(model, data)

    Reference: R. J. Williams, J. Peng, An efficient gradient-based algorithm for on-line
    training of recurrent network trajectories, Neural Computation 2(4), 1990.
    """

    state: str = "carried"
    back_steps: int | None = None
    sigma: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        if self.state not in STATES:
            problems.append(f"unknown state '{self.state}': {did_you_mean(self.state, STATES)}")
        if self.back_steps is not None and self.back_steps < 1:
            problems.append(f"back_steps is {self.back_steps}; it must be at least 1")
        if not 0 <= self.sigma < float("inf"):
            problems.append(f"sigma is {self.sigma}; it must be 0 or more")
        if problems:
            raise SettingError("\n".join(problems))

    def loss_and_state(
        self, backend: Backend, model: Any, batch: Any, state: Any
    ) -> tuple[Any, Any]:
        """As ``model.loss_and_state(batch, state)``, with gradients of ``back_steps`` at most."""
        back_steps, X, Y = self.back_steps, batch[0], batch[-1]
        if back_steps is None or (len(X.shape) > 1 and X.shape[1] <= back_steps):
            return model.loss_and_state(batch, state)  # type: ignore[no-any-return]
        if len(Y.shape) < 2 or X.shape[1] != Y.shape[1]:
            raise SettingError(
                f"back_steps={back_steps} cuts sequences of inputs and targets (B, T); this "
                f"minibatch has inputs {tuple(X.shape)} and targets {tuple(Y.shape)}"
            )
        total, T = 0.0, X.shape[1]
        for start in range(0, T, back_steps):
            piece = tuple(part[:, start : start + back_steps] for part in batch)
            begin_piece(cut=start > 0)
            if start and state is not None:
                state = backend.stop_gradient(state)
            loss, state = model.loss_and_state(piece, state)
            total = total + loss * (piece[-1].shape[1] / T)
        return total, state

    def first_state(self, trainer: Any, batch: Any, carried: Any) -> Any:
        """The state that a minibatch begins with, drawn from the seed and its step."""
        if self.state == "carried":
            return carried
        if self.state == "zero":
            return None
        backend, model = trainer.backend, trainer.bound_model
        if not hasattr(model, "begin_state"):
            raise SettingError(
                f"state=drawn needs a model with begin_state(batch_size), and "
                f"{type(model).__name__} has none; take state=zero"
            )
        rng = generator_at([self.seed, 2], trainer.train_batch_idx)

        def draw(like: Any) -> Any:
            if isinstance(like, (tuple, list)):
                return type(like)(map(draw, like))
            zeros = backend.to_numpy(like)
            values = rng.normal(0, self.sigma, zeros.shape)
            return backend.asarray(values.astype(zeros.dtype), trainer.device)

        parallel = trainer.data_parallel
        if not parallel.is_divided:
            return draw(model.begin_state(len(batch[0])))
        whole = draw(model.begin_state(len(trainer.whole_batch[0])))
        return parallel.part_of_state(trainer.model, whole)
