"""``watch(loss)`` in JAX, against automatic differentiation of loops written out."""

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("optax")

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from unrolled import jax as u
from unrolled.errors import SettingError
from unrolled.telemetry.reading import read_telemetry
from unrolled.watch import tap, watch
from unrolled.watch.jax import norms_by_name

T, B, D, H = 6, 4, 3, 5


def near(value, rel=1e-4):
    return pytest.approx(value, rel=rel)


def alike(found, expected, rtol=1e-4, atol=1e-5):
    """Arrays of a dict, or of dicts in it."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


def start(seed=0):
    key = iter(jax.random.split(jax.random.key(seed), 9))
    params = {
        "x": jax.random.normal(next(key), (D, H)) / 2,
        "h": jax.random.normal(next(key), (H, H)) / 2,
        "out": jax.random.normal(next(key), (H, 1)),
    }
    return params, jax.random.normal(next(key), (T, B, D))


def cell(params, h, x):
    return jnp.tanh(x @ params["x"] + h @ params["h"])


def same(function):
    return function


def scanned(name=None, around=same):
    """The loss of a scan, with its step under a transformation, and tapped under a name."""

    def loss(params, x):
        @around
        def step(h, x):
            h = cell(params, h, x)
            h = h if name is None else tap(h, name)
            return h, h @ params["out"]

        _, y = jax.lax.scan(step, jnp.zeros((B, H)), x)
        return jnp.sum(y[-1] ** 2) + 0.1 * jnp.sum(y)

    return loss


loss = scanned()


def in_python(around=same):
    """The same loss of a loop in Python, tapped."""

    def loss(params, x):
        @around
        def step(h, x):
            h = tap(cell(params, h, x), "mine")
            return h, h @ params["out"]

        h, total = jnp.zeros((B, H)), 0.0
        for x_t in x:
            h, y = step(h, x_t)
            total = total + 0.1 * jnp.sum(y)
        return total + jnp.sum(y**2)

    return loss


def saving(function):
    policy = jax.checkpoint_policies.dots_saveable
    return jax.checkpoint(function, policy=policy, prevent_cse=False)


@pytest.fixture(scope="module")
def truth():
    """Value, gradients and the norms ``||dL/dh_t||`` (T, B) of a loop written out."""
    params, x = start()

    def unrolled(params, zeros):
        h, total = jnp.zeros((B, H)), 0.0
        for t in range(T):
            h = cell(params, h, x[t]) + zeros[t]
            y = h @ params["out"]
            total = total + 0.1 * jnp.sum(y)
        return total + jnp.sum(y**2)

    of_both = jax.jit(jax.value_and_grad(unrolled, (0, 1)))
    value, (gradients, arrived) = of_both(params, jnp.zeros((T, B, H)))
    return float(value), gradients, np.linalg.norm(arrived, axis=2)


LOSSES = {
    "a scan": loss,
    "a tapped scan": scanned("mine"),
    "a compiled step": scanned(None, jax.jit),
    "a checkpointed step": scanned(None, jax.checkpoint),
    "a step that saves products": scanned(None, saving),
    "a tapped and checkpointed step": scanned("mine", jax.checkpoint),
    "a checkpointed scan": jax.checkpoint(loss),
    "checkpoints in each other, compiled": jax.jit(jax.checkpoint(scanned(None, jax.checkpoint))),
    "taps in Python": in_python(),
    "taps in Python, compiled": in_python(jax.jit),
    "taps in Python, checkpointed": in_python(jax.checkpoint),
}


@pytest.mark.parametrize(
    ("form", "compiled"),
    [*((form, True) for form in LOSSES), ("a scan", False), ("a tapped scan", False)],
)
def test_gradients_through_time_are_those_of_a_loop_written_out(form, compiled, truth):
    (params, x), (value, gradients, norms) = start(), truth
    watched = watch(LOSSES[form])
    found, grads, seen = (jax.jit(watched) if compiled else watched)(params, x)
    assert float(found) == near(value)
    alike(grads, gradients)
    record = watched.keep(seen)
    ((name, layer),) = record.layers.items()
    assert name == ("mine" if "tap" in form else "scan0")
    assert layer.hidden_gradient_mean == near(norms.mean(1).tolist())
    assert layer.hidden_gradient_max == near(norms.max(1).tolist())
    assert layer.weight_gradient_per_step == []
    assert record.loss == near(value)
    assert record.parameters["h"].gradient_norm == near(float(jnp.linalg.norm(gradients["h"])))
    assert watched.notes == {}


def test_a_tap_does_nothing_by_itself(truth):
    assert jax.jit(scanned("mine"))(*start()) == near(truth[0])


def test_every_scan_with_a_tap_of_one_name_is_a_layer_of_its_own(truth):
    params, x = start()
    tapped = scanned("mine")

    def thrice(params, x):
        # the second reads one more step than there are, so the two have different lengths
        longer = jnp.concatenate([x, x[:1]])
        return tapped(params, x) + tapped(params, longer) + in_python()(params, x[:2])

    watched = watch(thrice)
    layers = watched.keep(watched(params, x)[2]).layers
    found = {name: len(layer.hidden_gradient_mean) for name, layer in layers.items()}
    assert found == {"mine": T, "mine#2": T + 1, "mine#3": 2}
    assert layers["mine"].hidden_gradient_mean == near(truth[2].mean(1).tolist())
    assert watched.notes == {}


def test_clipping_and_updates_with_optax():
    params, x = start()
    watched = watch(loss, clips_at=0.5)
    clip, adam = optax.clip_by_global_norm(0.5), optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        _, grads, seen = watched(params, x)
        clipped, _ = clip.update(grads, clip.init(params))
        updates, state = adam.update(clipped, state, params)
        return optax.apply_updates(params, updates), state, seen.after(clipped, updates)

    state = adam.init(params)
    for number in (1, 2, 3):
        moved, state, seen = step(params, state)
        record = watched.keep(seen, epoch=1)
        assert (record.step, record.epoch) == (number, 1)
        assert record.clipped_norm == near(0.5)
        assert record.clip_coefficient == near(0.5 / record.gradient_norm)
        assert (record.clip_method, record.clip_threshold) == ("global_norm", 0.5)
        ratio = jnp.linalg.norm(moved["h"] - params["h"]) / jnp.linalg.norm(params["h"])
        assert record.parameters["h"].update_ratio == near(float(ratio), 1e-3)
        params = moved


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a complex parameter"])
def test_the_project_s_own_cells_have_the_split_too(beside):
    data = u.TextData("hello world " * 30, batch_size=4, num_steps=7, seed=0)
    bound = u.LanguageModel(len(data.vocab), num_hiddens=8).initialize()
    batch = next(iter(data.train_dataloader()))
    params = {"own": dict(u.backend.parameters(bound))}
    if beside:
        params["z"] = jnp.array(3.0 + 4.0j)

    def loss(params):
        own = bound.with_parameters(params["own"])
        return own.loss_and_state(batch, None)[0] + jnp.abs(params.get("z", 0.0))

    watched = watch(loss)
    value, grads, seen = jax.jit(watched)(params)
    record = watched.keep(seen)
    (layer,) = record.layers.values()
    expected = jax.jit(jax.grad(loss))(params)
    alike(grads, expected, 1e-3, 1e-6)
    assert record.loss == near(float(value))
    assert len(layer.hidden_gradient_mean) == len(layer.weight_gradient_per_step) == 7
    # the parts add up to a gradient that is no longer than all of them together
    whole = float(jnp.linalg.norm(expected["own"]["W_hh"]))
    assert 0 < whole <= sum(layer.weight_gradient_per_step) * (1 + 1e-5)
    assert not beside or record.parameters["z"].weight_norm == near(5.0)


@pytest.mark.parametrize(
    ("cell", "reverse"),
    [(nn.SimpleCell, False), (nn.GRUCell, True), (nn.OptimizedLSTMCell, False)],
)
def test_inside_flax(cell, reverse):
    model = nn.RNN(cell(H), reverse=reverse)
    x = jax.random.normal(jax.random.key(0), (B, T, D))
    params = model.init(jax.random.key(1), x)
    watched = watch(lambda params: jnp.sum(model.apply(params, x) ** 2))
    _, grads, seen = jax.jit(watched)(params)
    alike(grads, jax.jit(jax.grad(watched.loss))(params), 1e-3)
    record = watched.keep(seen)
    states = 2 if cell is nn.OptimizedLSTMCell else 1
    assert list(record.layers) == (["scan0.0", "scan0.1"] if states == 2 else ["scan0"])
    assert all(len(layer.hidden_gradient_mean) == T for layer in record.layers.values())
    assert set(record.parameters) == set(norms_by_name(params))
    assert all(name.startswith("params.") for name in record.parameters)


def test_several_scans_and_scans_without_states():
    def two(params, x):
        _, y = jax.lax.scan(lambda h, x: ((h := cell(params, h, x)), h), jnp.zeros((B, H)), x)
        z, _ = jax.lax.scan(lambda h, y: (0.5 * h + y, None), jnp.zeros((B, H)), y, reverse=True)
        count, _ = jax.lax.scan(lambda n, y: (n + 1, None), 0, y)
        return jnp.sum(z**2) * count

    params, x = start()
    watched = watch(two)
    _, _, seen = jax.jit(watched)(params, x)
    layers = watched.keep(seen).layers
    assert list(layers) == ["scan0", "scan1"]
    # back from the first step, which is the last that the second one reads, each counts half
    assert layers["scan1"].decay_per_step == near(0.5)
    assert layers["scan1"].hidden_gradient_mean[0] > layers["scan1"].hidden_gradient_mean[-1]


def test_auxiliary_results_pass():
    watched = watch(lambda w, x: (jnp.sum(w * x), {"twice": 2 * x}), has_aux=True)
    (value, aux), grads, seen = jax.jit(watched)(jnp.ones(3), jnp.arange(3.0))
    assert (float(value), aux["twice"].tolist(), grads.tolist()) == (3.0, [0, 2, 4], [0, 1, 2])
    assert list(watched.keep(seen).parameters) == ["params"]


def test_what_was_not_finite_first():
    watched = watch(lambda w: jnp.sum(jnp.log(w)))
    _, _, seen = watched(jnp.array([-1.0, 1.0]))
    assert watched.keep(seen).first_not_finite == "the loss"
    watched = watch(lambda w: jnp.sum(jnp.sqrt(w)))
    _, _, seen = watched(jnp.zeros(2))
    record = watched.keep(seen)
    assert record.first_not_finite == "the gradient of params"
    assert not record.parameters["params"].finite


def test_records_go_to_a_run_directory(tmp_path):
    params, x = start()
    with watch(loss, out=tmp_path / "mine") as watched:
        _, _, seen = watched(params, x)
        for _ in range(3):
            watched.keep(seen, learning_rate=0.1)
        assert watched.diagnose() == []
        kept = watched.records
    assert [record.learning_rate for record in kept] == [0.1] * 3
    with pytest.warns(RuntimeWarning, match="mine-2"):
        second = watch(loss, out=tmp_path / "mine")
    second.close()
    with watch(loss, out=second.path, overwrite=True) as third:
        assert third.path == second.path == tmp_path / "mine-2"
    read, skipped = read_telemetry(tmp_path / "mine" / "telemetry.jsonl")
    assert (list(read), skipped) == (kept, [])


def test_what_is_no_loss_is_an_error():
    with pytest.raises(SettingError, match="given a int"):
        watch(3)


def test_a_compiled_cell_that_is_called_twice_has_two_states():
    params, x = start()
    square = params["h"]

    def of(decorated):
        layer = decorated(lambda h, x: (new := jnp.tanh(x + h @ square), new))

        def other(start, x):
            def step(states, x):
                below, y = layer(states[0], x)
                above, y = layer(states[1], y)
                return (below, above), y

            _, y = jax.lax.scan(step, (start, start), x)
            return jnp.sum(y**2)

        return other

    h, inputs = jnp.zeros((B, H)), x @ params["x"]
    one, two = (watch(of(how))(h, inputs)[2].layers for how in (jax.jit, lambda f: f))
    assert set(one) == {"scan0.0", "scan0.1"}
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-6)
    assert not np.allclose(one["scan0.0"], one["scan0.1"])


def nested(params, x):
    def outer(h, part):
        return jax.lax.scan(lambda h, x: (cell(params, h, x), None), h, part)[0], None

    return jnp.sum(jax.lax.scan(outer, jnp.zeros((B, H)), x.reshape(2, 3, B, D))[0] ** 2)


def chosen(params, x):
    return jax.lax.cond(x.sum() > 0, loss, lambda params, x: jnp.zeros(()), params, x)


def chosen_tap(params, x):
    step = lambda h: tap(cell(params, h, x[0]), "mine")  # noqa: E731
    h = jax.lax.cond(x.sum() > 0, step, lambda h: h, jnp.ones((B, H)))
    return jnp.sum(h @ params["out"])


def empty(params, x):
    value = loss(params, x[:1])
    none = jax.lax.scan(lambda h, x: (cell(params, h, x), None), jnp.zeros((B, H)), x[:0])[0]
    return value + jnp.sum(none)


INSIDE = "scans inside it are not looked into"


@pytest.mark.parametrize(
    ("other", "notes", "lengths"),
    [
        (nested, {"scan0": INSIDE}, {"scan0": 2}),
        (chosen, {"cond": INSIDE}, {}),
        (chosen_tap, {"mine": "not seen: this tap is inside a cond"}, {}),
        (empty, {}, {"scan0": 1}),
    ],
)
def test_what_is_left_as_it_is_has_a_note(other, notes, lengths):
    params, x = start()
    watched = watch(other)
    value, _, seen = watched(params, x)
    assert float(value) == near(float(other(params, x)))
    layers = watched.keep(seen).layers
    assert {name: len(layer.hidden_gradient_mean) for name, layer in layers.items()} == lengths
    assert watched.notes == notes


def test_arguments_and_results_that_are_no_arrays():
    params, x = start()

    def other(params, x, kind, lengths, *, scale):
        assert kind == "mean"
        value = scale * loss(params, x[: int(lengths.max())])
        return value, {"kind": kind, "count": 3, "x": x, "none": None}

    watched = watch(other, has_aux=True)
    lengths = np.array([2, T])
    (value, aux), grads, _ = watched(params, x, "mean", lengths, scale=2.0)
    (expected, given), gradients = jax.value_and_grad(other, has_aux=True)(
        params, x, "mean", lengths, scale=2.0
    )
    assert float(value) == near(float(expected))
    assert (aux["kind"], aux["count"], aux["none"]) == ("mean", 3, None)
    assert jnp.array_equal(aux["x"], given["x"])
    np.testing.assert_allclose(grads["h"], gradients["h"], rtol=1e-4, atol=1e-5)
