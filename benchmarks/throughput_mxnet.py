"""Training throughput of the from-scratch RNN in MXNet beside Gluon's own layer and loop.

``python benchmarks/throughput_mxnet.py --help``, in an environment with MXNet; for what is
compared, and how, see ``common.py``. Gluon's layer is one fused operation for all steps.
"""

from typing import Any

import mxnet as mx
from common import BATCH_SIZE, Competitor, by_steps, race, trained
from mxnet import autograd, gluon

from unrolled import mxnet as unrolled


def gluon_loop(vocab_size: int, num_hiddens: int) -> Competitor:
    """The loop as Gluon has it: one-hot inputs, its layers, its loss, its trainer."""
    net = gluon.nn.Sequential()
    layer = gluon.rnn.RNN(num_hiddens, activation="tanh", input_size=vocab_size)
    linear = gluon.nn.Dense(vocab_size, in_units=num_hiddens)
    net.add(layer, linear)
    net.initialize()
    params = net.collect_params()
    optimizer = gluon.Trainer(params, "sgd", {"learning_rate": 1.0})
    loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
    state = layer.begin_state(BATCH_SIZE)

    def step(X: Any, Y: Any) -> None:
        nonlocal state
        state = [part.detach() for part in state]
        with autograd.record():
            H, state = layer(mx.npx.one_hot(X.T, vocab_size), state)  # (T, B, H)
            logits = linear(H.reshape(-1, num_hiddens))  # (T * B, V)
            loss = loss_fn(logits, Y.T.reshape(-1)).mean()
        loss.backward()
        # as_nd_ndarray: a view, all that clip_global_norm of MXNet 1.9 can take
        gluon.utils.clip_global_norm([p.grad().as_nd_ndarray() for p in params.values()], 1.0)
        optimizer.step(1)
        loss.item()

    return by_steps(step)


def competitors(V: int, H: int, data: Any) -> dict[str, Competitor]:
    layer = unrolled.recurrent_layer("rnn", V, H)
    return {
        "Gluon's own loop": gluon_loop(V, H),
        "unrolled, from scratch": trained(unrolled, unrolled.RNNModelScratch(V, H), data),
        "gluon.rnn in unrolled": trained(unrolled, unrolled.RNNModel(layer, V), data),
    }


if __name__ == "__main__":
    race(__doc__.splitlines()[0], unrolled, competitors)
