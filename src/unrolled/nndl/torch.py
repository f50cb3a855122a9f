"""*Neural Networks and Deep Learning* on PyTorch: ``from unrolled.nndl import torch as nndl``.

Layers, classifier, data, metric and runner of the digit-sum experiments.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from unrolled.backends import Backend
from unrolled.backends import torch as backend
from unrolled.data import digit_sum
from unrolled.nndl import layers, metrics, runner, sequence_classifier
from unrolled.public_names import no_such_name
from unrolled.torch.module import Module, NativeModel
from unrolled.torch.training import DataModule, Trainer

generate_data, load_data = digit_sum.generate_data, digit_sum.load_data
Metric = metrics.Metric


class SRN(layers.SRN, Module):
    pass


class GRU(layers.GRU, Module):
    pass


class LSTM(layers.LSTM, Module):
    pass


class BiSRN(layers.Bidirectional, Module):
    layer = SRN


class BiGRU(layers.Bidirectional, Module):
    layer = GRU


class BiLSTM(layers.Bidirectional, Module):
    layer = LSTM


class Embedding(layers.Embedding, Module):
    pass


class Linear(layers.Linear, Module):
    pass


class Model_RNN4SeqClass(sequence_classifier.SequenceClassifier, Module):  # noqa: N801 (the published name)
    embedding_layer, linear_layer = Embedding, Linear

    def configure_optimizers(self) -> Any:
        """`torch.optim.Adam` or `torch.optim.SGD` at ``self.lr``."""
        kind: Any = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[self.optimizer]
        return kind(self.parameters(), lr=self.lr)


class DigitSumDataset(digit_sum.DigitSumDataset, torch.utils.data.Dataset[Any]):
    backend: ClassVar[Backend] = backend


class DigitSumData(digit_sum.DigitSumData, DataModule):
    pass


class Accuracy(metrics.Accuracy):
    backend: ClassVar[Backend] = backend


class RunnerV3(runner.RunnerV3):
    backend: ClassVar[Backend] = backend
    trainer = Trainer
    native_model = NativeModel

    def values(self) -> dict[str, Any]:
        """Running statistics belong to a model too, so all of ``state_dict()``."""
        return {name: backend.to_numpy(v) for name, v in self.model.state_dict().items()}

    def load_values(self, values: Mapping[str, Any]) -> None:
        self.model.load_state_dict({n: torch.from_numpy(v) for n, v in values.items()})


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        raise no_such_name(__name__, name)
