"""*Neural Networks and Deep Learning*: ``from unrolled.nndl import tensorflow as nndl``.

Layers, classifier, data, metric and runner of the digit-sum experiments.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from unrolled.backends import Backend
from unrolled.backends import tensorflow as backend  # first: it keeps the import quiet

# isort: split
import keras

from unrolled.data import digit_sum
from unrolled.nndl import layers, metrics, runner, sequence_classifier
from unrolled.public_names import no_such_name
from unrolled.tensorflow.module import NativeModel, VariablesModule
from unrolled.tensorflow.training import DataModule, Trainer

generate_data, load_data = digit_sum.generate_data, digit_sum.load_data
Metric = metrics.Metric


class SRN(layers.SRN, VariablesModule):
    pass


class GRU(layers.GRU, VariablesModule):
    pass


class LSTM(layers.LSTM, VariablesModule):
    pass


class BiSRN(layers.Bidirectional, VariablesModule):
    layer = SRN


class BiGRU(layers.Bidirectional, VariablesModule):
    layer = GRU


class BiLSTM(layers.Bidirectional, VariablesModule):
    layer = LSTM


class Embedding(layers.Embedding, VariablesModule):
    pass


class Linear(layers.Linear, VariablesModule):
    pass


class Model_RNN4SeqClass(sequence_classifier.SequenceClassifier, VariablesModule):  # noqa: N801 (published)
    embedding_layer, linear_layer = Embedding, Linear

    def configure_optimizers(self) -> Any:
        """`keras.optimizers.Adam` or `keras.optimizers.SGD` at ``self.lr``."""
        kind = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}[self.optimizer]
        return kind(self.lr)


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
