"""Options of frameworks' layers: the same function after a conversion, or a refusal."""

import importlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unrolled.backends.numpy import xp
from unrolled.errors import ParameterError, SettingError
from unrolled.frameworks import is_installed, load
from unrolled.functional.recurrent import CELLS
from unrolled.models.stepping import Parts

V, H, B, T = 7, 5, 3, 6
IDS = np.random.default_rng(1).integers(0, V, (B, T))


def needs(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.skipif(not is_installed(name), reason=name))


def torch_layer(kind: str, **options: Any) -> Any:
    return getattr(importlib.import_module("torch.nn"), kind)(V, H, **options)


def keras_layer(kind: str, both: Any = None, **options: Any) -> Any:
    layers = importlib.import_module("keras").layers
    layer = getattr(layers, kind)(H, **{"return_sequences": True, "return_state": True} | options)
    return layer if both is None else layers.Bidirectional(layer, merge_mode=both)


def keras_of_cells(kind: str, sizes: Any, both: bool = False, **options: Any) -> Any:
    layers = importlib.import_module("keras").layers
    cells = [getattr(layers, kind)(size) for size in sizes]
    layer = layers.RNN(cells, **{"return_sequences": True, "return_state": True} | options)
    return layers.Bidirectional(layer) if both else layer


def flax_layer(kind: str, count: int = 1, around: Any = None, **options: Any) -> Any:
    nn = importlib.import_module("flax.linen")
    named = {n: getattr(nn, v) if n.endswith("_fn") else v for n, v in options.items()}
    made = tuple(nn.RNN(getattr(nn, kind)(H, **named), **(around or {})) for _ in range(count))
    return made if count > 1 else made[0]


def gluon_layer(kind: str, **options: Any) -> Any:
    layer = getattr(importlib.import_module("mxnet").gluon.rnn, kind)(H, **options)
    layer.initialize()
    return layer


MAKE: dict[str, Callable[..., Any]] = {
    "torch": torch_layer,
    "tensorflow": keras_layer,
    "jax": flax_layer,
    "mxnet": gluon_layer,
}

SAME: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "torch": [
        *itertools.product(("RNN", "GRU", "LSTM"), ({}, {"bias": False}, {"num_layers": 2})),
        ("LSTM", {"dropout": 0.5, "num_layers": 2}),
    ],
    "tensorflow": [
        ("SimpleRNN", {"use_bias": False, "unroll": True}),
        ("GRU", {"use_bias": False, "recurrent_dropout": 0.3, "dropout": 0.2}),
        ("GRU", {"kernel_regularizer": "l2", "recurrent_constraint": "max_norm"}),
        ("LSTM", {"unit_forget_bias": False, "implementation": 1, "trainable": False}),
        ("LSTM", {"use_bias": False}),
    ],
    "jax": [
        ("SimpleCell", {}),
        ("GRUCell", {"count": 2}),
        ("LSTMCell", {"around": {"unroll": 2, "return_carry": True}}),
        ("OptimizedLSTMCell", {"around": {"time_major": True}}),
    ],
    "mxnet": [
        ("RNN", {"activation": "tanh", "num_layers": 2}),
        ("GRU", {"i2h_bias_initializer": "ones"}),
        ("LSTM", {"dropout": 0.4, "num_layers": 2}),
    ],
}
"""What leaves the function as it is."""

OTHERS: dict[str, list[tuple[str, dict[str, Any], str]]] = {
    "torch": [
        ("RNN", {"nonlinearity": "relu"}, "activation=relu.*nonlinearity is activation"),
        ("RNN", {"nonlinearity": "relu", "bias": False, "num_layers": 2}, "activation=relu"),
        ("LSTM", {"bidirectional": True}, "bidirectional"),
    ],
    "tensorflow": [
        ("SimpleRNN", {"activation": "relu"}, "activation=relu"),
        ("SimpleRNN", {"activation": None}, "activation=linear"),
        ("GRU", {"recurrent_activation": "hard_sigmoid"}, "recurrent_activation=hard_sigmoid"),
        ("GRU", {"reset_after": False}, "reset_after=False"),
        ("GRU", {"reset_after": False, "use_bias": False}, "reset_after=False"),
        ("LSTM", {"activation": "softsign", "both": "concat"}, "bidirectional, activation=soft"),
    ],
    "jax": [
        ("SimpleCell", {"activation_fn": "relu"}, "activation=relu.*activation_fn is activation"),
        ("SimpleCell", {"residual": True}, "residual=True"),
        ("GRUCell", {"gate_fn": "hard_sigmoid"}, "recurrent_activation=hard_sig.*gate_fn is rec"),
        ("OptimizedLSTMCell", {"activation_fn": "silu"}, "activation=silu"),
    ],
    "mxnet": [
        ("RNN", {}, "activation=relu"),  # Gluon's default
        ("GRU", {"bidirectional": True}, "bidirectional"),
        ("LSTM", {"state_clip_min": -1.0, "state_clip_max": 1.0}, "state_clip_max=1.0"),
    ],
}
"""What makes it another, and what the refusal says."""


def cases(table: Any) -> Any:
    def param(name: str, case: Any) -> Any:
        parts = [case] if isinstance(case, str) else [str(x) for x in case if not callable(x)]
        return pytest.param(name, case, marks=needs(name).marks, id="-".join([name, *parts]))

    return pytest.mark.parametrize(
        ("framework", "case"),
        [param(name, case) for name, every in table.items() for case in every],
    )


def with_values(model: Any, seed: int = 0) -> Any:
    """With weights so large that what the units compute is far from linear."""
    if hasattr(model, "initialize") and hasattr(model, "bind"):
        model = model.initialize()
    rng = np.random.default_rng(seed)
    frozen = getattr(getattr(model, "rnn", None), "trainable", True) is False
    if frozen:
        model.rnn.trainable = True
    places = {name: tuple(array.shape) for name, array in model.backend.named_arrays(model).items()}
    model = model.load_values({n: rng.normal(0, 0.9, s).astype("f4") for n, s in places.items()})
    if frozen:
        model.rnn.trainable = False
    return model


def layered(framework: str, case: Any, seed: int = 0) -> Any:
    kind, options, *_ = case
    model = load(framework).RNNModel(MAKE[framework](kind, **options), V)
    if framework == "torch":
        model.eval()
    return with_values(model, seed)


def written_out(framework: str, case: Any, seed: int = 0) -> Any:
    kind, options, *_ = case
    u, cell = load(framework), next((c for c in ("gru", "lstm") if c in kind.lower()), "rnn")
    layers = options.get("num_layers", options.get("count", 1))
    return with_values(u.LanguageModel(V, H, cell, layers), seed)


def logits(model: Any) -> Any:
    backend = model.backend
    with backend.without_gradients(), backend.evaluating(model):
        return backend.to_numpy(model(backend.asarray(IDS), model.begin_state(batch_size=B))[0])


def assert_same(model: Any, other: Any) -> None:
    given, expected = logits(model), logits(other)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(given, expected, rtol=2e-4, atol=2e-5)


@cases(SAME)
def test_what_changes_no_function_is_carried_both_ways(framework: str, case: Any) -> None:
    layer, scratch = layered(framework, case), written_out(framework, case, 1)
    scratch = scratch.import_parameters(layer.export_parameters())
    assert_same(scratch, layer)
    if not case[1].get("trainable", True):
        with pytest.raises(ParameterError, match=r"frozen.*trainable=True"):
            layer.import_parameters(scratch.export_parameters())
        return
    assert_same(layered(framework, case, 2).import_parameters(scratch.export_parameters()), layer)
    unbiased = not case[1].get("bias", case[1].get("use_bias", True))
    values = written_out(framework, case, 3).export_parameters()
    if unbiased:
        with pytest.raises(ParameterError, match=r"is not zero.*bias=False"):
            layer.import_parameters(values)
    else:
        assert_same(layer.import_parameters(values), written_out(framework, case, 3))


BOTH_WAYS: dict[str, Callable[[], Any]] = {
    "torch": lambda: torch_layer("LSTM", bidirectional=True),
    "tensorflow": lambda: keras_layer("LSTM", both="concat"),
    "jax": lambda: flax_of(
        lambda nn: nn.Bidirectional(*(nn.RNN(nn.LSTMCell(H)) for _ in range(2)))
    ),
    "mxnet": lambda: gluon_layer("LSTM", bidirectional=True),
}


@pytest.mark.parametrize("framework", [needs(name) for name in BOTH_WAYS])
def test_two_directions_are_the_formula_from_both_ends(framework: str) -> None:
    model = with_values(load(framework).RNNModel(BOTH_WAYS[framework](), V))
    values, halves = model.export_parameters(), []
    for direction, order in (("forward.", 1), ("backward.", -1)):
        weights = [values[direction + name] for name in CELLS["lstm"].weights]
        zeros = (np.zeros((B, H), np.float32),) * 2
        halves.append(CELLS["lstm"].forward(xp, IDS.T[::order], zeros, *weights)[0][::order])
    expected = np.concatenate(halves, -1).reshape(-1, 2 * H) @ values["W_hq"] + values["b_q"]
    np.testing.assert_allclose(logits(model), expected, rtol=1e-4, atol=1e-5)


@cases(OTHERS)
def test_another_function_is_carried_to_its_like_only(framework: str, case: Any) -> None:
    layer, scratch = layered(framework, case), written_out(framework, case)
    values = {name: value.copy() for name, value in layer.export_parameters().items()}
    with pytest.raises(ParameterError, match=case[2]):
        scratch.import_parameters(values)
    with pytest.raises(ParameterError, match=case[2]):
        layer.import_parameters(scratch.export_parameters())
    assert_same(layered(framework, case, 1).import_parameters(values), layer)
    if "relu" in case[2] and "bidir" not in case[2]:
        assert Parts.of(values).cell.engine == "rnn_relu"
    else:
        with pytest.raises(ParameterError, match="no recurrent language model of ours"):
            Parts.of(values)


def own(base: Any, *arguments: Any, **options: Any) -> Any:
    """A layer of a subclass, which may compute anything."""
    return type("Own", (base,), {})(*arguments, **options)


def weight_normed() -> Any:
    parametrizations = importlib.import_module("torch").nn.utils.parametrizations
    return parametrizations.weight_norm(torch_layer("LSTM"), "weight_hh_l0")


def flax_of(make: Callable[[Any], Any]) -> Any:
    return make(importlib.import_module("flax.linen"))


def nnx_layer() -> Any:
    nnx = importlib.import_module("flax.nnx")
    return nnx.RNN(nnx.GRUCell(V, H, rngs=nnx.Rngs(0)))


REFUSED: dict[str, list[tuple[str, Callable[[], Any]]]] = {
    "torch": [
        ("proj_size=2", lambda: torch_layer("LSTM", proj_size=2)),
        (
            f"input_size={V} and batch_first=False",
            lambda: importlib.import_module("torch.nn").RNN(V + 1, H),
        ),
        ("batch_first=True", lambda: torch_layer("LSTM", batch_first=True)),
        ("a GRUCell; it needs", lambda: torch_layer("GRUCell")),
        ("of type ParametrizedLSTM", weight_normed),
        ("of type Own", lambda: own(type(torch_layer("GRU")), V, H)),
    ],
    "tensorflow": [
        ("GRU with go_backwards=True", lambda: keras_layer("GRU", go_backwards=True)),
        ("LSTM with stateful=True", lambda: keras_layer("LSTM", stateful=True)),
        ("LSTM with return_state=False", lambda: keras_layer("LSTM", return_state=False)),
        *(
            (r"return_sequences=True|rnn_layer is \[\]", make)
            for make in (
                lambda: keras_layer("SimpleRNN", return_sequences=False, return_state=False),
                lambda: keras_of_cells("GRUCell", (4, 4), return_state=False),
                lambda: keras_of_cells("GRUCell", (4, 5)),
                lambda: keras_of_cells("GRUCell", (4, 4), go_backwards=True),
                lambda: keras_of_cells("LSTMCell", (4, 4), both=True),
                lambda: importlib.import_module("keras").layers.Dense(4),
                lambda: [keras_layer("GRU"), keras_layer("SimpleRNN")],
                list,
            )
        ),
        ("merge_mode=sum", lambda: keras_layer("GRU", both="sum")),
        ("activation=<lambda>", lambda: keras_layer("SimpleRNN", activation=lambda x: x * 2)),
        (
            "of type Own",
            lambda: own(type(keras_layer("LSTM")), H, return_sequences=True, return_state=True),
        ),
    ],
    "jax": [
        ("reverse=True", lambda: flax_layer("GRUCell", around={"reverse": True})),
        (
            "merge_fn",
            lambda: flax_of(
                lambda nn: nn.Bidirectional(
                    nn.RNN(nn.GRUCell(H)), nn.RNN(nn.GRUCell(H)), merge_fn=lambda a, b: a + b
                )
            ),
        ),
        (
            "activation_fn=<lambda>",
            lambda: flax_of(lambda nn: nn.RNN(nn.SimpleCell(H, activation_fn=lambda x: x * 2))),
        ),
        ("MGUCell", lambda: flax_layer("MGUCell")),
        ("RNNModel takes", lambda: (flax_layer("GRUCell"), flax_layer("SimpleCell"))),
        (
            "RNNModel takes",
            lambda: flax_of(lambda nn: tuple(nn.RNN(nn.GRUCell(size)) for size in (H, H + 1))),
        ),
        ("RNNModel takes", lambda: flax_of(lambda nn: nn.Dense(3))),
        ("of type Own", lambda: flax_of(lambda nn: nn.RNN(own(nn.GRUCell, H)))),
        ("it was given GRUCell", nnx_layer),
    ],
    "mxnet": [
        ("a GRUCell; it needs", lambda: gluon_layer("GRUCell")),
        ("layout='NTC'", lambda: gluon_layer("GRU", layout="NTC")),
        (f"input_size={V}, layout='TNC'", lambda: gluon_layer("RNN", input_size=V + 1)),
    ],
}
"""Layers without a counterpart, or that do not fit `RNNModel`, and what the refusal says."""


@cases(REFUSED)
def test_a_layer_without_counterpart_is_refused_in_words(framework: str, case: Any) -> None:
    words, make = case
    with pytest.raises((SettingError, ParameterError), match=words):  # noqa: PT012 (either may)
        model = load(framework).RNNModel(make(), V)
        model = model.initialize() if framework == "jax" else model
        model.export_parameters()


@pytest.mark.parametrize("framework", ["torch", "tensorflow"], ids=str)
def test_dropout_is_carried_in_evaluation_only(framework: str) -> None:
    if not is_installed(framework):
        pytest.skip(framework)
    kind, options = "GRU", {"dropout": 0.4}
    model = layered(
        framework, (kind, options | ({"num_layers": 2} if framework == "torch" else {}))
    )
    values = model.export_parameters()
    model.backend.set_training(model, True)
    for carry in (model.export_parameters, lambda: model.import_parameters(values)):
        with pytest.raises(ParameterError, match=r"dropout=0\.4, and the model is in training"):
            carry()


def test_keras_arrays_are_found_by_what_they_are() -> None:
    if not is_installed("tensorflow"):
        pytest.skip("TensorFlow")
    model = layered("tensorflow", ("GRU", {}))
    model.rnn.cell.recurrent_kernel = model.rnn.cell.recurrent_kernel * 2  # no variable any more
    with pytest.raises(ParameterError, match=r"the recurrent_kernel of .* is none of"):
        model.export_parameters()
    model = layered("tensorflow", ("GRU", {}))
    model.linear.enable_lora(2)
    with pytest.raises(ParameterError, match=r"the kernel of dense.* is none of"):
        model.export_parameters()


def test_functions_of_one_name_are_one_function() -> None:
    if not (is_installed("jax") and is_installed("tensorflow")):
        pytest.skip("JAX and TensorFlow")
    keras_own = importlib.import_module("unrolled.tensorflow.rnn_model").FUNCTIONS
    flax_own = importlib.import_module("unrolled.jax.rnn_model").FUNCTIONS
    x = np.linspace(-9, 9, 200, dtype=np.float32)
    for name in keras_own.keys() & flax_own.keys():
        first, *others = [np.asarray(f(x)) for f in (*keras_own[name], *flax_own[name])]
        for other in others:
            np.testing.assert_allclose(other, first, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("to", ["torch", "tensorflow", "jax"])
def test_relu_goes_to_relu_of_every_framework(to: str) -> None:
    if not (is_installed(to) and is_installed("torch")):
        pytest.skip(to)
    every = {
        "torch": SAME["torch"][0],
        "tensorflow": OTHERS["tensorflow"][0],
        "jax": OTHERS["jax"][0],
    }
    layer = layered("torch", OTHERS["torch"][0])
    other = layered(to, every[to] if to != "torch" else OTHERS["torch"][0], 1)
    assert_same(other.import_parameters(layer.export_parameters()), layer)


@pytest.mark.parametrize("framework", [needs(name) for name in MAKE])
def test_a_readers_own_function_under_our_names_is_named(framework: str) -> None:
    u = load(framework)
    d2l = load(framework, "unrolled.d2l")

    def forward(inputs: Any, state: Any, params: Any) -> Any:
        logits, state = d2l.rnn(inputs, state, params)
        return logits * 2, state

    written = with_values(d2l.RNNModelScratch(V, H, forward_fn=forward))
    values = written.export_parameters()
    like = with_values(d2l.RNNModelScratch(V, H, forward_fn=forward), 1)
    assert_same(like.import_parameters(values), written)
    layer = u.RNNModel(u.recurrent_layer("rnn", V, H), V)
    with pytest.raises(ParameterError, match="rnn, forward_fn=forward; this model"):
        layer.import_parameters(values)
