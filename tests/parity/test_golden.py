"""Every framework computes the numbers of the golden file.

Two ways lead there: the formulas by themselves, through the backend (`unrolled.selfcheck`),
and what people use, models with parameters imported and the trainer. Both must give the
losses, gradients, norms, parameters and text that ``reference.py`` has written out by hand.
Frameworks are met by name only: those that are installed here take part.
"""

from functools import cache

import numpy as np
import pytest

from installed import INSTALLED
from unrolled import selfcheck
from unrolled.data.vocabulary import Vocab
from unrolled.frameworks import load
from unrolled.kernels import engines
from unrolled.models.generation import generate
from unrolled.models.language_model import RecurrentNetwork
from unrolled.training.records import Listener

TOLERANCE = 1e-5  # relative to the largest entry of an array; float32 rounds at 6e-8

CASES = selfcheck.golden()
MODELS = [name for name, case in CASES.items() if "model" in case]

frameworks = pytest.mark.parametrize("framework", INSTALLED)
cases = pytest.mark.parametrize("name", CASES)
models = pytest.mark.parametrize("name", MODELS)


def assert_as_expected(outcome, case):
    differences = outcome.differences(case["expected"])
    assert set(outcome.parameters) == set(case["expected"]["parameters"])
    assert set(outcome.first_gradients) == set(case["expected"]["first_gradients"])
    too_large = {what: d for what, d in differences.items() if not d <= TOLERANCE}
    assert too_large == {}


def vocabulary(case):
    """One letter for every id."""
    return Vocab.from_list("abcdefghijklmnopqrstuvwxyz"[: case["model"]["vocab_size"]])


def network_of(framework, case):
    model = case["model"]
    return RecurrentNetwork(load(framework).backend, model["cell"], model["num_layers"])


class Minibatches(list):
    """A loader that says, as those of texts do, that the state is to be carried over."""

    continues = True


def data_of(framework, case):
    library = load(framework)
    asarray = library.backend.asarray

    class Data(library.DataModule):
        def get_dataloader(self, train):
            if not train:
                return None
            return Minibatches((asarray(X), asarray(Y)) for X, Y in selfcheck.minibatches(case))

    return Data()


def model_of(framework, case):
    """The public model of a case, with the initial parameters of the file imported."""
    library = load(framework)
    if "model" in case:
        model = library.LanguageModel(**case["model"], lr=case["lr"])
    else:
        model = library.LinearRegressionScratch(len(case["parameters"]["w"]), lr=case["lr"])
        trainer = library.Trainer(1)
        trainer.prepare(model, data_of(framework, case))  # in JAX it is this that makes w and b
        model = trainer.bound_model
    return model.import_parameters(selfcheck.initial_parameters(case))


class Recorder(Listener):
    """Keeps what a trainer reports."""

    def __init__(self):
        self.gradients = []
        self.steps = []

    def on_gradients(self, trainer, gradients):
        to_numpy = trainer.backend.to_numpy
        self.gradients.append({name: to_numpy(g).copy() for name, g in gradients.items()})

    def on_step(self, trainer, step):
        self.steps.append(step)


@cache
def trained(framework, name):
    """The trainer after one epoch over the minibatches of a case, and what came out."""
    library, case, recorder = load(framework), CASES[name], Recorder()

    class Trainer(library.Trainer):
        def fit_batch(self, batch, state):
            record, self.carried = super().fit_batch(batch, state)
            return record, self.carried

    trainer = Trainer(1, gradient_clip_val=case["theta"], listeners=[recorder])
    trainer.fit(model_of(framework, case), data_of(framework, case))
    return trainer, selfcheck.Outcome(
        losses=[step.loss for step in recorder.steps],
        gradient_norms=[step.gradient_norm for step in recorder.steps],
        clipped_norms=[step.clipped_norm for step in recorder.steps],
        first_gradients=recorder.gradients[0],
        parameters=trainer.bound_model.export_parameters(),
        state=[library.backend.to_numpy(part) for part in trainer.carried or ()],
    )


@pytest.mark.parametrize(
    ("framework", "engine"), [(name, engine) for name in INSTALLED for engine in engines(name)]
)
@cases
def test_the_formulas_give_the_expected_numbers(framework, engine, name):
    case = CASES[name]
    assert_as_expected(selfcheck.run(load(framework).backend, case, engine), case)


@frameworks
@cases
def test_the_trainer_gives_the_expected_numbers(framework, name):
    assert_as_expected(trained(framework, name)[1], CASES[name])


@frameworks
@models
def test_the_greedy_continuation_is_the_expected_one(framework, name):
    case = CASES[name]
    trainer, _ = trained(framework, name)
    vocab = vocabulary(case)
    prefix = "".join(vocab.to_tokens(case["prefix"]))
    length = case["continuation_length"]
    text = generate(trainer.backend, trainer.bound_model, vocab, prefix, length)
    assert vocab.encode(text).tolist() == case["prefix"] + case["expected"]["continuation"]


@frameworks
@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("2-layers")])
def test_every_sequence_of_a_minibatch_has_a_state_of_its_own(framework, name):
    # one state shared by all, or usable for a single sequence only, would show
    case = CASES[name]
    model, backend = model_of(framework, case), load(framework).backend
    compute = backend.compile(model)
    (X, _), (X_next, _), *_ = selfcheck.minibatches(case)

    def logits(rows):
        shapes = [(len(X[rows]), case["model"]["num_hiddens"])] * len(case["expected"]["state"])
        state = model.begin_state(len(X[rows]))
        assert [tuple(part.shape) for part in state] == shapes
        _, state = compute(backend.asarray(X[rows]), state)
        assert [tuple(part.shape) for part in state] == shapes
        Y, _ = compute(backend.asarray(X_next[rows]), state)
        return backend.to_numpy(Y).reshape(X.shape[1], len(X[rows]), -1)  # (T, B, V)

    with backend.without_gradients():
        together = logits(slice(None))
        for i in range(len(X)):
            alone = logits(slice(i, i + 1))
            assert selfcheck.difference(alone[:, 0], together[:, i]) <= TOLERANCE


SIGMAS = pytest.mark.parametrize("sigma", [0.01, 0.5])


@frameworks
@models
@SIGMAS
def test_initial_weights_are_numpys_normal_draws_times_sigma(framework, name, sigma):
    case = CASES[name]
    V, H = case["model"]["vocab_size"], case["model"]["num_hiddens"]
    params = network_of(framework, case).initial_parameters(V, H, sigma=sigma, seed=7)
    assert list(params) == list(case["parameters"])
    rng = np.random.default_rng(7)
    for key, value in case["parameters"].items():
        is_bias = key.split(".")[-1][0] == "b"
        shape = np.shape(value)
        expected = np.zeros(shape) if is_bias else sigma * rng.standard_normal(shape)
        got = load(framework).backend.to_numpy(params[key])
        np.testing.assert_allclose(got, expected, rtol=1e-6, err_msg=key)


@frameworks
@SIGMAS
def test_linear_regression_starts_from_numpys_normal_draws_times_sigma(framework, sigma):
    model = load(framework).LinearRegressionScratch(200, lr=0.1, sigma=sigma, seed=7)
    start = initial_values(framework, model, num_inputs=200)
    expected = sigma * np.random.default_rng(7).standard_normal((200, 1))
    np.testing.assert_allclose(start["w"], expected, rtol=1e-6)
    np.testing.assert_array_equal(start["b"], [0])


@frameworks
@SIGMAS
def test_linear_regression_of_the_frameworks_own_layer_heeds_sigma(framework, sigma):
    model = load(framework).LinearRegression(lr=0.1, sigma=sigma)
    start = initial_values(framework, model, num_inputs=200)
    weights, bias = sorted(start.values(), key=np.size, reverse=True)
    assert weights.size == 200
    assert 0.8 * sigma < weights.std() < 1.2 * sigma
    np.testing.assert_array_equal(bias, [0])


def initial_values(framework, model, num_inputs):
    """The parameters once a minibatch has told their shapes; its gradients are all zero."""
    zeros = np.zeros((2, num_inputs), np.float32)
    trainer = load(framework).Trainer(1)
    trainer.prepare(model, data_of(framework, {"minibatches": [[zeros, zeros[:, :1]]]}))
    trainer.fit_batch(trainer.train_dataloader[0], None)
    return trainer.bound_model.export_parameters()
