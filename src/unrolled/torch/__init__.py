"""unrolled on PyTorch: ``from unrolled import torch``.

The models are `torch.nn.Module`s, so PyTorch's own tools work on them: ``parameters()``,
``state_dict()``, ``to(device)``, ``torch.optim``. What they compute is written once for
all frameworks, in `unrolled.functional`, `unrolled.training` and `unrolled.models`; here
is only what is PyTorch's own.

Example:
    >>> from unrolled import torch
    >>> data = torch.SyntheticRegressionData(w=[2, -3.4], b=4.2, seed=0)
    >>> model = torch.LinearRegressionScratch(num_inputs=2, lr=0.03, seed=0)
    >>> torch.Trainer(max_epochs=3).fit(model, data)
    >>> 3.9 < model.b.item() < 4.1  # three epochs are few: 5% of 4.2 is still missing
    True
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from unrolled.backends import Backend
from unrolled.backends import torch as backend
from unrolled.books import recurrent as books
from unrolled.data import synthetic, text_data
from unrolled.data.text import load_corpus_time_machine, read_time_machine, tokenize
from unrolled.data.vocabulary import Vocab
from unrolled.errors import SettingError
from unrolled.functional import updates
from unrolled.models import language_model, linear_regression, native
from unrolled.models.language_model import Scratch
from unrolled.models.stacked import StackedRNNModel
from unrolled.parameters import Parameters
from unrolled.training import board, data, hyperparameters, module, trainer

HyperParameters = hyperparameters.HyperParameters
add_to_class = hyperparameters.add_to_class
ProgressBoard = board.ProgressBoard


class Module(module.Module, nn.Module):
    backend: ClassVar[Backend] = backend
    lr: float

    def configure_optimizers(self) -> Any:
        """`torch.optim.SGD` at ``self.lr``."""
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class DataModule(data.DataModule):
    backend: ClassVar[Backend] = backend


class Trainer(trainer.Trainer):
    backend: ClassVar[Backend] = backend


class SGD(HyperParameters):
    """Minibatch stochastic gradient descent: ``param -= lr * grad``.

    Args:
        params: tensors to update.
        lr: learning rate.

    Example:
        >>> import torch
        >>> w = torch.nn.Parameter(torch.tensor([1.0]))
        >>> (3 * w).sum().backward()
        >>> SGD([w], lr=0.1).step()
        >>> round(w.item(), 2)
        0.7
    """

    lr: float

    def __init__(self, params: Iterable[torch.Tensor], lr: float) -> None:
        self.save_hyperparameters(ignore=["params"])
        self.params = list(params)

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient against it."""
        for param in self.params:
            if param.grad is not None:
                param.copy_(updates.sgd(param, param.grad, self.lr))

    def zero_grad(self) -> None:
        """Set the gradients to zero."""
        for param in self.params:
            if param.grad is not None:
                param.grad.zero_()


class SyntheticRegressionData(synthetic.SyntheticRegressionData, DataModule):
    pass


class TextData(text_data.TextData, DataModule):
    pass


class LinearRegressionScratch(linear_regression.LinearRegressionScratch, Module):
    def __init__(
        self, num_inputs: int, lr: float, sigma: float = 0.01, seed: int | None = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        values = backend.initialize(self.initial_values(num_inputs, sigma, seed))
        self.w, self.b = values["w"], values["b"]

    def configure_optimizers(self) -> SGD:
        return SGD([self.w, self.b], self.lr)


class _NormalLazyLinear(nn.LazyLinear):
    """Takes its number of inputs from the first minibatch; weights from N(0, sigma^2)."""

    sigma: float

    def reset_parameters(self) -> None:
        if self.in_features and not self.has_uninitialized_params():
            nn.init.normal_(self.weight, 0, self.sigma)
            nn.init.zeros_(self.bias)


class LinearRegression(linear_regression.LinearRegression, Module):
    def __init__(self, lr: float, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = _NormalLazyLinear(1)
        self.net.sigma = sigma

    def loss(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss(y_hat, y.reshape(y_hat.shape))

    @property
    def w(self) -> Any:
        return self.net.weight.T

    @property
    def b(self) -> Any:
        return self.net.bias


class NativeModel(native.NativeModel, Module):
    pass


def try_gpu(i: int = 0) -> torch.device:
    """The i-th GPU if there is one, else the CPU."""
    gpus = backend.devices(i + 1)
    return gpus[i] if len(gpus) > i else torch.device("cpu")


_rnn, _gru, _lstm = (Scratch(backend, cell) for cell in ("rnn", "gru", "lstm"))
get_params, init_rnn_state, rnn = _rnn.get_params, _rnn.init_state, _rnn.forward
get_gru_params, init_gru_state, gru = _gru.get_params, _gru.init_state, _gru.forward
get_lstm_params, init_lstm_state, lstm = _lstm.get_params, _lstm.init_state, _lstm.forward


class RNNModelScratch(language_model.RNNModelScratch, Module):
    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        device: Any = None,
        get_params: Callable[..., Any] = get_params,
        init_state: Callable[..., Any] = init_rnn_state,
        forward_fn: Callable[..., Any] = rnn,
        lr: float = 1.0,
    ) -> None:
        super().__init__()
        self.vocab_size, self.num_hiddens, self.lr = vocab_size, num_hiddens, lr
        self.init_state, self.forward_fn = init_state, forward_fn
        params = language_model.by_name(get_params(vocab_size, num_hiddens, device))
        self._names = list(params)
        for name, param in params.items():
            _register(self, name, nn.Parameter(param.detach()))

    @property
    def params(self) -> list[torch.Tensor]:
        return [self.get_parameter(name) for name in self._names]

    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        like = self.get_parameter(self._names[0])
        return tuple(part.to(like) for part in super().begin_state(batch_size, device))

    def one_hot(self, ids: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = super().one_hot(ids).to(self.get_parameter(self._names[0]))
        return rows

    def configure_optimizers(self) -> SGD:
        return SGD(self.parameters(), self.lr)


def _register(module: nn.Module, dotted_name: str, parameter: nn.Parameter) -> None:
    """Place a parameter so that PyTorch lists it under its dotted name."""
    *path, leaf = dotted_name.split(".")
    for part in path:
        if not hasattr(module, part):
            module.add_module(part, nn.Module())
        module = getattr(module, part)
    module.register_parameter(leaf, parameter)


def recurrent_layer(
    cell: str, num_inputs: int, num_hiddens: int, num_layers: int = 1
) -> nn.RNNBase:
    """PyTorch's own layer for a cell: `nn.RNN`, `nn.GRU` or `nn.LSTM`."""
    layers: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
    layer: nn.RNNBase = layers[cell](num_inputs, num_hiddens, num_layers)
    return layer


class RNNModel(StackedRNNModel, Module):
    def __init__(self, rnn_layer: nn.RNNBase, vocab_size: int, lr: float = 1.0) -> None:
        super().__init__()
        if rnn_layer.batch_first or rnn_layer.input_size != vocab_size:
            raise SettingError(
                f"the layer has input_size={rnn_layer.input_size} and batch_first="
                f"{rnn_layer.batch_first}; RNNModel feeds it one-hot (T, B, {vocab_size}): "
                f"make it with input_size={vocab_size} and batch_first=False"
            )
        self.rnn, self.vocab_size, self.lr = rnn_layer, vocab_size, lr
        self.cell = rnn_layer.mode.partition("_")[0].lower()
        self.num_hiddens, self.num_layers = rnn_layer.hidden_size, rnn_layer.num_layers
        self.num_directions = 2 if rnn_layer.bidirectional else 1
        size = rnn_layer.proj_size or rnn_layer.hidden_size
        self.linear = nn.Linear(size * self.num_directions, vocab_size)

    def forward(self, inputs: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        X = backend.xp.one_hot(inputs.T, self.vocab_size).to(self.linear.weight)  # (T, B, V)
        Y, state = self.rnn(X, state)  # (T, B, directions * H)
        return self.linear(Y.reshape(-1, Y.shape[-1])), state  # (T * B, V)

    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        layer, like = self.rnn, self.linear.weight
        count = layer.num_layers * self.num_directions
        zeros = like.new_zeros(count, batch_size, layer.proj_size or layer.hidden_size)
        if isinstance(layer, nn.LSTM):
            return zeros, like.new_zeros(count, batch_size, layer.hidden_size)
        return zeros

    def native_names(self, layer: int, direction: int) -> list[str]:
        suffix = f"l{layer}" + ("_reverse" if direction else "")
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [f"rnn.{kind}_{suffix}" for kind in kinds]


class _BookModel(books.BookModel, Module):
    pass


_chapter = books.RecurrentChapter(
    backend, Trainer, lambda net, lr: SGD(net.parameters(), lr), _BookModel
)
load_data_time_machine = _chapter.load_data_time_machine
predict_ch8 = _chapter.predict_ch8
grad_clipping = _chapter.grad_clipping
train_epoch_ch8 = _chapter.train_epoch_ch8
train_ch8 = _chapter.train_ch8

parameters = partial(Parameters, backend)

__all__ = [
    "SGD",
    "DataModule",
    "HyperParameters",
    "LinearRegression",
    "LinearRegressionScratch",
    "Module",
    "NativeModel",
    "ProgressBoard",
    "RNNModel",
    "RNNModelScratch",
    "Scratch",
    "SyntheticRegressionData",
    "TextData",
    "Trainer",
    "Vocab",
    "add_to_class",
    "backend",
    "get_gru_params",
    "get_lstm_params",
    "get_params",
    "grad_clipping",
    "gru",
    "init_gru_state",
    "init_lstm_state",
    "init_rnn_state",
    "load_corpus_time_machine",
    "load_data_time_machine",
    "lstm",
    "parameters",
    "predict_ch8",
    "read_time_machine",
    "recurrent_layer",
    "rnn",
    "tokenize",
    "train_ch8",
    "train_epoch_ch8",
    "try_gpu",
]
