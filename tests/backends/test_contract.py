"""The contract of a backend, and the guide to adding one.

To add a framework called ``fifth``:

1. name it in `unrolled.frameworks.FRAMEWORKS`, and its install extra in ``pyproject.toml``;
2. write ``src/unrolled/backends/fifth.py``, the functions of `unrolled.backends.Backend`
   and a table ``xp``, a `unrolled.backends.Namespace`;
3. add an entry to ``NATIVE`` below: a small model and an optimizer of the framework's own;
4. run ``pytest tests/backends`` and work down the failures: the tests stand in the order
   of the protocol, then of the namespace; the gradients of the formulas come last.

The truth is NumPy: its functions for values, and for gradients central differences in
float64. The frameworks compute in float32, which all have switched on by default. Where
arrays cannot change, `assign` and `apply_gradients` return new ones: so go on with what
they return.
"""

import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest

from clipping_by_hand import by_hand, norm_of
from unrolled.backends import Backend, Namespace
from unrolled.backends.numpy import xp as numpy_xp
from unrolled.backends.rows import MANY, row_gradients
from unrolled.frameworks import FRAMEWORKS, is_installed, load
from unrolled.functional.clipping import clip
from unrolled.functional.losses import cross_entropy, squared_loss
from unrolled.functional.recurrent import CELLS, gru, lstm, rnn


@dataclass(frozen=True)
class Native:
    """What the tests need of a framework beyond its backend.

    Attributes:
        model: makes a model with a layer that drops half of its inputs in training.
        names: of the model's parameters, in the model's order.
        alike: two of them that have the same shape.
        predict: ``(model, X (N, 2)) -> (N, 1)``.
        sgd: ``(parameters, lr) -> optimizer`` of the framework's own.
        our_sgd: the same with this library's ``SGD``.
        is_recorded: whether a computed array can still be differentiated.
        holds_gradients: whether parameters keep the gradient of the last backward pass.
        deferred: makes a model that has not seen how many inputs it gets.
        shown: ``(model, X) -> model``, that one after its first inputs.
        renewed: ``(model, parameters) -> model``, what `assign` has made of a model.
        switches: whether a model itself is switched between training and evaluation.
    """

    model: Callable[[], Any]
    names: list[str]
    alike: tuple[str, str]
    predict: Callable[[Any, Any], Any]
    sgd: Callable[[Mapping[str, Any], float], Any]
    our_sgd: Callable[[Mapping[str, Any], float], Any]
    is_recorded: Callable[[Any], bool]
    holds_gradients: bool
    deferred: Callable[[], Any]
    shown: Callable[[Any, Any], Any] = lambda model, X: (model(X), model)[1]
    renewed: Callable[[Any, Mapping[str, Any]], Any] = lambda model, parameters: model
    switches: bool = True


def torch_native() -> Native:
    import torch
    from torch import nn

    def model() -> Any:
        return nn.Sequential(nn.Linear(2, 40), nn.Dropout(0.5), nn.Linear(40, 40), nn.Linear(40, 1))

    return Native(
        model=model,
        names=[f"{layer}.{part}" for layer in (0, 2, 3) for part in ("weight", "bias")],
        alike=("0.bias", "2.bias"),
        predict=lambda model, X: model(X),
        sgd=lambda parameters, lr: torch.optim.SGD(parameters.values(), lr=lr),
        our_sgd=lambda parameters, lr: load("torch").SGD(parameters.values(), lr),
        is_recorded=lambda array: array.requires_grad,
        holds_gradients=True,
        deferred=lambda: nn.LazyLinear(1),
    )


def jax_native() -> Native:
    import jax
    import optax
    from flax import linen as nn

    from unrolled.backends import jax as backend

    class Net(nn.Module):
        @nn.compact
        def __call__(self, X: Any) -> Any:
            X = nn.Dropout(0.5, deterministic=True)(nn.Dense(40, name="first")(X))
            return nn.Dense(1, name="last")(nn.Dense(40, name="middle")(X))

    def renewed(params: Any, parameters: Mapping[str, Any]) -> Any:
        names = {id(array): name for name, array in backend.parameters(params).items()}
        places = backend.named_arrays(params).items()
        return backend.nested({n: parameters.get(names[id(a)], a) for n, a in places})

    return Native(
        model=lambda: Net().init(jax.random.key(0), np.ones((1, 2)))["params"],
        names=[f"{layer}.{x}" for layer in ("first", "middle", "last") for x in ("kernel", "bias")],
        alike=("first.bias", "middle.bias"),
        predict=lambda params, X: Net().apply({"params": params}, X),
        sgd=lambda parameters, lr: backend.Optimizer(optax.sgd(lr), parameters),
        our_sgd=lambda parameters, lr: backend.Optimizer(load("jax").SGD(lr), parameters),
        is_recorded=lambda array: isinstance(array, jax.core.Tracer),
        holds_gradients=False,
        deferred=Net,
        shown=lambda net, X: net.bind(net.init(jax.random.key(0), X)),
        renewed=renewed,
        switches=False,  # a call is in training if it is given random numbers
    )


def tensorflow_native() -> Native:
    import keras

    def model() -> Any:
        Dense, Dropout = keras.layers.Dense, keras.layers.Dropout
        return keras.Sequential([keras.Input((2,)), Dense(40), Dropout(0.5), Dense(40), Dense(1)])

    return Native(
        model=model,
        names=[f"{layer}.{part}" for layer in (0, 2, 3) for part in ("kernel", "bias")],
        alike=("0.bias", "2.bias"),
        predict=lambda model, X: model(X, training=getattr(model, "training", False)),
        sgd=lambda parameters, lr: keras.optimizers.SGD(lr),
        our_sgd=lambda parameters, lr: load("tensorflow").SGD(lr),
        is_recorded=lambda array: False,  # only ever by a tape, and there is none
        holds_gradients=False,
        deferred=lambda: keras.Sequential([keras.layers.Dense(1)]),
    )


def mxnet_native() -> Native:
    import mxnet as mx
    from mxnet import autograd, gluon

    def model() -> Any:
        model = gluon.nn.Sequential()
        model.add(gluon.nn.Dense(40, in_units=2), gluon.nn.Dropout(0.5))
        model.add(gluon.nn.Dense(40, in_units=40), gluon.nn.Dense(1, in_units=40))
        model.initialize()
        return model

    def deferred() -> Any:
        model = gluon.nn.Dense(1)
        model.initialize()
        return model

    def sgd(parameters: Mapping[str, Any], lr: float) -> Any:
        held = [gluon.Parameter(name, shape=p.shape) for name, p in parameters.items()]
        for parameter, array in zip(held, parameters.values(), strict=True):
            parameter.initialize()
            parameter._data, parameter._grad = [array], [array.grad]
        return gluon.Trainer(held, "sgd", {"learning_rate": lr})

    def is_recorded(array: Any) -> bool:
        try:
            autograd.backward([array])
        except mx.base.MXNetError:
            return False
        return True

    return Native(
        model=model,
        names=[f"{layer}.{part}" for layer in (0, 2, 3) for part in ("weight", "bias")],
        alike=("0.bias", "2.bias"),
        predict=lambda model, X: model(X),
        sgd=sgd,
        our_sgd=lambda parameters, lr: load("mxnet").SGD(parameters.values(), lr),
        is_recorded=is_recorded,
        holds_gradients=True,
        deferred=deferred,
    )


NATIVE = {
    "torch": torch_native,
    "jax": jax_native,
    "tensorflow": tensorflow_native,
    "mxnet": mxnet_native,
}


@pytest.fixture(params=[name for name in FRAMEWORKS if is_installed(name)])
def backend(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(f"unrolled.backends.{request.param}")


@pytest.fixture
def native(backend: Any) -> Native:
    return NATIVE[backend.name]()


@pytest.fixture
def xp(backend: Any) -> Namespace:
    return backend.xp


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_every_function_of_the_protocol_has_a_test_here() -> None:
    members = {n for n, _ in inspect.getmembers(Backend, inspect.isfunction) if n[0] != "_"}
    members |= {"name", "xp"}
    tested = {m for m in members if any(g.startswith(f"test_{m}_") for g in globals())}
    assert tested == members


# The backend's functions, in the order of the protocol


def test_name_is_that_of_the_framework(backend: Any) -> None:
    assert backend.name in FRAMEWORKS
    assert backend.__name__.endswith(f".{backend.name}")


def test_xp_is_a_namespace(backend: Any) -> None:
    assert isinstance(backend.xp, Namespace)


@pytest.mark.parametrize(
    "values", [floats(2, 3), np.arange(4), 2.5, [[1, 2], [3, 4]], np.float32(7), floats(0, 2)]
)
def test_asarray_and_to_numpy_are_a_round_trip(backend: Any, values: Any) -> None:
    result = backend.to_numpy(backend.asarray(values))
    assert isinstance(result, np.ndarray)
    assert result.shape == np.shape(values)
    np.testing.assert_array_equal(result, np.asarray(values, dtype=result.dtype))


def test_asarray_keeps_float32_and_the_kind_of_integers(backend: Any) -> None:
    assert backend.to_numpy(backend.asarray(floats(2))).dtype == np.float32
    assert backend.to_numpy(backend.asarray(np.arange(2))).dtype.kind == "i"


def test_asarray_lets_arrays_of_the_framework_pass(backend: Any, native: Native) -> None:
    array = backend.asarray(floats(2, 3))
    for again in (backend.asarray(array), backend.asarray(array, backend.cpu())):
        assert type(again) is type(array)
        np.testing.assert_array_equal(backend.to_numpy(again), floats(2, 3))


def test_to_numpy_takes_parameters_and_what_is_computed_from_them(backend: Any) -> None:
    parameters = backend.initialize({"w": floats(3)})
    np.testing.assert_array_equal(backend.to_numpy(parameters["w"]), floats(3))
    np.testing.assert_allclose(backend.to_numpy(parameters["w"] * 2), floats(3) * 2)


def test_initialize_keeps_names_order_values_and_types(backend: Any) -> None:
    values = {"w": floats(3, 2), "a.b": floats(2, seed=1), "b": np.zeros(1, np.float32)}
    parameters = backend.initialize(values)
    assert list(parameters) == ["w", "a.b", "b"]
    for name, value in values.items():
        result = backend.to_numpy(parameters[name])
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, value)


def test_initialize_copies(backend: Any) -> None:
    value = floats(3)
    parameters = backend.initialize({"w": value})
    value[:] = 0
    np.testing.assert_array_equal(backend.to_numpy(parameters["w"]), floats(3))


def test_parameters_are_those_of_the_model_by_dotted_name_in_its_order(
    backend: Any, native: Native
) -> None:
    assert list(backend.parameters(native.model())) == native.names


def test_parameters_are_live(backend: Any, native: Native) -> None:
    model = native.model()
    backend.set_training(model, False)
    parameters = backend.parameters(model)
    X = backend.asarray(floats(3, 2))
    parameters = backend.assign(parameters, {n: np.zeros(p.shape) for n, p in parameters.items()})
    model = native.renewed(model, parameters)
    np.testing.assert_array_equal(backend.to_numpy(native.predict(model, X)), np.zeros((3, 1)))


def test_named_arrays_are_the_parameters_where_none_is_tied(backend: Any, native: Native) -> None:
    model = native.model()
    places, parameters = backend.named_arrays(model), backend.parameters(model)
    assert list(places) == list(parameters)
    for name, array in places.items():
        np.testing.assert_array_equal(backend.to_numpy(array), backend.to_numpy(parameters[name]))


def test_is_lazy_until_layers_have_seen_their_inputs(backend: Any, native: Native) -> None:
    assert not backend.is_lazy(native.model())
    model = native.deferred()
    assert backend.is_lazy(model)
    assert not backend.is_lazy(native.shown(model, backend.asarray(floats(3, 2))))


def test_gradient_is_the_one_that_the_framework_holds_if_it_holds_any(
    backend: Any, native: Native
) -> None:
    parameters = backend.initialize({"w": floats(3)})
    before = backend.gradient(parameters["w"])
    assert before is None or not backend.to_numpy(before).any()
    backend.value_and_grad(sum_of_squares)(parameters)
    held = backend.gradient(parameters["w"])
    assert (held is not None) == native.holds_gradients
    if held is not None:
        np.testing.assert_allclose(backend.to_numpy(held), 2 * floats(3), rtol=1e-6)


def test_tie_lets_two_places_use_one_parameter(backend: Any, native: Native) -> None:
    model, (kept, tied) = native.model(), native.alike
    shape = backend.parameters(model)[kept].shape
    backend.tie(model, tied, kept)
    parameters = backend.parameters(model)
    assert list(parameters) == [name for name in native.names if name != tied]
    assert set(backend.named_arrays(model)) == set(native.names)
    seven = backend.assign({kept: parameters[kept]}, {kept: np.full(shape, 7, np.float32)})
    model = native.renewed(model, seven)
    for name in native.alike:
        place = backend.named_arrays(model)[name]
        np.testing.assert_array_equal(backend.to_numpy(place), np.full(shape, 7))


@pytest.mark.parametrize("convert", ["numpy", "framework"])
def test_assign_gives_the_parameters_these_values(backend: Any, convert: str) -> None:
    parameters = backend.initialize({"w": floats(2, 3), "b": floats(2)})
    new = {"w": floats(2, 3, seed=1), "b": floats(2, seed=1)}
    given = {n: backend.asarray(v) for n, v in new.items()} if convert == "framework" else new
    parameters = backend.assign(parameters, given)
    assert list(parameters) == ["w", "b"]
    for name, value in new.items():
        np.testing.assert_array_equal(backend.to_numpy(parameters[name]), value)


def test_assign_leaves_the_parameters_trainable(backend: Any) -> None:
    parameters = backend.assign(backend.initialize({"w": floats(2)}), {"w": floats(2, seed=1)})
    _, gradients = backend.value_and_grad(sum_of_squares)(parameters)
    np.testing.assert_allclose(backend.to_numpy(gradients["w"]), 2 * floats(2, seed=1), rtol=1e-6)


def test_snapshot_is_not_touched_by_training(backend: Any) -> None:
    parameters = backend.initialize({"w": floats(3)})
    copy = backend.snapshot(parameters)
    backend.assign(parameters, {"w": np.zeros(3)})
    np.testing.assert_array_equal(backend.to_numpy(copy["w"]), floats(3))


def test_snapshot_into_an_earlier_one_holds_the_new_values(backend: Any) -> None:
    parameters = backend.initialize({"w": floats(3)})
    copy = backend.snapshot(parameters)
    parameters = backend.assign(parameters, {"w": floats(3, seed=1)})
    copy = backend.snapshot(parameters, reuse=copy)
    parameters = backend.assign(parameters, {"w": np.zeros(3)})
    np.testing.assert_array_equal(backend.to_numpy(copy["w"]), floats(3, seed=1))


def looked_up(xp: Namespace, ids: Any) -> Any:
    """A function of a table ``W`` that meets some of its rows: ``sum(W[ids]^2)``."""
    return lambda parameters: (xp.sum(xp.take(parameters["W"], ids) ** 2), None)


def table_gradients(backend: Any, asked: bool) -> tuple[Any, Any, Any]:
    """A table of many rows, its gradient where ids look up rows 3, 3 and 7; and the NumPy one."""
    parameters = backend.initialize({"W": floats(MANY, 2)})
    function = looked_up(backend.xp, backend.asarray(np.array([3, 7, 3])))
    with row_gradients(asked):
        _, gradients = backend.value_and_grad(function)(parameters)
    expected = np.zeros((MANY, 2), np.float32)
    expected[3], expected[7] = 4 * floats(MANY, 2)[3], 2 * floats(MANY, 2)[7]
    return parameters, gradients, expected


@pytest.mark.parametrize("asked", [False, True])
def test_value_and_grad_of_rows_is_that_of_the_table(backend: Any, asked: bool) -> None:
    _, gradients, expected = table_gradients(backend, asked)
    np.testing.assert_allclose(backend.to_numpy(gradients["W"]), expected, rtol=1e-6)
    norm = float(backend.xp.sqrt(backend.xp.sum_squares(gradients["W"])))
    np.testing.assert_allclose(norm, np.linalg.norm(expected), rtol=1e-6)


@pytest.mark.parametrize("asked", [False, True])
def test_snapshot_and_assign_undo_a_step_by_rows(backend: Any, native: Native, asked: bool) -> None:
    parameters, gradients, expected = table_gradients(backend, asked)
    for _ in range(2):
        copy = backend.snapshot(parameters, None, gradients)
        optimizer = native.our_sgd(parameters, 0.1)
        parameters = backend.apply_gradients(optimizer, parameters, gradients)
        moved = backend.to_numpy(parameters["W"])
        np.testing.assert_allclose(moved, floats(MANY, 2) - 0.1 * expected, rtol=1e-5, atol=1e-6)
        parameters = backend.assign(parameters, copy)
        np.testing.assert_array_equal(backend.to_numpy(parameters["W"]), floats(MANY, 2))


def sum_of_squares(parameters: Mapping[str, Any]) -> tuple[Any, None]:
    w = parameters["w"]
    return (w[None, :] @ w[:, None])[0, 0], None


def test_value_and_grad_gives_value_auxiliary_and_gradients_by_name(
    backend: Any, xp: Namespace
) -> None:
    def function(parameters: Mapping[str, Any], X: Any, factor: float) -> tuple[Any, Any]:
        y = (X @ parameters["w"][:, None])[:, 0] + parameters["b"]
        return factor * xp.sum(y), (y, "anything")

    parameters = backend.initialize({"w": floats(3), "b": floats(1)})
    X = backend.asarray(floats(4, 3, seed=1))
    (value, (y, word)), gradients = backend.value_and_grad(function)(parameters, X, 0.5)
    expected = floats(4, 3, seed=1) @ floats(3) + floats(1)
    np.testing.assert_allclose(float(value), 0.5 * expected.sum(), rtol=1e-5)
    np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=1e-5)
    assert word == "anything"
    np.testing.assert_allclose(
        backend.to_numpy(gradients["w"]), 0.5 * floats(4, 3, seed=1).sum(axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(backend.to_numpy(gradients["b"]), [2.0], rtol=1e-6)


def test_value_and_grad_does_not_add_to_the_gradients_of_the_call_before(backend: Any) -> None:
    parameters = backend.initialize({"w": floats(3)})
    differentiate = backend.value_and_grad(sum_of_squares)
    _, first = differentiate(parameters)
    _, second = differentiate(parameters)
    for gradients in (first, second):
        np.testing.assert_allclose(backend.to_numpy(gradients["w"]), 2 * floats(3), rtol=1e-6)


def test_value_and_grad_gives_nothing_or_zero_for_a_parameter_that_is_not_used(
    backend: Any,
) -> None:
    parameters = backend.initialize({"w": floats(3), "unused": floats(2)})
    _, gradients = backend.value_and_grad(sum_of_squares)(parameters)
    assert set(gradients) <= {"w", "unused"}
    if "unused" in gradients:
        np.testing.assert_array_equal(backend.to_numpy(gradients["unused"]), np.zeros(2))


@pytest.mark.parametrize("kind", ["the framework's own", "ours"])
def test_apply_gradients_makes_steps_of_the_optimizer(
    backend: Any, native: Native, kind: str
) -> None:
    parameters = backend.initialize({"w": floats(2, 3), "b": floats(2)})
    make = native.our_sgd if kind == "ours" else native.sgd
    optimizer = make(parameters, 0.1)
    for step in (1, 2):
        gradients = {"b": backend.asarray(np.ones(2, np.float32))}
        gradients["w"] = backend.asarray(np.full((2, 3), 3, np.float32))
        parameters = backend.apply_gradients(optimizer, parameters, gradients)
        assert list(parameters) == ["w", "b"]
        np.testing.assert_allclose(
            backend.to_numpy(parameters["w"]), floats(2, 3) - step * 0.3, rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(
            backend.to_numpy(parameters["b"]), floats(2) - step * 0.1, rtol=1e-5, atol=1e-6
        )


def test_apply_gradients_leaves_a_parameter_without_gradient_alone(
    backend: Any, native: Native
) -> None:
    parameters = backend.initialize({"w": floats(3), "unused": floats(2)})
    optimizer = native.sgd(parameters, 0.1)
    _, gradients = backend.value_and_grad(sum_of_squares)(parameters)
    parameters = backend.apply_gradients(optimizer, parameters, gradients)
    np.testing.assert_array_equal(backend.to_numpy(parameters["unused"]), floats(2))
    np.testing.assert_allclose(backend.to_numpy(parameters["w"]), 0.8 * floats(3), rtol=1e-5)


def test_stop_gradient_makes_constants_of_an_array_and_of_nested_tuples(backend: Any) -> None:
    def function(parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        w = parameters["w"]
        a, (b,) = backend.stop_gradient((w * 1, (w * 2,)))
        constant = a + b + backend.stop_gradient(w)
        return (w[None, :] @ constant[:, None])[0, 0], (a, (b,))

    parameters = backend.initialize({"w": floats(3)})
    (_, (a, (b,))), gradients = backend.value_and_grad(function)(parameters)
    np.testing.assert_array_equal(backend.to_numpy(a), floats(3))
    np.testing.assert_array_equal(backend.to_numpy(b), 2 * floats(3))
    np.testing.assert_allclose(backend.to_numpy(gradients["w"]), 4 * floats(3), rtol=1e-6)


def test_without_gradients_computes_the_same_and_records_nothing(
    backend: Any, native: Native
) -> None:
    w = backend.initialize({"w": floats(3)})["w"]
    with backend.without_gradients():
        doubled = w * 2
    np.testing.assert_array_equal(backend.to_numpy(doubled), 2 * floats(3))
    assert not native.is_recorded(doubled)


def products_of(backend: Any) -> Any:
    """How the framework multiplies float32, as far as it can be asked."""
    module = importlib.import_module(backend.name)
    if backend.name == "torch":
        return module.get_float32_matmul_precision(), module.backends.cudnn.allow_tf32
    if backend.name == "jax":
        return module.config.jax_default_matmul_precision
    config = getattr(module, "config", None)  # MXNet has none
    return config and config.experimental.tensor_float_32_execution_enabled()


def test_full_precision_is_for_a_block_of_lines(backend: Any) -> None:
    before = products_of(backend)
    with backend.full_precision():
        full = {"torch": ("highest", False), "jax": "highest", "tensorflow": False}
        assert products_of(backend) == full.get(backend.name)
    assert products_of(backend) == before


def test_evaluating_leaves_a_model_as_it_was(backend: Any, native: Native) -> None:
    if not native.switches:
        pytest.skip("a call is in training if it is given random numbers")
    model, X = native.model(), backend.asarray(floats(5, 2))

    def draws() -> bool:
        return not np.array_equal(*(backend.to_numpy(native.predict(model, X)) for _ in range(2)))

    for training in (True, False):
        backend.set_training(model, training)
        assert draws() == training
        with backend.evaluating(model):
            assert not draws()
        assert draws() == training


def test_set_training_switches_dropout(backend: Any, native: Native) -> None:
    if not native.switches:
        pytest.skip("models of this framework have no such switch; see its own tests")
    model, X = native.model(), backend.asarray(floats(5, 2))

    def predictions() -> list[np.ndarray]:
        return [backend.to_numpy(native.predict(model, X)) for _ in range(2)]

    backend.set_training(model, True)
    assert not np.array_equal(*predictions())
    backend.set_training(model, False)
    assert np.array_equal(*predictions())
    backend.set_training(model, True)
    assert not np.array_equal(*predictions())
    backend.set_training(model, False)  # MXNet's mode is the thread's


def test_compile_computes_the_same_from_the_values_of_each_call(backend: Any) -> None:
    parameters = backend.initialize({"w": floats(3)})
    differentiate = backend.compile(backend.value_and_grad(sum_of_squares))
    for seed in (1, 2):
        w = floats(3, seed=seed)
        parameters = backend.assign(parameters, {"w": w})
        (value, _), gradients = differentiate(parameters)
        np.testing.assert_allclose(float(value), w @ w, rtol=1e-5)
        np.testing.assert_allclose(backend.to_numpy(gradients["w"]), 2 * w, rtol=1e-5)


def test_dry_run_runs_a_function_for_what_it_does_on_the_way(backend: Any) -> None:
    seen = []

    def function(x: Any) -> Any:
        seen.append(tuple(x.shape))
        return x * 2

    backend.dry_run(function, backend.asarray(floats(2, 3)))
    assert seen == [(2, 3)]


def test_seed_repeats_the_draws_that_follow(backend: Any) -> None:
    draws = []
    for seed in (3, 3, 4):
        backend.seed(seed)
        draws.append([backend.fresh_seed() for _ in range(3)])
    assert draws[0] == draws[1] != draws[2]


def test_fresh_seed_is_another_each_time_and_good_for_numpy(backend: Any) -> None:
    backend.seed(0)
    seeds = [backend.fresh_seed() for _ in range(20)]
    assert len(set(seeds)) == 20
    for seed in seeds:
        assert type(seed) is int
        np.random.default_rng(seed)


def test_devices_are_at_most_as_many_gpus_as_asked_for(backend: Any) -> None:
    assert backend.devices(0) == []
    assert len(backend.devices(1)) <= 1
    assert backend.devices(2)[:1] == backend.devices(1)


def test_cpu_is_a_device_that_computes(backend: Any) -> None:
    array = backend.asarray(floats(3), backend.cpu()) * 2
    np.testing.assert_array_equal(backend.to_numpy(array), 2 * floats(3))


def test_to_device_moves_arrays_and_tuples_of_them(backend: Any, native: Native) -> None:
    for device in [backend.cpu(), *backend.devices(1)]:
        one = backend.to_device(backend.asarray(floats(2)), device)
        np.testing.assert_array_equal(backend.to_numpy(one), floats(2))
        pair = backend.to_device((one, (one, one)), device)
        np.testing.assert_array_equal(backend.to_numpy(pair[1][1]), floats(2))


def test_to_device_gives_a_model_that_computes_there(backend: Any, native: Native) -> None:
    for device in [backend.cpu(), *backend.devices(1)]:
        model = backend.to_device(native.model(), device)
        X = backend.asarray(floats(5, 2), device)
        assert backend.to_numpy(native.predict(model, X)).shape == (5, 1)


def test_synchronize_returns_when_all_is_done(backend: Any) -> None:
    array = backend.asarray(floats(3)) * 2
    assert backend.synchronize() is None
    np.testing.assert_array_equal(backend.to_numpy(array), 2 * floats(3))


def test_describe_says_versions_devices_and_threads_as_plain_data(backend: Any) -> None:
    found = json.loads(json.dumps(backend.describe()))
    assert {"version", "devices", "threads", "numpy"} <= set(found)
    assert found["numpy"] == np.__version__
    assert found["version"] == importlib.import_module(backend.name).__version__
    assert found["devices"]


# The namespace: values

X = floats(3, 4)
POSITIVE = np.abs(X) + np.float32(0.1)
IDS = np.array([3, 0, 2])


def check(backend: Any, result: Any, expected: Any) -> None:
    values = backend.to_numpy(result)
    assert values.shape == np.shape(expected)
    assert values.dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "x", "truth"),
    [
        ("exp", X, np.exp(X)),
        ("log", POSITIVE, np.log(POSITIVE)),
        ("sqrt", POSITIVE, np.sqrt(POSITIVE)),
        ("tanh", X, np.tanh(X)),
        ("sigmoid", X, 1 / (1 + np.exp(-X))),
        ("abs", X, np.abs(X)),
    ],
)
def test_elementwise_functions(backend: Any, name: str, x: Any, truth: Any) -> None:
    check(backend, getattr(backend.xp, name)(backend.asarray(x)), truth)


def test_sigmoid_and_tanh_of_huge_values_are_their_limits(backend: Any, xp: Namespace) -> None:
    huge = backend.asarray(np.array([-1e4, 1e4], np.float32))
    check(backend, xp.sigmoid(huge), np.array([0, 1], np.float32))
    check(backend, xp.tanh(huge), np.array([-1, 1], np.float32))


def test_maximum_is_the_larger_of_two(backend: Any, xp: Namespace) -> None:
    y = floats(3, 4, seed=1)
    check(backend, xp.maximum(backend.asarray(X), backend.asarray(y)), np.where(y < X, X, y))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize(("name", "truth"), [("sum", np.sum), ("mean", np.mean), ("amax", np.max)])
def test_reductions(backend: Any, name: str, truth: Any, axis: int | None, keepdims: bool) -> None:
    reduce, x = getattr(backend.xp, name), backend.asarray(X)
    check(backend, reduce(x, axis=axis, keepdims=keepdims), truth(X, axis=axis, keepdims=keepdims))
    if not keepdims:
        check(backend, reduce(x, axis), truth(X, axis))
    if axis is None and not keepdims:
        check(backend, reduce(x), truth(X))


@pytest.mark.parametrize("shape", [(3, 4), (0,), (2, 1, 3)])
def test_sum_squares_is_that_of_all_values(
    backend: Any, xp: Namespace, shape: tuple[int, ...]
) -> None:
    x = floats(*shape)
    check(backend, xp.sum_squares(backend.asarray(x)), np.sum(x**2))


@pytest.mark.parametrize("shape", [(12,), (-1,), (2, 6), (2, -1, 3), (4, 3)])
def test_reshape_goes_row_by_row(backend: Any, xp: Namespace, shape: tuple[int, ...]) -> None:
    check(backend, xp.reshape(backend.asarray(X), shape), np.reshape(X, shape))


def test_transpose_exchanges_the_axes_of_a_matrix(backend: Any, xp: Namespace) -> None:
    check(backend, xp.transpose(backend.asarray(X)), X.T)


def test_gram_is_the_products_of_the_rows_of_every_matrix(backend: Any, xp: Namespace) -> None:
    x = floats(2, 3, 4)
    check(backend, xp.gram(backend.asarray(x)), np.einsum("tbh,tch->tbc", x, x))


@pytest.mark.parametrize("axis", [0, -1])
def test_concat_joins_along_an_axis(backend: Any, xp: Namespace, axis: int) -> None:
    y = floats(3, 4, seed=1)
    joined = xp.concat([backend.asarray(X), backend.asarray(y), backend.asarray(X)], axis)
    check(backend, joined, np.concatenate([X, y, X], axis))


def test_stack_joins_along_a_new_first_axis(backend: Any, xp: Namespace) -> None:
    check(backend, xp.stack([backend.asarray(X), backend.asarray(2 * X)]), np.stack([X, 2 * X]))


@pytest.mark.parametrize("rows", [1, 3])
def test_unstack_gives_the_parts_along_the_first_axis(
    backend: Any, xp: Namespace, rows: int
) -> None:
    parts = list(xp.unstack(backend.asarray(X[:rows])))
    assert len(parts) == rows
    for part, row in zip(parts, X, strict=False):
        check(backend, part, row)


def test_flip_reverses_the_first_axis(backend: Any, xp: Namespace) -> None:
    check(backend, xp.flip(backend.asarray(X)), X[::-1])


def test_sign_is_one_above_zero_and_minus_one_below(backend: Any, xp: Namespace) -> None:
    x = np.array([-2.5, 0.0, 1e-3], np.float32)
    check(backend, xp.sign(backend.asarray(x)), np.array([-1, 0, 1], np.float32))


def test_zeros_like_has_shape_and_type(backend: Any, xp: Namespace) -> None:
    check(backend, xp.zeros_like(backend.asarray(X)), np.zeros((3, 4), np.float32))


@pytest.mark.parametrize("ids", [IDS, IDS[:1], np.array([[1, 1, 2], [0, 3, 3]])])
def test_take_looks_rows_up(backend: Any, xp: Namespace, ids: Any) -> None:
    W = floats(4, 2)
    check(backend, xp.take(backend.asarray(W), backend.asarray(ids)), W[ids])


def test_add_rows_adds_up_the_rows_of_each_id(backend: Any, xp: Namespace) -> None:
    rows, ids = floats(5, 2), np.array([3, 0, 3, 1, 3])
    expected = np.stack([rows[1], rows[3], np.zeros(2), rows[0] + rows[2] + rows[4]])
    added = xp.add_rows(backend.asarray(rows), backend.asarray(ids), 4)
    check(backend, added, expected.astype(np.float32))


def test_pick_takes_one_entry_of_each_row(backend: Any, xp: Namespace) -> None:
    expected = np.array([X[0, 3], X[1, 0], X[2, 2]])
    check(backend, xp.pick(backend.asarray(X), backend.asarray(IDS)), expected)


def test_argmax_is_the_first_place_of_the_largest_along_the_last_axis(
    backend: Any, xp: Namespace
) -> None:
    x = np.array([[1.0, 3.0, 3.0], [2.0, 1.0, 0.0]], np.float32)
    found = xp.argmax(backend.asarray(x))
    assert xp.is_integer(found)
    assert backend.to_numpy(found).tolist() == [1, 0]


def test_count_above_tells_how_many_are_larger(backend: Any, xp: Namespace) -> None:
    found = xp.count_above(backend.asarray(X), 0.5)
    check(backend, found, np.sum(X > 0.5, dtype=np.float32))


@pytest.mark.parametrize("ids", [IDS, np.array([[1, 1, 2], [0, 3, 3]])])
def test_one_hot_is_float32(backend: Any, xp: Namespace, ids: Any) -> None:
    expected = (ids[..., None] == np.arange(5)).astype(np.float32)
    check(backend, xp.one_hot(backend.asarray(ids), 5), expected)


@pytest.mark.parametrize("type", ["int32", "uint8", "float32"])
def test_is_integer_tells_ids_from_numbers(backend: Any, xp: Namespace, type: str) -> None:
    assert bool(xp.is_integer(backend.asarray(np.ones(2, type)))) is (type != "float32")


def test_stop_gradient_in_the_namespace_keeps_values_and_is_constant(
    backend: Any, xp: Namespace
) -> None:
    def function(parameters: Mapping[str, Any]) -> tuple[Any, None]:
        return xp.sum(parameters["w"] * xp.stop_gradient(parameters["w"])), None

    w = backend.initialize({"w": floats(3)})
    check(backend, xp.stop_gradient(w["w"]), floats(3))
    _, gradients = backend.value_and_grad(function)(w)
    check(backend, gradients["w"], floats(3))


@pytest.mark.parametrize("length", [1, 3])
def test_scan_stacks_the_outputs_and_gives_the_last_state(
    backend: Any, xp: Namespace, length: int
) -> None:
    def step(state: Any, x: Any) -> tuple[Any, Any]:
        total, count = state
        return (total + x, count + 1), total * 10

    zero = backend.asarray(np.zeros(4, np.float32))
    one = backend.asarray(np.ones(4, np.float32))
    outputs, (total, count) = xp.scan(step, (zero, one), backend.asarray(X[:length]))
    sums = np.cumsum(X[:length], axis=0)
    check(backend, outputs, 10 * np.concatenate([np.zeros((1, 4), np.float32), sums[:-1]]))
    check(backend, total, sums[-1])
    check(backend, count, np.full(4, length + 1, np.float32))


def test_scan_reads_the_arrays_of_a_tuple_side_by_side(backend: Any, xp: Namespace) -> None:
    def step(state: Any, xs: Any) -> tuple[Any, Any]:
        a, b = xs
        return state + a, state - b

    Y = floats(3, 4, seed=1)
    zero = backend.asarray(np.zeros(4, np.float32))
    outputs, total = xp.scan(step, zero, (backend.asarray(X), backend.asarray(Y)))
    before = np.concatenate([np.zeros((1, 4), np.float32), np.cumsum(X, axis=0)[:-1]])
    check(backend, outputs, before - Y)
    check(backend, total, X.sum(axis=0))


def test_scan_stacks_each_output_of_a_tuple(backend: Any, xp: Namespace) -> None:
    zero = backend.asarray(np.zeros(4, np.float32))
    (sums, doubles), _ = xp.scan(lambda s, x: (s + x, (s + x, 2 * x)), zero, backend.asarray(X))
    check(backend, sums, np.cumsum(X, axis=0))
    check(backend, doubles, 2 * X)


# Gradients, against central differences

Function = Callable[..., Any]
Values = Mapping[str, np.ndarray]


def central_differences(function: Function, values: Values, ids: Any) -> dict[str, np.ndarray]:
    """The gradient of ``function(xp, ids, **values) -> scalar``, entry by entry."""
    h = 1e-6
    doubles = {name: value.astype(np.float64) for name, value in values.items()}
    gradients = {}
    for name, value in doubles.items():
        gradients[name] = np.empty(value.shape)
        for at in np.ndindex(value.shape):
            move = np.zeros(value.shape)
            move[at] = h
            above = function(numpy_xp, ids, **(doubles | {name: value + move}))
            below = function(numpy_xp, ids, **(doubles | {name: value - move}))
            gradients[name][at] = (above - below) / (2 * h)
    return gradients


def check_gradients(backend: Any, function: Function, values: Values, ids: Any = IDS) -> None:
    def value(parameters: Mapping[str, Any], ids: Any) -> tuple[Any, None]:
        return function(backend.xp, ids, **parameters), None

    parameters = backend.initialize(values)
    (result, _), gradients = backend.value_and_grad(value)(parameters, backend.asarray(ids))
    np.testing.assert_allclose(
        float(result), function(numpy_xp, ids, **values), rtol=1e-4, atol=1e-5
    )
    for name, expected in central_differences(function, values, ids).items():
        assert tuple(gradients[name].shape) == expected.shape
        np.testing.assert_allclose(
            backend.to_numpy(gradients[name]), expected, rtol=1e-3, atol=2e-5, err_msg=name
        )


def running_product(xp: Namespace, ids: Any, x: Any) -> Any:
    outputs, state = xp.scan(lambda s, x_t: (s * x_t, s + x_t), x[0], x)
    return outputs * state


# each of a variable x of shape (3, 4), or of two; POSITIVE has no ties, no zeros
DIFFERENTIABLE = {
    "exp": lambda xp, ids, x: xp.exp(x),
    "log": lambda xp, ids, x: xp.log(x),
    "sqrt": lambda xp, ids, x: xp.sqrt(x),
    "tanh": lambda xp, ids, x: xp.tanh(x),
    "sigmoid": lambda xp, ids, x: xp.sigmoid(x),
    "abs": lambda xp, ids, x: xp.abs(x - 0.5),
    "maximum": lambda xp, ids, x: xp.maximum(x, 0.7 * x * x),
    "sum": lambda xp, ids, x: xp.sum(x * x, axis=0) * xp.sum(x * x),
    "mean": lambda xp, ids, x: xp.mean(x * x, axis=-1, keepdims=True) * xp.mean(x * x),
    "amax": lambda xp, ids, x: xp.amax(x, axis=-1, keepdims=True) * xp.amax(x),
    "sum_squares": lambda xp, ids, x: xp.sum_squares(x * x),
    "reshape": lambda xp, ids, x: xp.reshape(x * x, (2, 6)) * xp.reshape(x, (2, 6))[1],
    "transpose": lambda xp, ids, x: xp.transpose(x) @ x,
    "gram": lambda xp, ids, x: xp.gram(xp.reshape(x, (2, 3, 2))),
    "concat": lambda xp, ids, x: xp.concat([x * x, x], -1),
    "stack": lambda xp, ids, x: xp.stack([x * x, x]),
    "unstack": lambda xp, ids, x: xp.concat(
        [part * (i + 1) for i, part in enumerate(xp.unstack(x))], 0
    ),
    "flip": lambda xp, ids, x: xp.flip(x) * x,
    "take": lambda xp, ids, x: xp.take(x * x, ids % 3),
    "add_rows": lambda xp, ids, x: xp.add_rows(x * x, ids, 4),
    "pick": lambda xp, ids, x: xp.pick(x * x, ids),
    "scan": running_product,
}
CONSTANT = {"sign", "zeros_like", "argmax", "count_above", "one_hot", "is_integer", "stop_gradient"}


def test_every_entry_of_the_namespace_is_differentiated_or_constant() -> None:
    not_everywhere = {"cross_entropy", "row_norms", "norms", "layer_numbers", "clip_together"}
    entries = {field.name for field in fields(Namespace)} - not_everywhere
    assert entries == set(DIFFERENTIABLE) | CONSTANT


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_of(backend: Any, name: str) -> None:
    # squared, so that every entry of the result weighs differently
    check_gradients(
        backend, lambda xp, ids, x: xp.sum(DIFFERENTIABLE[name](xp, ids, x) ** 2), {"x": POSITIVE}
    )


def test_zeros_like_is_constant(backend: Any) -> None:
    check_gradients(backend, lambda xp, ids, x: xp.sum(xp.zeros_like(x) * x + x), {"x": POSITIVE})


T, B, D, H = 3, 2, 4, 3


def cell_values(cell: str) -> dict[str, np.ndarray]:
    shapes = {"X": (T, B, D), "H": (B, H)}
    if cell == "lstm":
        shapes["C"] = (B, H)
    # W_xh and so on; the states' names have no underscore
    shapes |= CELLS[cell].shapes(D, H)
    return {name: floats(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}


def unrolled_value(formula: Any, num_states: int, xp: Namespace, X: Any, *rest: Any) -> Any:
    """A number that every output and every last state takes part in."""
    outputs, state = formula(xp, X, rest[:num_states], *rest[num_states:])
    return xp.sum(outputs**2) + sum(xp.sum(part) for part in state)


@pytest.mark.parametrize(
    ("cell", "formula", "omit"),
    [("rnn", rnn, ()), ("gru", gru, ()), ("gru", gru, ("b_hh",)), ("lstm", lstm, ())],
    ids=["rnn", "gru", "gru-reset-before-product", "lstm"],
)
def test_gradient_of_cell(backend: Any, cell: str, formula: Any, omit: tuple[str, ...]) -> None:
    values = {name: value for name, value in cell_values(cell).items() if name not in omit}
    states = CELLS[cell].num_states
    check_gradients(
        backend, lambda xp, ids, **p: unrolled_value(formula, states, xp, *p.values()), values
    )


def test_gradient_of_cell_that_reads_ids(backend: Any) -> None:
    values = cell_values("rnn")
    del values["X"]

    def value(xp: Namespace, ids: Any, **p: Any) -> Any:
        return unrolled_value(rnn, 1, xp, ids, *p.values())

    check_gradients(backend, value, values, ids=np.array([[0, 3], [3, 3], [1, 0]]))  # (T, B)


@pytest.mark.parametrize("shift", [0, 100])
def test_gradient_of_cross_entropy(backend: Any, shift: float) -> None:
    check_gradients(backend, lambda xp, ids, x: cross_entropy(xp, x + shift, ids), {"x": X})


def test_gradient_of_squared_loss(backend: Any) -> None:
    values = {"y_hat": floats(3, 1), "y": floats(3, seed=1)}
    check_gradients(backend, lambda xp, ids, y_hat, y: squared_loss(xp, y_hat, y), values)


@pytest.mark.parametrize("theta", [0.5, 1e3, np.inf])
def test_clipping_together_is_that_by_hand(backend: Any, theta: float) -> None:
    values = {"W": floats(40, 30), "b": floats(30), "one": floats(1)}
    given = {name: backend.asarray(value.copy()) for name, value in values.items()}
    clipped, before, after = clip(backend.xp, "global_norm", given, {}, theta)
    expected = by_hand("global_norm", values, {}, theta)
    for name, value in values.items():
        np.testing.assert_allclose(backend.to_numpy(clipped[name]), expected[name], rtol=1e-5)
        np.testing.assert_array_equal(backend.to_numpy(given[name]), value)
    assert float(before) == pytest.approx(norm_of(values), rel=1e-5)
    assert float(after) == pytest.approx(norm_of(expected), rel=1e-5)


@pytest.mark.parametrize("theta", [1.0, np.inf])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clipping_together_hides_nothing_that_is_not_finite(
    backend: Any, bad: float, theta: float
) -> None:
    given = {"W": backend.asarray(floats(3)), "b": backend.asarray(np.float32([1, bad]))}
    clipped, before, _ = clip(backend.xp, "global_norm", given, {}, theta)
    assert not np.isfinite(float(before))
    assert not np.isfinite(backend.to_numpy(clipped["b"])[1])
