"""*Neural Networks and Deep Learning* on MXNet: ``from unrolled.nndl import mxnet as nndl``.

Layers, classifier, data, metric and runner of the digit-sum experiments.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from mxnet import gluon

from unrolled.backends import Backend
from unrolled.backends import mxnet as backend
from unrolled.data import digit_sum
from unrolled.mxnet.module import ArraysModule, Module, NativeModel
from unrolled.mxnet.training import DataModule, Trainer
from unrolled.nndl import layers, metrics, runner, sequence_classifier
from unrolled.public_names import no_such_name

generate_data, load_data = digit_sum.generate_data, digit_sum.load_data
Metric = metrics.Metric


class SRN(layers.SRN, ArraysModule):
    pass


class GRU(layers.GRU, ArraysModule):
    pass


class LSTM(layers.LSTM, ArraysModule):
    pass


class BiSRN(layers.Bidirectional, Module):
    layer = SRN


class BiGRU(layers.Bidirectional, Module):
    layer = GRU


class BiLSTM(layers.Bidirectional, Module):
    layer = LSTM


class Embedding(layers.Embedding, ArraysModule):
    pass


class Linear(layers.Linear, ArraysModule):
    pass


class Model_RNN4SeqClass(sequence_classifier.SequenceClassifier, Module):  # noqa: N801 (published)
    embedding_layer, linear_layer = Embedding, Linear

    def configure_optimizers(self) -> Any:
        """`gluon.Trainer` with ``"adam"`` or ``"sgd"`` at ``self.lr``."""
        settings = {"learning_rate": self.lr}
        return gluon.Trainer(self.collect_params(), self.optimizer, settings)


class DigitSumDataset(digit_sum.DigitSumDataset):
    backend: ClassVar[Backend] = backend


class DigitSumData(digit_sum.DigitSumData, DataModule):
    pass


class Accuracy(metrics.Accuracy):
    backend: ClassVar[Backend] = backend


class RunnerV3(runner.RunnerV3):
    backend: ClassVar[Backend] = backend
    trainer = Trainer
    native_model = NativeModel


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        raise no_such_name(__name__, name)
