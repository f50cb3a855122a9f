"""Text from a model of every framework: by the native kernels and by the model, the same."""

from functools import partial

import numpy as np
import pytest

from installed import FRAMEWORK, INSTALLED
from unrolled import native as kernels
from unrolled.data.vocabulary import Vocab
from unrolled.errors import SettingError, TextError
from unrolled.experiments.language_model import Settings, build, complete
from unrolled.frameworks import load
from unrolled.models import generation
from unrolled.models.generation import chooser, choosers, generate, generate_batch
from unrolled.models.stepping import NativeStepper

VOCAB = Vocab("the time traveller smiled")
PREFIXES = ["time", "t", "the t"]
ALIKE = [
    {"model": "gru", "scratch": False, "num_layers": 2},
    {"model": "lstm", "num_layers": 2},
]
ONE_LAYER = {"model": "rnn", "scratch": False}


def model_of(framework, model="rnn", scratch=True, num_layers=1, scale=8.0):
    """An untrained model with weights large enough to have an opinion, and its backend."""
    native = load(framework)
    settings = complete(
        Settings(model=model, scratch=scratch, num_layers=num_layers, num_hiddens=8)
    )
    net = build(native, settings, len(VOCAB), seed=0)
    trainer = native.Trainer(0)
    trainer.prepare(net, native.TextData("the time traveller " * 9, 2, 5, seed=0))
    net = trainer.bound_model
    rng = np.random.default_rng(0)
    values = {
        name: rng.normal(size=value.shape, scale=scale / 16).astype(np.float32)
        for name, value in net.export_parameters().items()
    }
    return native.backend, net.import_parameters(values)


@pytest.fixture
def by_the_model(monkeypatch):
    """Let the models themselves write from now on."""

    def switch():
        monkeypatch.setattr(generation, "stepper_of", lambda *arguments: None)

    return switch


def steppers(monkeypatch):
    """By what the models that write from now on do so; by themselves if it is no stepper."""
    found = []
    stepper_of = generation.stepper_of

    def watched(*arguments):
        stepper = stepper_of(*arguments)
        found.append(type(stepper))
        return stepper

    monkeypatch.setattr(generation, "stepper_of", watched)
    return found


@pytest.mark.skipif(not kernels.available()[0], reason=kernels.available()[1])
@pytest.mark.parametrize(
    ("framework", "model"),
    [*((name, model) for name in INSTALLED for model in ALIKE), (FRAMEWORK, ONE_LAYER)],
)
def test_the_native_kernels_write_what_the_model_writes(
    framework, model, by_the_model, monkeypatch
):
    backend, net = model_of(framework, **model)
    ways = [{}, {"temperature": 0.7}, {"temperature": 2, "top_k": 3}]

    def texts():
        choices = [chooser(**way, seed=5) for way in ways]
        alone = [generate(backend, net, VOCAB, "time", 12, choose) for choose in choices]
        together = generate_batch(backend, net, VOCAB, PREFIXES, 12)
        drawn = choosers(3, 3, temperature=1.0)
        return alone, together + generate_batch(backend, net, VOCAB, PREFIXES, 8, drawn)

    found = steppers(monkeypatch)
    alone, together = texts()
    assert set(found) == {NativeStepper}
    by_the_model()
    assert texts() == (alone, together)
    assert len({*alone}) == 3
    assert len({text[-5:] for text in together}) > 1


@pytest.mark.parametrize(
    ("framework", "own"), [(FRAMEWORK, False), *((framework, True) for framework in INSTALLED)]
)
def test_texts_of_a_batch_are_those_written_alone(framework, own, by_the_model):
    backend, net = model_of(framework, "lstm")
    if own:
        by_the_model()
    together = generate_batch(backend, net, VOCAB, PREFIXES, 6)
    for prefix, text in zip(PREFIXES, together, strict=True):
        assert text.startswith(prefix)
        assert generate(backend, net, VOCAB, prefix, 6) == text


def test_no_length_and_no_texts_are_nothing_to_write():
    backend, net = model_of(FRAMEWORK)
    assert generate(backend, net, VOCAB, "time", 0) == "time"
    assert generate_batch(backend, net, VOCAB, [], 5) == []


def test_prefixes_are_checked_before_anything_is_written():
    backend, net = model_of(FRAMEWORK)
    with pytest.raises(TextError, match="is empty"):
        generate_batch(backend, net, VOCAB, ["time", ""], 5)
    with pytest.raises(TextError, match="'X'"):
        generate_batch(backend, net, VOCAB, ["time", "X"], 5)
    (text,) = generate_batch(backend, net, VOCAB, ["X"], 5, allow_unknown=True)
    assert text.startswith("X")


def test_each_of_several_texts_draws_for_itself():
    logits = np.zeros(50)
    one = chooser(temperature=1.0, seed=4)
    many = choosers(3, 4, temperature=1.0)
    draws = [[choose(logits) for _ in range(20)] for choose in (one, *many)]
    assert draws[0] == draws[1]
    assert len({tuple(d) for d in draws[1:]}) == 3
    again = choosers(5, 4, temperature=1.0)  # more of them change nothing
    assert [[choose(logits) for _ in range(20)] for choose in again[:3]] == draws[1:]


@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"temperature": 0, "top_k": 3}])
def test_several_equal_texts_are_refused(options):
    assert len(choosers(1, **options)) == 1
    with pytest.raises(SettingError, match=r"all 3 texts would be the same.*--temperature"):
        choosers(3, **options)


@pytest.mark.skipif("torch" not in INSTALLED, reason="PyTorch's own")
class TestModelsThatComputeSomethingElse:
    """They write by themselves, whatever their parameters are called."""

    def write(self, net, monkeypatch):
        backend = load("torch").backend
        found = steppers(monkeypatch)
        text = generate(backend, net, VOCAB, "time", 20)
        monkeypatch.setattr(generation, "stepper_of", lambda *arguments: None)
        assert generate(backend, net, VOCAB, "time", 20) == text
        return issubclass(found[0], NativeStepper)

    @pytest.mark.parametrize("choose", [None, {"temperature": 1.0, "seed": 3}])
    def test_a_forward_that_is_another_late_in_the_text(self, choose, monkeypatch):
        """Found by the check of the whole text: at its start the stepper computes the same."""
        _, net = model_of("torch")
        space = VOCAB.encode(" ").item()

        own = type(net).forward

        def forward(self, X, state=None):
            if state is None:
                state = self.begin_state(len(X))
            count, state = state if isinstance(state[0], int) else (0, state)
            logits, state = own(self, X, state)
            logits = logits.reshape(X.shape[1], len(X), -1).clone()
            logits[max(0, 15 - count) :, :, space] += 100
            return logits.flatten(0, 1), (count + X.shape[1], state)

        monkeypatch.setattr(type(net), "forward", forward)  # as `add_to_class` does
        texts = []
        for stepper_of in (generation.stepper_of, lambda *arguments: None):
            monkeypatch.setattr(generation, "stepper_of", stepper_of)
            ways = [chooser(**choose)] if choose else None
            (text,) = generate_batch(load("torch").backend, net, VOCAB, ["time"], 30, ways)
            texts.append(text)
        assert texts[0] == texts[1]
        assert texts[0].endswith(" " * 15)

    @pytest.mark.parametrize("how", ["subclass", "hook", "instance"])
    def test_what_differs_only_where_nobody_has_looked(self, monkeypatch, how):
        _, net = model_of("torch")
        forward = type(net).forward

        def changed(outputs, X):  # what is asked once has two ids
            return (-outputs[0] if X.shape[1] == 1 else outputs[0]), outputs[1]

        def other(self, X, state=None):
            return changed(forward(self, X, state), X)

        if how == "subclass":
            net.__class__ = type("Other", (type(net),), {"forward": other})
        elif how == "instance":
            net.forward = partial(other, net)
        else:
            net.register_forward_hook(lambda module, inputs, outputs: changed(outputs, inputs[0]))
        assert not self.write(net, monkeypatch)

    @pytest.mark.parametrize("sides", [1, 2])
    def test_relu_is_recognised_and_two_directions_are_left_alone(self, monkeypatch, sides):
        import torch

        unrolled = load("torch")
        torch.manual_seed(0)
        layer = torch.nn.RNN(len(VOCAB), 8, nonlinearity="relu", bidirectional=sides == 2)
        assert self.write(unrolled.RNNModel(layer, len(VOCAB)), monkeypatch) == (sides == 1)

    def test_a_model_of_double_precision_is_ours_too(self, monkeypatch):
        _, net = model_of("torch", "gru")
        assert self.write(net.double(), monkeypatch)

    def test_a_users_own_module(self, monkeypatch):
        import torch

        class Own(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.embed = torch.nn.Embedding(len(VOCAB), len(VOCAB))

            def begin_state(self, batch_size=1, device=None):
                return torch.zeros(batch_size, len(VOCAB))

            def forward(self, X, state):
                logits = []
                for X_t in X.T:
                    state = 0.5 * state + self.embed(X_t)
                    logits.append(state)
                return torch.cat(logits), state

        torch.manual_seed(0)
        assert not self.write(Own(), monkeypatch)
