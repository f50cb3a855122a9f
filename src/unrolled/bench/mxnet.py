"""Competitors in MXNet: Gluon's own loop. Its layer is one fused operation for all steps."""

from collections.abc import Callable
from typing import Any

import mxnet as mx
from mxnet import autograd, gluon

from unrolled import mxnet as unrolled
from unrolled.bench.task import CLIP_NORM, LEARNING_RATE, Batch, Competing, Task


def gluon_loop(task: Task) -> Competing:
    """The loop as Gluon has it: one-hot inputs, its layers, its loss, its trainer."""
    own = unrolled.recurrent_layer(task.cell, task.V, task.H, task.layers)
    net = unrolled.RNNModel(own, task.V)  # one-hot, the layer, and nn.Dense
    net.import_parameters(task.values())
    params = net.collect_params()
    optimizer = gluon.Trainer(params, "sgd", {"learning_rate": LEARNING_RATE})
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    state: Any = net.begin_state(task.B)

    def training_step(X: Any, Y: Any) -> Any:
        nonlocal state
        state = tuple(p.detach() for p in state) if isinstance(state, tuple) else state.detach()
        with autograd.record():
            logits, state = net(X, state)
            loss = loss_of(logits, Y.T.reshape(-1)).mean()
        loss.backward()
        # as_nd_ndarray: a view, all that clip_global_norm of MXNet 1.9 can take
        gluon.utils.clip_global_norm([p.grad().as_nd_ndarray() for p in params.values()], CLIP_NORM)
        optimizer.step(1)
        return loss

    def ready(batches: list[Batch]) -> Callable[[], float]:
        arrays = [tuple(unrolled.backend.asarray(ids) for ids in batch) for batch in batches]

        def turn() -> float:
            for X, Y in arrays:
                loss = training_step(X, Y)
            mx.nd.waitall()
            return float(loss.item())

        return turn

    return ready
