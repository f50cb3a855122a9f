"""The competitor in JAX: a hand-written training step with `jax.lax.scan`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unrolled.bench.task import CLIP_NORM, LEARNING_RATE, Batch, Competing, Task
from unrolled.functional.bptt import GATES

# One time step of each cell: A has what the input contributes, (B, H) for each gate, W the
# recurrent weights. A product for each gate: XLA spends more on cutting a wide one up again.


def rnn_step(H: Any, A: Any, W: Any, b_hh: Any) -> Any:
    """The state is ``H``."""
    return jnp.tanh(A["h"] + H @ W["h"])


def gru_step(H: Any, A: Any, W: Any, b_hh: Any) -> Any:
    """The state is ``H``."""
    Z = jax.nn.sigmoid(A["z"] + H @ W["z"])
    R = jax.nn.sigmoid(A["r"] + H @ W["r"])
    return Z * H + (1 - Z) * jnp.tanh(A["h"] + R * (H @ W["h"] + b_hh))


def lstm_step(state: Any, A: Any, W: Any, b_hh: Any) -> Any:
    """The state is ``(H, C)``."""
    H, C = state
    I, F, O, S_c = (A[g] + H @ W[g] for g in "ifoc")  # noqa: E741
    C = jax.nn.sigmoid(F) * C + jax.nn.sigmoid(I) * jnp.tanh(S_c)
    return jax.nn.sigmoid(O) * jnp.tanh(C), C


STEPS: dict[str, Callable[..., Any]] = {"rnn": rnn_step, "gru": gru_step, "lstm": lstm_step}


def scan(task: Task) -> Competing:
    """What one would write for speed: the whole training step as one compiled function.

    Rows looked up instead of one-hot products, `jax.lax.scan` over one product a step, then
    clipping and SGD; no check, no record of the loss.
    """
    values, gates = task.values(), GATES[task.cell]
    params: Any = {name: jnp.asarray(value) for name, value in values.items()}
    zeros = jnp.zeros((task.B, task.H))
    state: Any = (zeros, jnp.zeros((task.B, task.H))) if task.cell == "lstm" else zeros
    cell = STEPS[task.cell]

    def loss(p: Any, state: Any, X: Any, Y: Any) -> tuple[Any, Any]:
        def step(state: Any, A_t: Any) -> tuple[Any, Any]:
            state = cell(state, A_t, W_h, p.get("b_hh"))
            return state, state[0] if task.cell == "lstm" else state

        W_h = {g: p[f"W_h{g}"] for g in gates}
        A = {g: p[f"W_x{g}"][X.T] + p[f"b_{g}"] for g in gates}  # (T, B, H) each
        state, outputs = jax.lax.scan(step, state, A)  # (T, B, H)
        logits = outputs.reshape(-1, task.H) @ p["W_hq"] + p["b_q"]  # (T * B, V)
        log_p = jax.nn.log_softmax(logits)
        return -jnp.mean(jnp.take_along_axis(log_p, Y.T.reshape(-1, 1), axis=1)), state

    def training_step(p: Any, state: Any, X: Any, Y: Any) -> tuple[Any, Any, Any]:
        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(p, state, X, Y)
        norm = jnp.sqrt(sum(jnp.sum(grad**2) for grad in grads.values()))
        scale = LEARNING_RATE * CLIP_NORM / jnp.maximum(norm, CLIP_NORM)
        return {name: p[name] - scale * grads[name] for name in p}, state, value

    device = jax.devices("gpu" if task.gpu else "cpu")[0]
    # the old parameters' memory is given to the new ones
    compiled = jax.jit(training_step, donate_argnums=(0, 1))
    params, state = jax.device_put((params, state), device)

    def ready(batches: list[Batch]) -> Callable[[], float]:
        put = partial(jax.device_put, device=device)
        arrays = [(put(X.astype(np.int32)), put(Y.astype(np.int32))) for X, Y in batches]

        def turn() -> float:
            nonlocal params, state
            for X, Y in arrays:
                params, state, loss = compiled(params, state, X, Y)
            jax.block_until_ready((params, state))
            return float(loss)

        return turn

    return ready
