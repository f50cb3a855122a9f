"""Training throughput of the from-scratch RNN on JAX beside a hand-written scan.

``python benchmarks/throughput_jax.py --help``; for what is compared, and how, see
``common.py``. The competitor is what one would write for speed: rows looked up instead of
one-hot products, `jax.lax.scan`, and forward, backward, clipping and SGD in one jitted
function, without any check or record of the loss.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import BATCH_SIZE, Competitor, by_steps, race, trained

from unrolled import jax as unrolled


def one_jitted_scan(vocab_size: int, num_hiddens: int) -> Callable[[Any, Any], None]:
    """The whole training step as one compiled function."""
    H, V = num_hiddens, vocab_size
    rng = np.random.default_rng(0)
    shapes = {"W_xh": (V, H), "W_hh": (H, H), "b_h": (H,), "W_hq": (H, V), "b_q": (V,)}
    params = {name: jnp.array(rng.normal(0, 0.01, s), jnp.float32) for name, s in shapes.items()}
    state = jnp.zeros((BATCH_SIZE, H))

    def loss(p: Any, H_t: Any, X: Any, Y: Any) -> tuple[Any, Any]:
        def cell(H_t: Any, A_t: Any) -> tuple[Any, Any]:
            H_t = jnp.tanh(A_t + H_t @ p["W_hh"])
            return H_t, H_t

        H_t, outputs = jax.lax.scan(cell, H_t, p["W_xh"][X.T] + p["b_h"])  # (T, B, H)
        logits = outputs.reshape(-1, H) @ p["W_hq"] + p["b_q"]  # (T * B, V)
        log_p = jax.nn.log_softmax(logits)
        return -jnp.mean(jnp.take_along_axis(log_p, Y.T.reshape(-1, 1), axis=1)), H_t

    def training_step(p: Any, H_t: Any, X: Any, Y: Any) -> tuple[Any, Any, Any]:
        (value, H_t), grads = jax.value_and_grad(loss, has_aux=True)(p, H_t, X, Y)
        norm = jnp.sqrt(sum(jnp.sum(grad**2) for grad in grads.values()))
        scale = jnp.minimum(1.0, 1.0 / norm)
        return {name: p[name] - 1.0 * scale * grads[name] for name in p}, H_t, value

    compiled = jax.jit(training_step)

    def step(X: Any, Y: Any) -> None:
        nonlocal params, state
        params, state, _ = compiled(params, state, X, Y)

    return step


def competitors(vocab_size: int, num_hiddens: int, data: Any) -> dict[str, Competitor]:
    V, H = vocab_size, num_hiddens
    layer = unrolled.recurrent_layer("rnn", V, H)
    return {
        "one jitted scan": by_steps(one_jitted_scan(V, H)),
        "unrolled, from scratch": trained(unrolled, unrolled.RNNModelScratch(V, H), data),
        "nn.RNN in unrolled": trained(unrolled, unrolled.RNNModel(layer, V), data),
    }


if __name__ == "__main__":
    race(__doc__.splitlines()[0], unrolled, competitors)
