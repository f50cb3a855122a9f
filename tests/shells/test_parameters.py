"""Parameters of native models, nested and tied ones: the same calls in every framework."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from installed import FRAMEWORK, INSTALLED
from minibatches import data_of
from models import with_values
from unrolled.errors import ParameterError, UnrolledError
from unrolled.frameworks import load
from unrolled.parameters import read


@dataclass(frozen=True)
class Case:
    """A native model, and how to compute with it.

    Attributes:
        model: what ``parameters()`` is given; in JAX the nested dict.
        predict: outputs for inputs ``(n, 4)``.
        names: of its parameters.
        module: in JAX, the module that the dict belongs to.
    """

    model: Any
    predict: Callable[[Any], Any]
    names: list[str]
    module: Any = None


@dataclass(frozen=True)
class Native:
    """The models of one framework, each made in the framework's own way.

    Attributes:
        nested: models inside models, with ``(3,)`` for the shape of ``b`` of the last one.
        pair: an odd layer, two layers of equal shape, and an output layer; ``tied=True`` ties
            the two in the framework's own way.
        places: of the weight that is tied so.
        backward: the listing after the gradient of the sum of all outputs was computed.
    """

    nested: Callable[[], list[Case]]
    pair: Callable[..., Case]
    places: tuple[str, ...]
    backward: Callable[[Case, Any], Any]


def names_of(kinds: tuple[str, str], *layers: str) -> list[str]:
    return [f"{layer}.{kind}" for layer in layers for kind in kinds]


def torch_native() -> Native:
    import torch
    from torch import nn

    kinds = ("weight", "bias")

    class NestMLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            inner = nn.Sequential(nn.Linear(8, 5))
            self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), inner)
            self.linear = nn.Linear(5, 3)

        def forward(self, X: Any) -> Any:
            return self.linear(self.net(X))

    def of(model: Any, *layers: str) -> Case:
        return Case(model, lambda X: model(torch.as_tensor(X)), names_of(kinds, *layers))

    def nested() -> list[Case]:
        return [of(NestMLP(), "net.0", "net.2.0", "linear")]

    def pair(tied: bool = False) -> Case:
        one = nn.Linear(8, 8)
        other = one if tied else nn.Linear(8, 8)
        model = nn.Sequential(nn.Linear(4, 8), one, nn.Tanh(), other, nn.Linear(8, 1))
        return of(model, *("014" if tied else "0134"))

    def backward(case: Case, X: Any) -> Any:
        case.model.zero_grad()
        case.predict(X).sum().backward()
        return load("torch").parameters(case.model)

    return Native(nested, pair, ("1.weight", "3.weight"), backward)


def jax_native() -> Native:
    import jax
    from flax import linen as nn

    kinds = ("kernel", "bias")

    class Block(nn.Module):
        width: int

        @nn.compact
        def __call__(self, X: Any) -> Any:
            return nn.relu(nn.Dense(self.width, name="dense")(X))

    class Compact(nn.Module):
        @nn.compact
        def __call__(self, X: Any) -> Any:
            X = Block(5, name="upper")(Block(8, name="lower")(X))
            return nn.Dense(3, name="out")(X)

    class Setup(nn.Module):
        def setup(self) -> None:
            self.net = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(5)])
            self.linear = nn.Dense(3)

        def __call__(self, X: Any) -> Any:
            return self.linear(self.net(X))

    class Pair(nn.Module):
        tied: bool

        @nn.compact
        def __call__(self, X: Any) -> Any:
            a = nn.Dense(8, name="a")
            b = a if self.tied else nn.Dense(8, name="b")
            return nn.Dense(1, name="out")(b(nn.tanh(a(nn.Dense(8, name="first")(X)))))

    def of(module: Any, *layers: str) -> Case:
        params = module.init(jax.random.key(0), np.ones((1, 4)))["params"]
        names = names_of(kinds, *layers)
        return Case(params, lambda X: module.apply({"params": params}, X), names, module)

    def nested() -> list[Case]:
        return [
            of(Compact(), "lower.dense", "upper.dense", "out"),
            of(Setup(), "net.layers_0", "net.layers_2", "linear"),
        ]

    def pair(tied: bool = False) -> Case:
        return of(Pair(tied), "first", "a", *([] if tied else ["b"]), "out")

    def backward(case: Case, X: Any) -> Any:
        kept = dict(case.model)

        def total(params: Any) -> Any:
            case.model.update(params)
            try:
                return case.predict(X).sum()
            finally:
                case.model.update(kept)

        return load("jax").parameters(case.model, jax.grad(total)(case.model))

    return Native(nested, pair, ("a.kernel",), backward)  # for Flax it is one place


def tensorflow_native() -> Native:
    u = load("tensorflow")
    import keras
    import tensorflow as tf

    kinds = ("kernel", "bias")
    Dense, Sequential = keras.layers.Dense, keras.Sequential

    class NestMLP(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.net = Sequential([Dense(8, activation="relu"), Sequential([Dense(5)])])
            self.linear = Dense(3)

        def call(self, X: Any) -> Any:
            return self.linear(self.net(X))

    class Written(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [tf.Module(), tf.Module()]
            for layer, shape in zip(self.layers, [(4, 5), (5, 3)], strict=True):
                layer.kernel = tf.Variable(tf.random.normal(shape))
                layer.bias = tf.Variable(tf.zeros(shape[1:]))

        def __call__(self, X: Any) -> Any:
            for layer in self.layers:
                X = X @ layer.kernel + layer.bias
            return X

    class Pair(keras.Model):
        def __init__(self, tied: bool) -> None:
            super().__init__()
            self.first, self.a = Dense(8), Dense(8)
            self.b = self.a if tied else Dense(8)
            self.out = Dense(1)

        def call(self, X: Any) -> Any:
            return self.out(self.b(tf.tanh(self.a(self.first(X)))))

    def of(model: Any, *layers: str) -> Case:
        model(np.ones((1, 4), np.float32))
        return Case(model, model, names_of(kinds, *layers))

    def nested() -> list[Case]:
        return [
            of(NestMLP(), "net.0", "net.1.0", "linear"),
            of(Written(), "layers.0", "layers.1"),
        ]

    def pair(tied: bool = False) -> Case:
        return of(Pair(tied), "first", "a", *([] if tied else ["b"]), "out")

    def backward(case: Case, X: Any) -> Any:
        variables = u.backend.parameters(case.model)
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(case.predict(X))
        return u.parameters(case.model, tape.gradient(total, variables))

    return Native(nested, pair, ("a.kernel", "b.kernel"), backward)


def mxnet_native() -> Native:
    u = load("mxnet")
    import mxnet as mx
    from mxnet import autograd
    from mxnet.gluon import nn

    kinds = ("weight", "bias")

    class NestMLP(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.HybridSequential()
            self.net.add(nn.Dense(8, activation="relu"), chain(nn.Dense(5)))
            self.linear = nn.Dense(3)

        def hybrid_forward(self, F: Any, X: Any) -> Any:
            return self.linear(self.net(X))

    def chain(*blocks: Any) -> Any:
        net = nn.HybridSequential()
        net.add(*blocks)
        return net

    def of(model: Any, *layers: str) -> Case:
        model.initialize(mx.init.Normal(0.5))
        model(mx.np.ones((1, 4)))
        return Case(model, lambda X: model(mx.np.array(X)), names_of(kinds, *layers))

    def nested() -> list[Case]:
        hybridized = NestMLP()
        hybridized.hybridize()
        return [of(hybridized, "net.0", "net.1.0", "linear")]

    def pair(tied: bool = False) -> Case:
        one = nn.Dense(8, in_units=8)
        other = nn.Dense(8, in_units=8, params=one.params if tied else None)
        model = chain(nn.Dense(8), one, nn.Activation("tanh"), other, nn.Dense(1))
        return of(model, *("014" if tied else "0134"))

    def backward(case: Case, X: Any) -> Any:
        with autograd.record():
            total = case.predict(X).sum()
        total.backward()
        return u.parameters(case.model)

    return Native(nested, pair, ("1.weight", "3.weight"), backward)


NATIVE = {
    "torch": torch_native,
    "jax": jax_native,
    "tensorflow": tensorflow_native,
    "mxnet": mxnet_native,
}

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


@pytest.fixture(params=INSTALLED)
def u(request: pytest.FixtureRequest) -> Any:
    return load(request.param)


on_one = pytest.mark.parametrize("u", [FRAMEWORK], indirect=True)
"""For what has no framework in it."""


@pytest.fixture
def native(u: Any) -> Native:
    return NATIVE[u.backend.name]()


def outputs(u: Any, case: Case) -> np.ndarray:
    return u.backend.to_numpy(case.predict(X))


def weights(case: Case) -> tuple[str, str]:
    """Names of the two weights of equal shape in a pair."""
    return case.names[2], case.names[4]


# The listing


def test_nested_models_are_listed_in_order_with_shapes_and_totals(u: Any, native: Native) -> None:
    for case in native.nested():
        parameters = u.parameters(case.model)
        assert list(parameters) == case.names
        assert len(parameters) == len(case.names)
        assert parameters[case.names[-1]].shape == (3,)
        assert sorted(parameters[case.names[0]].shape)[0] == 4
        rows = parameters.rows()
        assert [row["name"] for row in rows] == case.names
        assert sum(row["size"] for row in rows) == parameters.total
        assert {row["dtype"] for row in rows} == {"float32"}
        assert not any(row["tied_with"] for row in rows)
    parameters = u.parameters(native.pair().model)  # the documents' example
    weight, bias = list(parameters)[-2:]
    output_first = u.backend.name in {"torch", "mxnet"}
    assert parameters[weight].shape == ((1, 8) if output_first else (8, 1))
    assert parameters[bias].shape == (1,)


@on_one
def test_text_and_html_show_every_parameter_and_the_total(u: Any, native: Native) -> None:
    case = native.pair()
    parameters = u.parameters(case.model)
    lines = str(parameters).splitlines()
    assert [line.split()[0] for line in lines] == ["name", *case.names, "total"]
    assert lines[-1].split()[1] == f"{parameters.total:,}" == "193"
    with pytest.raises(ParameterError, match=f"did you mean '{case.names[-1]}'"):
        parameters[case.names[-1] + "s"]
    assert parameters._repr_html_().count("<tr>") == 1 + len(case.names) + 1


def test_values_are_copies_and_gradients_those_of_backward(u: Any, native: Native) -> None:
    case = native.pair()
    bias = native.backward(case, X)[case.names[-1]]
    np.testing.assert_allclose(bias.gradient, [len(X)])
    assert bias.gradient_norm == pytest.approx(len(X))
    bias.values[:] = 77
    assert u.parameters(case.model)[case.names[-1]].values[0] != 77


def test_layers_that_have_seen_no_input_are_told_of(u: Any) -> None:
    if u.backend.name == "torch":
        from torch import nn

        model = nn.Sequential(nn.LazyLinear(3))
    elif u.backend.name == "jax":
        from flax import linen as nn

        model = nn.Dense(3)
    elif u.backend.name == "tensorflow":
        import keras

        model = keras.Sequential([keras.layers.Dense(3)])
    else:
        from mxnet.gluon import nn

        model = nn.Dense(3)
        model.initialize()
    with pytest.raises(UnrolledError, match=r"Call it once|has no parameters: in JAX"):
        list(u.parameters(model))


# Ties


def test_the_frameworks_own_tie_is_listed_once_and_has_the_sum_of_the_gradients(
    u: Any, native: Native
) -> None:
    case, places = native.pair(tied=True), native.places
    parameters = u.parameters(case.model)
    apart = native.pair()
    shared = case.names[:4] + case.names[2:]  # the tied layer in both places
    take = {name: parameters[of].values for name, of in zip(apart.names, shared, strict=True)}
    u.parameters(apart.model).load_values({name: value.copy() for name, value in take.items()})
    np.testing.assert_allclose(outputs(u, apart), outputs(u, case), rtol=1e-5, atol=1e-6)
    two = native.backward(apart, X)
    expected = sum(two[name].gradient for name in weights(apart))
    found = native.backward(case, X)[places[0]].gradient
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert list(parameters) == case.names
    for place in places:
        assert parameters[place].places == places
    assert parameters.total == 8 * 4 + 8 + 8 * 8 + 8 + 8 + 1
    renewed = u.backend.assign(
        {places[0]: u.backend.named_arrays(case.model)[places[0]]},
        {places[0]: np.full((8, 8), 3.0)},
    )
    if u.backend.name != "jax":  # there, nothing can be written to
        assert all((parameters[place].values == 3).all() for place in places)
    assert (u.backend.to_numpy(renewed[places[0]]) == 3).all()


def test_one_call_ties_and_the_gradient_is_the_sum_over_both_uses(u: Any, native: Native) -> None:
    case = native.pair()
    parameters, (one, other) = u.parameters(case.model), weights(case)
    values = {name: parameters[name].values for name in case.names}
    parameters.load_values(values | {other: values[one].copy()})
    two = native.backward(case, X)
    before, expected = outputs(u, case), two[one].gradient + two[other].gradient
    assert len(two) == len(case.names)  # equal values are not tied
    parameters.tie(other, to=one)
    assert len(parameters) == len(case.names) - 1
    assert parameters[other].name == one
    assert parameters[one].places == (one, other)
    np.testing.assert_allclose(outputs(u, case), before, rtol=1e-5, atol=1e-6)
    tied = native.backward(case, X)[other]
    np.testing.assert_allclose(tied.gradient, expected, rtol=1e-5, atol=1e-6)
    assert tied.gradient_norm == pytest.approx(np.linalg.norm(expected), rel=1e-4)


def test_a_tie_by_call_stays_in_training_and_steps_by_the_sum(u: Any, native: Native) -> None:
    batches = [(u.backend.asarray(X), u.backend.asarray(X[:, :1]))]
    case = native.pair()
    parameters, (one, other) = u.parameters(case.model), weights(case)
    parameters.tie(other, to=one)
    values = {place: p.values for p in parameters.values() for place in p.places}

    def squares(y_hat: Any, y: Any) -> Any:
        return (y_hat - y) ** 2

    def fit(case: Case) -> tuple[Any, dict[str, np.ndarray]]:
        model = u.NativeModel(case.module or case.model, squares, lr=0.1)
        if u.backend.name == "jax":
            model = model.bind({"params": {"net": case.model}})
        trainer = u.Trainer(max_epochs=1)
        trainer.fit(model, data_of(batches))
        learned = trainer.bound_model.export_parameters()
        return trainer, {name.removeprefix("net."): value for name, value in learned.items()}

    apart = native.pair()
    u.parameters(apart.model).load_values({name: value.copy() for name, value in values.items()})
    _, two = fit(apart)
    trainer, both = fit(case)
    np.testing.assert_allclose(both[one], two[one] + two[other] - values[one], atol=1e-6)
    assert both[other] is both[one]
    assert f"net.{other}" not in trainer.parameters
    listing = u.parameters(trainer.bound_model)
    assert listing[f"net.{one}"].places == (f"net.{one}", f"net.{other}")
    if u.backend.name == "jax":
        kept = trainer.state.params["net"]
        assert u.parameters(kept)[one].places == (one, other)


def test_a_tied_model_from_scratch_steps_once_by_the_sum(u: Any) -> None:
    draw, one, other = np.random.default_rng(0), "layers.0.W_hh", "layers.1.W_hh"

    ids = np.random.default_rng(1).integers(0, 6, (2, 4, 5))
    batch = tuple(map(u.backend.asarray, ids))

    def make() -> Any:
        return with_values(u.LanguageModel(6, 3, num_layers=2, lr=0.5))

    def fitted(values: dict[str, np.ndarray]) -> dict[str, Any]:
        trainer = u.Trainer(max_epochs=1)
        trainer.fit(make().import_parameters(values), data_of([batch]))
        return trainer.bound_model.export_parameters()

    shapes = {name: v.shape for name, v in make().export_parameters().items()}
    values = {n: draw.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    values[other] = values[one].copy()
    two = fitted(values)
    both = fitted(values | {other: values[one]})  # one array at two places
    np.testing.assert_allclose(both[one], two[one] + two[other] - values[one], atol=1e-6)
    assert both[other] is both[one]


@on_one
def test_tying_different_shapes_or_unknown_names_is_refused(u: Any, native: Native) -> None:
    case = native.pair()
    parameters = u.parameters(case.model)
    with pytest.raises(ParameterError, match="only parameters of equal shape"):
        parameters.tie(case.names[2], to=case.names[0])
    with pytest.raises(ParameterError, match="no parameter 'nowhere'"):
        parameters.tie(case.names[2], to="nowhere")
    assert len(parameters) == len(case.names)


# Files


def test_ties_survive_saving_and_loading(u: Any, native: Native, tmp_path: Any) -> None:
    case = native.pair()
    parameters, (one, other) = u.parameters(case.model), weights(case)
    parameters.tie(other, to=one)
    parameters.save(tmp_path / "tied.safetensors")
    values, tied = read(tmp_path / "tied.safetensors")
    assert len(values) == len(case.names) - 1
    assert tied == {other: one}
    again = native.pair()
    u.parameters(again.model).tie(other, to=one)
    for target in (again, native.pair()):  # tied already, and not yet
        u.parameters(target.model).load(tmp_path / "tied.safetensors")
        assert u.parameters(target.model)[one].places == (one, other)
        np.testing.assert_array_equal(outputs(u, target), outputs(u, case))


def test_a_file_of_an_untied_model_does_not_fit_a_tied_one(
    u: Any, native: Native, tmp_path: Any
) -> None:
    u.parameters(native.pair().model).save(tmp_path / "apart.safetensors")
    case = native.pair()
    parameters, (one, other) = u.parameters(case.model), weights(case)
    parameters.tie(other, to=one)
    before = outputs(u, case)
    with pytest.raises(ParameterError, match="are tied in this model, and the values"):
        parameters.load(tmp_path / "apart.safetensors")
    np.testing.assert_array_equal(outputs(u, case), before)


@on_one
def test_every_name_that_does_not_fit_is_told_and_nothing_is_loaded(u: Any, native: Native) -> None:
    case = native.pair()
    parameters = u.parameters(case.model)
    missing, misshapen, *_ = case.names
    values = {name: parameters[name].values + 1 for name in case.names}
    del values[missing]
    values[misshapen] = np.zeros(3, np.float32)
    values["extra"] = np.zeros(2, np.float32)
    before = outputs(u, case)
    with pytest.raises(ParameterError) as error:
        parameters.load_values(values)
    for line in (f"{missing}: missing", f"{misshapen}: has shape (3,)", "extra: unexpected"):
        assert line in str(error.value)
    np.testing.assert_array_equal(outputs(u, case), before)


@on_one
def test_a_file_that_cannot_be_written_is_told_and_the_old_one_stays(
    u: Any, native: Native, tmp_path: Any
) -> None:
    parameters = u.parameters(native.pair().model)
    for path in (tmp_path, tmp_path / "no" / "such.safetensors"):
        with pytest.raises(ParameterError, match=r"cannot be written.*name a file in a directory"):
            parameters.save(path)
    assert not list(tmp_path.iterdir())


@on_one
@pytest.mark.parametrize("kind", [np.complex64, np.int32, bool])
def test_numbers_that_a_cast_would_change_are_refused(
    u: Any, native: Native, kind: type[Any]
) -> None:
    case = native.pair()
    parameters = u.parameters(case.model)
    before = outputs(u, case)
    values = {name: parameters[name].values for name in case.names}
    values[case.names[1]] = np.ones_like(values[case.names[1]], dtype=kind)
    with pytest.raises(ParameterError, match=rf"{case.names[1]}.*floating-point numbers are exp"):
        parameters.load_values(values)
    values[case.names[1]] = [1.0, 2.0]
    with pytest.raises(ParameterError, match="is list; an array is expected"):
        parameters.load_values(values)
    np.testing.assert_array_equal(outputs(u, case), before)


@on_one
def test_longer_numbers_are_rounded_to_those_of_the_model(u: Any, native: Native) -> None:
    parameters = u.parameters(native.pair().model)
    exact = {p.name: np.random.default_rng(0).normal(size=p.shape) for p in parameters.values()}
    parameters.load_values(exact)
    for name, value in exact.items():
        np.testing.assert_array_equal(parameters[name].values, value.astype(np.float32))
