"""Recorded passes give at every replay what the passes themselves give.

Without a GPU, what stands in for a graph writes into the same tensors at every replay, too.
"""

from functools import partial

import pytest

from gpu import DEVICE, Recorder, needs_gpu, passage, record, there_and_back, torch
from unrolled.backends.torch import xp
from unrolled.functional import bptt
from unrolled.kernels.autograd import torch as autograd
from unrolled.kernels.graphs.torch import Captured, Graphs

cells = pytest.mark.parametrize("cell", bptt.GATES)
SIZES = (4, 3, 5)


def other(arrays):
    """The same shapes with other numbers."""
    return [tuple(0.5 * x for x in a) if isinstance(a, tuple) else 0.5 * a for a in arrays]


def assert_equal(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@cells
def test_every_replay_computes_with_the_arrays_of_its_call(cell):
    recorder = Recorder()
    graphs, arrays = Graphs(bptt, record=recorder), passage(cell, SIZES)
    for given in (arrays, other(arrays), arrays):
        assert_equal(there_and_back(graphs, cell, *given), there_and_back(bptt, cell, *given))
    assert recorder.count == 2  # the way there and the way back, once each


def test_the_way_back_is_recorded_with_the_way_there():
    recorder = Recorder()
    A, state, W_h, biases, _, _ = passage("lstm", SIZES)
    Graphs(bptt, record=recorder).forward(xp, "lstm", A, state, W_h, *biases)
    assert recorder.count == 2


@cells
def test_another_shape_is_another_graph(cell):
    recorder = Recorder()
    graphs = Graphs(bptt, record=recorder)
    for sizes in (SIZES, (1, 1, 1), (5, 3, 5), SIZES):
        given = passage(cell, sizes)
        assert_equal(there_and_back(graphs, cell, *given), there_and_back(bptt, cell, *given))
    assert recorder.count == 6


@cells
def test_two_ways_there_may_wait_for_their_ways_back(cell):
    graphs, first = Graphs(bptt, record=record), passage(cell, SIZES)
    calls, results = (first, other(first)), {}
    for passes in (bptt, graphs):
        tapes = [
            passes.forward(xp, cell, A, state, W_h, *biases)[1]
            for A, state, W_h, biases, _, _ in calls
        ]
        found = [
            passes.backward(xp, cell, tape, W_h, dY, d_last)
            for tape, (_, _, W_h, _, dY, d_last) in zip(tapes, calls, strict=True)
        ]
        results[passes] = [x for g in found for x in (g.inputs, g.recurrent, g.hidden, *g.state)]
    assert_equal(results[graphs], results[bptt])


def test_results_belong_to_the_caller():
    double = Captured(lambda x: (2 * x,) * 2, (torch.ones(3, device=DEVICE),), record)
    one, same = double(torch.ones(3, device=DEVICE))
    double(torch.zeros(3, device=DEVICE))
    assert one.tolist() == [2, 2, 2]
    assert one is same  # what is one tensor there is one here
    one.zero_()
    assert double(torch.ones(3, device=DEVICE))[0].tolist() == [2, 2, 2]


def test_training_changes_weights_in_place_and_goes_on():
    A, state, W_h, _, dY, _ = passage("rnn", SIZES)
    H = W_h.shape[0]
    paths = []
    for passes in (bptt, Graphs(bptt, record=record)):
        weights = [torch.eye(3 * H, H, device=DEVICE), W_h.clone(), torch.zeros(H, device=DEVICE)]
        weights = [weight.requires_grad_() for weight in weights]
        optimizer, X = torch.optim.SGD(weights, 0.1), torch.cat([A, A, A], -1)
        for _ in range(3):
            outputs, last = autograd.recur(passes, "rnn", X, state, weights)
            again, _ = autograd.recur(passes, "rnn", X, last, weights)  # two before a way back
            optimizer.zero_grad()
            ((outputs + again) * dY).mean().backward()
            optimizer.step()
        paths.append([weight.detach() for weight in weights])
    assert_equal(*paths)


def test_a_first_call_without_gradients_in_inference_mode_spoils_nothing():
    graphs, arrays = Graphs(bptt, record=record), passage("gru", SIZES)
    with torch.inference_mode():
        there_and_back(graphs, "gru", *arrays)
    A, state, W_h, biases, dY, _ = arrays
    X = A[..., :5].clone().requires_grad_()
    gates = bptt.gates(W_h, 3)
    weights = [part for W in gates for part in (W, W, torch.zeros_like(W[0]))] + list(biases)
    gradients = [
        torch.autograd.grad(autograd.recur(passes, "gru", X, state, weights)[0], X, dY)
        for passes in (graphs, bptt)
    ]
    assert_equal(*gradients)


@cells
def test_without_a_way_back_only_the_states_are_copied(cell):
    recorder = Recorder()
    A, state, W_h, biases, _, _ = passage(cell, SIZES)
    last, tape = Graphs(bptt, keep=False, record=recorder).forward(xp, cell, A, state, W_h, *biases)
    expected, expected_tape = bptt.forward(xp, cell, A, state, W_h, *biases)
    assert_equal((*last, *tape.new), (*expected, *expected_tape.new))
    assert tape.old == tape.kept == ()
    assert recorder.count == 1


@needs_gpu
def test_each_stream_has_a_graph_of_its_own():
    recorder = Recorder()
    graphs, arrays = Graphs(bptt, record=recorder), passage("lstm", SIZES)
    expected = there_and_back(bptt, "lstm", *arrays)
    for stream in (torch.cuda.current_stream(), torch.cuda.Stream()):
        stream.wait_stream(torch.cuda.default_stream())
        with torch.cuda.stream(stream):
            found = there_and_back(graphs, "lstm", *arrays)
        stream.synchronize()
        assert_equal(found, expected)
    assert recorder.count == 4


@needs_gpu
def test_within_a_graph_of_the_user_nothing_is_recorded():
    recorder = Recorder()
    graphs, arrays = Graphs(bptt, record=recorder), passage("lstm", SIZES)
    results, replay = record(partial(there_and_back, graphs, "lstm", *arrays))
    replay()
    assert_equal(results, there_and_back(bptt, "lstm", *arrays))
    assert recorder.count == 2  # in the warm-up, before
