"""``Classifier``, ``RNNScratch`` and ``RNNLMScratch`` of *Dive into Deep Learning*.

Shape letters: ``T`` time steps, ``B`` batch size, ``D`` inputs, ``H`` hidden units, ``V``
vocabulary size.
"""

from collections.abc import Sequence
from typing import Any

from unrolled.backends import Array, Backend
from unrolled.checks import check_ids, check_inputs
from unrolled.functional.initial import normal_weights
from unrolled.functional.linear import affine
from unrolled.functional.losses import accuracy, cross_entropy
from unrolled.functional.recurrent import CELLS
from unrolled.kernels import recur
from unrolled.models.generation import check_begins, continue_ids
from unrolled.models.scratch_layer import ScratchLayer, zero_state
from unrolled.training.module import Module


class Classifier(Module):
    """Base class of models that give a logit for each of ``C`` classes: ``(..., C)``.

    The loss is the cross-entropy. Validation draws the accuracy beside it.

    Example:
        >>> import torch
        >>> from unrolled.d2l.torch import Classifier
        >>> logits, labels = torch.tensor([[1.0, 2.0], [4.0, 3.0]]), torch.tensor([1, 1])
        >>> Classifier().accuracy(logits, labels).item()
        0.5
        >>> [round(loss, 4) for loss in Classifier().loss(logits, labels, averaged=False).tolist()]
        [0.3133, 1.3133]
    """

    def loss(self, Y_hat: Any, Y: Any, averaged: bool = True) -> Any:
        """Cross-entropy in nats.

        Args:
            Y_hat: logits ``(..., C)``.
            Y: ids of classes ``(...)``.
            averaged: False gives one for each of the ``N`` targets, ``(N,)``.
        """
        return cross_entropy(self.backend.xp, *self.rows(Y_hat, Y), averaged)

    def accuracy(self, Y_hat: Any, Y: Any, averaged: bool = True) -> Any:
        """The share of targets that have the largest logit; arguments as of `loss`."""
        return accuracy(self.backend.xp, *self.rows(Y_hat, Y), averaged)

    def rows(self, Y_hat: Any, Y: Any) -> tuple[Any, Any]:
        """Logits ``(N, C)`` and targets ``(N,)``."""
        reshape = self.backend.xp.reshape
        return reshape(Y_hat, (-1, Y_hat.shape[-1])), reshape(Y, (-1,))

    def validation_step(self, batch: Any) -> Any:
        Y_hat, Y = self(*batch[:-1]), batch[-1]  # type: ignore[operator]
        loss = self.loss(Y_hat, Y)
        self.plot_loss(loss, train=False)
        self.plot("acc", self.accuracy(Y_hat, Y), train=False)
        return loss


class RNNScratch(ScratchLayer):
    """A recurrent layer written out: ``H_t = tanh(X_t W_xh + H_{t-1} W_hh + b_h)``.

    Calling it with ``(inputs, state=None)``, inputs ``(T, B, D)`` or ``T`` arrays ``(B, D)``,
    gives a list of ``T`` hidden states ``(B, H)``, and the last of them, which is the state.

    Args:
        num_inputs: ``D``.
        num_hiddens: ``H``.
        sigma: standard deviation of the initial ``W_xh (D, H)`` and ``W_hh (H, H)``;
            ``b_h (H,)`` begins at zero.

    Example:
        >>> import torch
        >>> from unrolled.d2l.torch import RNNScratch
        >>> outputs, state = RNNScratch(num_inputs=16, num_hiddens=32)(torch.ones(100, 2, 16))
        >>> len(outputs), tuple(outputs[0].shape), tuple(state.shape)
        (100, (2, 32), (2, 32))
    """

    num_inputs: int
    num_hiddens: int
    sigma: float

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.declare_all(self.initial_values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return CELLS["rnn"].shapes(self.num_inputs, self.num_hiddens)

    def initial_values(self) -> dict[str, Any]:
        return normal_weights(self.shapes(), self.sigma, self.backend.fresh_seed())

    def forward(self, inputs: Any, state: Any = None) -> tuple[list[Array], Array]:
        xp = self.backend.xp
        weights = [self.array(name) for name in self.shapes()]
        X = inputs if hasattr(inputs, "shape") else xp.stack(list(inputs))  # (T, B, D)
        check_inputs(self, X, "(T, B, D)", self.num_inputs)
        if state is None:
            state = zero_state(xp, X, self.array("W_hh"))
        elif isinstance(state, (tuple, list)):
            (state,) = state
        H, (state,) = recur(self.backend, CELLS["rnn"], X, (state,), weights)
        return list(xp.unstack(H)), state


class RNNLMScratch(Classifier, ScratchLayer):
    """A language model: a recurrent network that reads one-hot rows, and a linear layer.

    Calling it with ``(X, state=None)``, ids ``(B, T)``, gives logits ``(B, T, V)``. Its curves
    are of the perplexity.

    Args:
        rnn: what makes ``T`` hidden states ``(B, H)`` and a state of ``(inputs (T, B, V),
            state)``, with ``num_hiddens`` and, where `init_params` is this one, ``sigma``.
        vocab_size: ``V``.
        lr: learning rate.

    Example:
        >>> from unrolled.d2l import torch as d2l
        >>> data = d2l.TimeMachine(batch_size=64, num_steps=8, num_train=640, num_val=64)
        >>> rnn = d2l.RNNScratch(num_inputs=len(data.vocab), num_hiddens=8)
        >>> model = d2l.RNNLMScratch(rnn, vocab_size=len(data.vocab), lr=1)
        >>> d2l.Trainer(max_epochs=1, gradient_clip_val=1).fit(model, data)
        >>> list(model.board.points), len(model.predict("it has", 20, data.vocab))
        (['train_ppl', 'val_ppl'], 26)
    """

    rnn: Any
    vocab_size: int
    lr: float

    def __init__(self, rnn: Any, vocab_size: int, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.init_params()

    def init_params(self) -> None:
        """Make the linear layer: ``W_hq (H, V)`` and ``b_q (V,)``."""
        self.declare_all(self.initial_values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"W_hq": (self.rnn.num_hiddens, self.vocab_size), "b_q": (self.vocab_size,)}

    def initial_values(self) -> dict[str, Any]:
        return normal_weights(self.shapes(), self.rnn.sigma, self.backend.fresh_seed())

    def one_hot(self, X: Array) -> Array:
        """Ids ``(B, T)`` as one-hot rows ``(T, B, V)``."""
        xp = self.backend.xp
        return xp.one_hot(xp.transpose(X), self.vocab_size)

    def output_layer(self, rnn_outputs: Any) -> Array:
        """Logits ``(B, T, V)`` of hidden states, ``(T, B, H)`` or a list of ``(B, H)``."""
        xp = self.backend.xp
        H = xp.stack(list(rnn_outputs)) if isinstance(rnn_outputs, (list, tuple)) else rnn_outputs
        return affine(xp, xp.transpose(H), *map(self.array, self.shapes()))

    def forward(self, X: Array, state: Any = None) -> Array:
        check_ids(self, X, "(B, T)")
        rnn_outputs, _ = self.rnn(self.one_hot(X), state)
        return self.output_layer(rnn_outputs)

    def plot_loss(self, loss: Any, train: bool) -> None:
        """Add the minibatch's perplexity to the board."""
        self.plot("ppl", self.backend.xp.exp(loss), train)

    def validation_step(self, batch: Any) -> Any:
        return Module.validation_step(self, batch)  # without the accuracy

    def predict(
        self, prefix: str | Sequence[str], num_preds: int, vocab: Any, device: Any = None
    ) -> str:
        """The prefix and ``num_preds`` tokens after it, each the most likely.

        Args:
            prefix: a text to begin with, or a list of words.
            num_preds: tokens to add.
            vocab: of the text that the model was trained on; any with ``vocab[token]`` and
                ``idx_to_token``. What it does not know is written as ``<unk>``.
            device: where the model is.
        """
        return predict(self.backend, _Stepping(self), vocab, prefix, num_preds, device)


class RNN(Module):
    """The framework's own recurrent layer, ``tanh``, as the English edition wraps it.

    Calling it with ``(inputs, H=None)``, ``(T, B, D)``, gives the hidden states ``(T, B, H)`` of
    all steps and the last state, of the framework's form. A subclass can put another layer of
    the framework into ``self.rnn``.

    Args:
        num_inputs: ``D``; only in PyTorch, other frameworks' layers see it for themselves.
        num_hiddens: ``H``.

    Example:
        >>> import torch
        >>> from unrolled.d2l.torch import RNN
        >>> outputs, H = RNN(num_inputs=16, num_hiddens=32)(torch.ones(100, 2, 16))
        >>> tuple(outputs.shape), tuple(H.shape)
        ((100, 2, 32), (1, 2, 32))
    """

    num_hiddens: int


class RNNLM(RNNLMScratch):
    """`RNNLMScratch` with a linear layer of the framework's own.

    Example:
        >>> import torch
        >>> from unrolled.d2l.torch import RNN, RNNLM
        >>> model = RNNLM(RNN(num_inputs=28, num_hiddens=32), vocab_size=28, lr=1)
        >>> tuple(model(torch.ones((2, 9), dtype=torch.int64)).shape)
        (2, 9, 28)
    """


def predict(
    backend: Backend,
    net: Any,
    vocab: Any,
    prefix: str | Sequence[str],
    num_preds: int,
    device: Any = None,
) -> str:
    """The prefix and the likeliest ``num_preds`` tokens; ``vocab`` may be a reader's own."""
    check_begins(prefix)
    ids = [int(vocab[token]) for token in prefix]
    (ids,) = continue_ids(backend, net, [ids], num_preds, device=device)
    return "".join(vocab.idx_to_token[i] for i in ids)


class _Stepping:
    """A language model as `generate` calls one: it hands the state on."""

    def __init__(self, model: RNNLMScratch) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def begin_state(self, batch_size: int = 1, device: Any = None) -> None:
        """The recurrent network begins by itself."""

    def __call__(self, X: Array, state: Any) -> tuple[Array, Any]:
        model, xp = self.model, self.model.backend.xp
        rnn_outputs, state = model.rnn(model.one_hot(X), state)
        Y = model.output_layer(rnn_outputs)  # (B, T, V)
        return xp.reshape(xp.transpose(Y), (-1, model.vocab_size)), state
