"""What telemetry records of a training, and what it leaves alone."""

import gc
import json
import math
from collections import Counter

import numpy as np
import pytest
from kept import Keeper

from clipping_by_hand import by_hand, norm_of
from installed import FRAMEWORK, INSTALLED
from unrolled import experiments
from unrolled.errors import NotFiniteError, SettingError
from unrolled.frameworks import load
from unrolled.functional.clipping import CLIP_METHODS
from unrolled.telemetry.not_finite import first_not_finite
from unrolled.telemetry.reading import read_telemetry
from unrolled.telemetry.recorder import RECORDS, Telemetry
from unrolled.telemetry.records import TelemetryRecord
from unrolled.training.records import Backward, Listener
from unrolled.training.tracing import ThroughTime, TracedLayer, Tracer

TEXT = "the quick brown fox jumps over the lazy dog. " * 8
H = 5
frameworks = pytest.mark.parametrize("framework", INSTALLED)


def setup(framework, cell="rnn", lr=0.5, sigma=0.5, **options):
    library = load(framework)
    library.backend.seed(0)
    data = library.TextData(TEXT, batch_size=4, num_steps=5, seed=0)
    model = library.LanguageModel(len(data.vocab), H, cell, lr=lr, sigma=sigma, seed=1)
    return library.Trainer(1, **options), model, data


EVERY_METHOD = [(FRAMEWORK, method) for method in (None, *CLIP_METHODS)]
IN_OTHERS = [(f, method) for f in INSTALLED if f != FRAMEWORK for method in (None, "adaptive")]


@pytest.mark.parametrize(("framework", "method"), EVERY_METHOD + IN_OTHERS)
def test_norms_are_those_of_the_arrays_whatever_clips(framework, method):
    thetas = {"global_norm": 0.3, "per_tensor": 0.1, "value": 0.02, "adaptive": 0.01}
    theta, lr = thetas.get(method), 0.5
    clipping = {"gradient_clip_val": theta, "gradient_clip_method": method} if method else {}
    keeper, records = Keeper(), []
    listeners = [keeper, Telemetry(1, [records.append])]
    trainer, model, data = setup(framework, lr=lr, listeners=listeners, **clipping)
    trainer.fit(model, data)
    assert len(records) == len(keeper.steps) > 5
    for i, (record, step) in enumerate(zip(records, keeper.steps, strict=True)):
        gradients, weights = keeper.gradients[i], keeper.weights[i]
        expected = by_hand(method, gradients, weights, theta) if method else gradients
        assert (record.step, record.epoch, record.loss) == (i + 1, 1, step.loss)
        for name, g in expected.items():
            np.testing.assert_allclose(keeper.clipped[i][name], g, rtol=1e-4, atol=1e-7)
            parameter, norm = record.parameters[name], np.linalg.norm(weights[name])
            before, after = np.linalg.norm(gradients[name]), np.linalg.norm(g)
            assert parameter.finite
            assert parameter.gradient_norm == pytest.approx(before, rel=1e-5)
            assert parameter.clipped_norm == pytest.approx(after, rel=1e-4)
            assert parameter.weight_norm == pytest.approx(norm, rel=1e-5)
            # a bias is 0 before its first update
            ratio = pytest.approx(lr * after / norm, rel=1e-3, abs=1e-7) if norm else None
            assert parameter.update_ratio == ratio
        before, after = norm_of(gradients), norm_of(expected)
        assert step.gradient_norm == record.gradient_norm == pytest.approx(before, rel=1e-5)
        assert step.clipped_norm == record.clipped_norm == pytest.approx(after, rel=1e-4)
        assert record.clip_coefficient == pytest.approx(after / before, rel=1e-4)
        assert (record.clip_method, record.clip_threshold) == (method, theta)
    assert any(record.clip_coefficient < 0.9 for record in records) is bool(method)


@frameworks
def test_to_look_changes_nothing_and_the_same_seed_gives_the_same_records(framework):
    results, records = [], ([], [])
    for sinks in ([], [records[0].append], [records[1].append]):
        cell = "lstm" if framework == FRAMEWORK else "rnn"
        listeners = [Telemetry(3, sinks)] if sinks else []
        trainer, model, data = setup(framework, cell, listeners=listeners)
        trainer.fit(model, data)
        results.append(trainer.bound_model.export_parameters())
    assert records[0] == records[1]
    assert len(records[0]) > 3
    assert all(len(r.layers["layers.0"].weight_gradient_per_step) == 5 for r in records[0])
    for name, value in results[0].items():
        if framework in ("torch", "mxnet"):  # the same engine with and without taps
            np.testing.assert_array_equal(results[1][name], value)
        else:  # other compiled code, which rounds elsewhere
            np.testing.assert_allclose(results[1][name], value, rtol=1e-4, atol=1e-6)


def test_every_nth_step_is_recorded_and_no_other_is_traced(monkeypatch):
    traced = []
    call = Tracer.__call__
    monkeypatch.setattr(Tracer, "__call__", lambda *a: (traced.append(1), call(*a))[1])
    for every, expected in ((4, [1, 5, 9, 13]), (0, []), (100, [1])):
        traced.clear()
        records = []
        trainer, model, data = setup(FRAMEWORK, listeners=[Telemetry(every, [records.append])])
        trainer.fit(model, data)
        assert [record.step for record in records] == expected[: len(traced)]
        assert len(traced) == len(records) == len(expected)


def test_by_default_there_are_some_200_records():
    class Fake:
        backend, num_train_batches = load(FRAMEWORK).backend, 7

        def watch_layers(self):
            return None

    with pytest.raises(SettingError, match="-1"):
        Telemetry(-1)
    for max_epochs in (1, 28, 29, 500, 10_000):
        trainer, telemetry = Fake(), Telemetry()
        trainer.max_epochs = max_epochs
        telemetry.on_fit_start(trainer)
        steps = 7 * max_epochs
        count = sum(telemetry.on_batch(trainer, step) for step in range(1, steps + 1))
        assert min(steps, RECORDS) <= count < 2 * RECORDS


def test_memory_does_not_grow_with_the_steps():
    telemetry = Telemetry(1)
    trainer, model, data = setup(FRAMEWORK, listeners=[telemetry])
    counts = {}

    class Count(Listener):
        def on_step(self, trainer, step):
            if step.step in (4, 14):
                gc.collect()
                kind = type(trainer.backend.asarray(np.zeros(1, np.float32)))
                every = Counter(type(x) for x in gc.get_objects())
                counts[step.step] = sum(n for x, n in every.items() if issubclass(x, kind))

    trainer.listeners.append(Count())
    trainer.fit(model, data)
    assert counts[14] <= counts[4]
    assert not telemetry._arrays
    assert len(trainer.tracer._taps) == 1


def test_shapes_without_end_keep_few_taps():
    trainer, model, data = setup(FRAMEWORK)
    trainer.prepare(model, data)
    for T in range(1, 30):
        ids = np.zeros((2, T), int)
        batch = tuple(trainer.backend.asarray(ids) for _ in range(2))
        first, taps = trainer.tracer.taps(trainer.parameters, batch, None, *trainer.context)
        assert tuple(taps["layers.0.hidden"].shape) == (T, 2, H)
        assert list(first.layers) == ["layers.0"]
    assert len(trainer.tracer._taps) <= 8


# What is not finite


def diverging(framework, change, every=1000, **options):
    """A training whose weights are changed before its third minibatch."""
    records = []

    class Change(Listener):
        def on_step(self, trainer, step):
            if step.step == 2:
                values = {n: trainer.backend.to_numpy(p) for n, p in trainer.parameters.items()}
                values = {name: value.copy() for name, value in values.items()}
                change(values)
                trainer.parameters = trainer.backend.assign(trainer.parameters, values)

    listeners = [Change(), Telemetry(every, [records.append])]
    trainer, model, data = setup(framework, listeners=listeners, **options)
    with pytest.raises(NotFiniteError):
        trainer.fit(model, data)
    return records


def nan_in_weights(values):
    values["W_hh"][1, 2] = math.nan


def huge_output(values):
    values["W_hq"][:] = np.where(np.arange(values["W_hq"].shape[1]) % 2, -3e38, 3e38)


@pytest.mark.parametrize(
    ("framework", "change", "first"),
    [(FRAMEWORK, nan_in_weights, "the weight W_hh")]
    + [(framework, huge_output, "the loss") for framework in INSTALLED],
)
def test_the_step_that_fails_leaves_one_last_record(framework, change, first):
    records = diverging(framework, change)
    assert [record.step for record in records] == [1, 3]  # not the turn of step 3
    last = records[-1]
    assert last.first_not_finite == first
    assert records[0].first_not_finite is None
    assert [record.on_nonfinite for record in records] == [None, "stop"]
    assert not math.isfinite(last.loss)
    assert last.parameters["W_hh"].finite is False
    assert len(last.layers["layers.0"].hidden_gradient_mean) == 5
    assert last.parameters["W_hh"].update_ratio is None


@frameworks
@pytest.mark.parametrize("every", [2, 1000])
def test_a_step_that_is_skipped_leaves_one_record_that_says_so(framework, every):
    records, trained = [], []
    bad = (3, 4)  # with every=2 one whose turn it is, and one whose turn it is not

    def train(*listeners):
        trainer, model, data = setup(framework, listeners=listeners, on_nonfinite="skip")
        differentiate = trainer.backward

        def backward(batch, state, traced=False):
            (loss, after), gradients, through = differentiate(batch, state, traced)
            factor = math.nan if trainer.train_batch_idx + 1 in bad else 1
            return (loss * factor, after), gradients, through

        trainer.backward = backward
        trainer.fit(model, data)
        trained.append(trainer.bound_model.export_parameters())

    train(Telemetry(every, [records.append]))
    train()
    steps = sorted({*range(1, records[-1].step + 1, every), *bad})
    assert [record.step for record in records] == steps
    done = {record.step: record.on_nonfinite for record in records if record.on_nonfinite}
    assert done == dict.fromkeys(bad, "skip")
    for record in records:
        assert (record.first_not_finite is not None) == (record.step in bad)
        assert len(record.layers["layers.0"].hidden_gradient_mean) == 5
        again = json.loads(json.dumps(record.as_dict()))
        assert TelemetryRecord.from_dict(again).on_nonfinite == record.on_nonfinite
    for name, value in trained[1].items():  # traced steps of compiled code may round otherwise
        np.testing.assert_allclose(trained[0][name], value, rtol=1e-5, atol=1e-6)


def test_weights_that_end_infinite_are_named(monkeypatch):
    records = []
    trainer, model, data = setup(FRAMEWORK, lr=1e38, sigma=1.0)
    trainer.listeners.append(Telemetry(1, [records.append]))

    class One(list):
        continues = False

    batches = One([next(iter(data.train_dataloader()))])
    monkeypatch.setattr(data, "train_dataloader", lambda: batches)
    loss = type(model).loss
    monkeypatch.setattr(type(model), "loss", lambda self, *given: loss(self, *given) * 1e4)
    with pytest.raises(NotFiniteError, match="weights"):
        trainer.fit(model, data)
    first = records[-1].first_not_finite
    assert first.removeprefix("the weight ") in records[-1].parameters
    assert math.isnan(records[-1].loss)


def layer(**bad):
    arrays = dict.fromkeys(("hidden", "recurrent", "after"), (4, 2, 3)) | {"first": (2, 3)}
    values = {name: np.ones(shape, np.float32) for name, shape in arrays.items()}
    for name, t in bad.items():
        values[name][t, 1, 2] = math.inf
    return values


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ({}, None),
        ({"inputs": 0, "weights": 0}, "input 0"),
        ({"state": 0, "weights": 0}, "part 1 of the first state"),
        ({"weights": 0, "after": 1}, "the weight W"),
        ({"after": [3, 2], "hidden": 3}, "hidden state 2 of layers.1"),
        ({"loss": 0, "hidden": 3}, "the loss"),
        ({"hidden": [0, 2], "gradient": 0}, "the gradient at hidden state 2 of layers.1"),
        ({"gradient": 0}, "the gradient of W"),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_first_tensor_is_named_in_the_order_of_computation(bad, expected, reverse):
    backend = load(FRAMEWORK).backend

    def array(name, shape=(2,)):
        values = np.ones(shape, np.float32)
        if name in bad:
            values[0] = math.nan
        return backend.asarray(values)

    def traced(**bad):
        arrays = {name: backend.asarray(values) for name, values in layer(**bad).items()}
        return TracedLayer("rnn", reverse, **arrays)

    inner = {name: t for name, t in bad.items() if name in ("after", "hidden")}
    found = ThroughTime({"layers.0": traced(), "layers.1": traced(**inner)})
    backward = Backward(
        (array("inputs"), backend.asarray(np.ones(2, int))),
        (array(""), array("state")),
        False,
        array("loss", (1,)),
        {"W": array("gradient"), "b": array("")},
        {},
        found,
    )
    parameters = {"b": array(""), "W": array("weights")}
    if reverse and expected and "state 2" in expected:
        expected = expected.replace("state 2", "state 1")  # it reads step 1 of 0 to 3 as its third
    assert first_not_finite(backend, parameters, backward, found) == expected


def test_hidden_states_are_counted_over_the_pieces_of_a_sequence():
    backend = load(FRAMEWORK).backend
    good, bad = layer(), layer(after=1)
    pieces = {"layers.0": good, "layers.0#1": good, "layers.0#2": bad}
    found = ThroughTime({
        name: TracedLayer("rnn", False, **{n: backend.asarray(a) for n, a in arrays.items()})
        for name, arrays in pieces.items()
    })  # fmt: skip
    assert first_not_finite(backend, {}, None, found) == "hidden state 9 of layers.0"


# In a run directory

TINY = ("num_hiddens=8", "batch_size=4", "num_steps=5", "max_tokens=200")


def test_the_same_seed_gives_the_same_bytes_and_they_can_be_read(tmp_path):
    settings = (*TINY, "max_epochs=2", "telemetry_every=3", "gradient_clip_method=per_tensor")
    paths = [
        experiments.run("language-model", settings, FRAMEWORK, seed, tmp_path / str(i))
        for i, seed in enumerate((0, 0, 1))
    ]
    first, again, other = ((path / "telemetry.jsonl").read_bytes() for path in paths)
    assert first == again != other
    without = (*TINY, "max_epochs=1", "telemetry_every=0")
    off = experiments.run("language-model", without, FRAMEWORK, 0, tmp_path / "off")
    assert not (off / "telemetry.jsonl").exists()
    records, skipped = read_telemetry(paths[0] / "telemetry.jsonl")
    records = list(records)
    assert not skipped
    steps = [record.step for record in records]
    assert steps == list(range(1, steps[-1] + 1, 3))
    assert len(steps) > 4
    assert {record.clip_method for record in records} == {"per_tensor"}


def test_the_settings_of_truncation_reach_the_records(tmp_path):
    def truncation_points(name, *extra):
        path = tmp_path / name
        settings = (*TINY, "max_epochs=1", "telemetry_every=1", *extra)
        experiments.run("language-model", settings, FRAMEWORK, 0, path)
        lines = (path / "telemetry.jsonl").read_text().splitlines()
        layer = json.loads(lines[1])["layers"]["layers.0"]
        return layer["truncation_points"], len(layer["hidden_gradient_mean"])

    assert truncation_points("carried") == ([0], 5)
    assert truncation_points("zero", "state=zero") == ([], 5)
    assert truncation_points("drawn", "state=drawn") == ([], 5)
    assert truncation_points("segments", "back_steps=2") == ([0, 2, 4], 5)
    assert truncation_points("windows", "back_steps=8") == ([0], 8)
