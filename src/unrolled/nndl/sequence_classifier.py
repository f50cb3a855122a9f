"""``Model_RNN4SeqClass`` of *Neural Networks and Deep Learning*, for any framework.

A classifier of sequences of ids: embedding, recurrent layer, linear layer.

Shape letters: ``B`` batch, ``L`` length of a sequence, ``D`` inputs, ``H`` hidden units,
``C`` classes.
"""

from typing import Any, ClassVar

from unrolled.backends import Array
from unrolled.checks import check_ids
from unrolled.errors import SettingError
from unrolled.functional.initial import Seed
from unrolled.functional.losses import cross_entropy
from unrolled.nndl.layers import split_seed
from unrolled.training.module import Module


class SequenceClassifier(Module):
    """A recurrent layer between an embedding of digits and a linear layer to classes.

    Only the state after the last step goes on to the linear layer. Calling it with ids
    ``(B, L)`` gives logits ``(B, C)``.

    Args:
        model: the recurrent layer: `SRN`, `LSTM`, `GRU`, `BiSRN`, ..., or any module that
            makes ``(B, H)`` of ``(B, L, D)``.
        num_digits: how many ids there are.
        input_size: ``D``, of the embedding.
        hidden_size: ``H``, that of the layer.
        num_classes: ``C``.
        lr: learning rate of `configure_optimizers`.
        optimizer: what that makes: ``"adam"`` or ``"sgd"``.
        reduction: the loss of a minibatch: the ``"mean"`` over its sequences, or the ``"sum"``.
        seed: of the initial values, Xavier's uniform distribution, bias zero; None takes one
            from the framework's own generator.

    Raises:
        SettingError: sizes do not fit, or an optimizer or a reduction is unknown.

    Example:
        >>> from unrolled import torch
        >>> from unrolled.nndl import torch as nndl
        >>> model = nndl.Model_RNN4SeqClass(nndl.SRN(32, 32), 10, 32, 32, 19)
        >>> data = nndl.DigitSumData(length=20, seed=0)
        >>> torch.Trainer(max_epochs=1).fit(model, data)
        >>> X, _ = next(iter(data.loader("test")))
        >>> tuple(model(X).shape)
        (100, 19)
    """

    embedding_layer: ClassVar[Any]
    linear_layer: ClassVar[Any]
    embedding: Any
    rnn_model: Any
    linear: Any
    optimizer: str
    reduction: str
    lr: float

    def __init__(
        self,
        model: Any,
        num_digits: int,
        input_size: int,
        hidden_size: int,
        num_classes: int,
        lr: float = 0.001,
        optimizer: str = "adam",
        reduction: str = "mean",
        seed: Seed = None,
    ) -> None:
        super().__init__()
        self.lr, self.optimizer, self.reduction = lr, optimizer, reduction
        self.rnn_model = model
        self.make_layers((num_digits, input_size, hidden_size, num_classes), seed)

    def make_layers(self, sizes: tuple[int, int, int, int], seed: Seed) -> None:
        """Make embedding and linear layer, once it is sure that everything fits."""
        num_digits, input_size, hidden_size, num_classes = sizes
        for name, known in (("optimizer", ("adam", "sgd")), ("reduction", ("mean", "sum"))):
            value = getattr(self, name)
            if value not in known:
                raise SettingError(f"{name} is '{value}'; it must be {' or '.join(known)}")
        # a layer of one's own need not say its sizes
        D = getattr(self.rnn_model, "input_size", input_size)
        H = getattr(self.rnn_model, "hidden_size", hidden_size)
        width = getattr(self.rnn_model, "output_size", hidden_size)
        if input_size != D or hidden_size not in {H, width}:
            raise SettingError(
                f"the layer has input_size={D} and hidden_size={H}, and the classifier was given "
                f"{input_size} and {hidden_size}; they must be equal"
            )
        self.embedding = self.embedding_layer(num_digits, input_size, split_seed(seed, 0))
        self.linear = self.linear_layer(width, num_classes, split_seed(seed, 1))

    def forward(self, inputs: Array) -> Array:
        check_ids(self, inputs, "(B, L)")
        X = self.embedding(inputs)  # (B, L, D)
        H = self.rnn_model(X)  # (B, H)
        return self.linear(H)  # (B, C)

    def loss(self, y_hat: Any, y: Any) -> Any:
        """Cross-entropy in nats of logits ``(B, C)`` and labels ``(B,)``."""
        mean = cross_entropy(self.backend.xp, y_hat, y)
        return mean * y.shape[0] if self.reduction == "sum" else mean
