"""What runs from its list of operations gives what the computation itself would give."""

import gc
import logging
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from unrolled.kernels import native  # noqa: E402
from unrolled.kernels.listed import torch as lists  # noqa: E402
from unrolled.kernels.listed.torch import NotWorthListingError, UnlistableError, listed  # noqa: E402

pytestmark = pytest.mark.usefixtures("instructions")
needs_kernels = pytest.mark.skipif(not native.available()[0], reason="no native kernels")


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def in_steps(x):
    """Numbers in memory of their own, one view of it, two operations in place."""
    h = torch.empty_like(x)
    h.copy_(2 * x)
    h[0].add_(x[1])
    return h.tanh_()


UNARY = {
    "tanh": torch.tanh,
    "double": lambda x: x + x,
    "rows": lambda x: x.flip(0).t().contiguous().t(),
    "halves": lambda x: torch.cat([part * 2 for part in x.chunk(2)]),
    "in place": in_steps,
    "stacked": lambda x: torch.stack([x, -x]).sum(0),
    "largest": lambda x: x.max(1, keepdim=True).values - x,
    "constant": lambda x: x * torch.tensor([1.0, 2.0, 3.0]),
    "softmax": lambda x: torch.log_softmax(x, -1),
    "drawn": lambda x: torch.nn.functional.dropout(x, 0.5),
    "filled": lambda x: x + torch.zeros(4, 3).fill_(0.5).add_(1),
}


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(UNARY)), min_size=1, max_size=12))
def test_a_list_gives_what_the_computation_gives(names):
    x, w = drawn(4, 3), drawn(3, 3, seed=1).requires_grad_()

    def compute():
        w.grad = None
        h = x @ w
        for name in names:
            h = UNARY[name](h) @ w
        loss = (h * h).mean()
        loss.backward()
        return loss.detach(), h.detach(), w.grad

    torch.manual_seed(3)
    results, replay = listed(compute)
    for seed in range(4):
        before = torch.get_rng_state()
        replay()
        found, after = [part.clone() for part in results], torch.get_rng_state()
        torch.set_rng_state(before)
        if seed:  # the first replay finds what the computation gave while it was listed
            for part, expected in zip(found, compute(), strict=True):
                torch.testing.assert_close(part, expected, rtol=0, atol=0, equal_nan=True)
            assert torch.equal(after, torch.get_rng_state())
        x.copy_(drawn(4, 3, seed=seed + 2))
        with torch.no_grad():
            w.mul_(0.9)


def test_the_lines_run_no_more():
    x, runs = drawn(2), []

    def compute():
        runs.append(1)
        return (x * 3,)

    (tripled,), replay = listed(compute)
    for seed in range(4):
        x.copy_(drawn(2, seed=seed))
        replay()
        assert seed == 0 or torch.equal(tripled, 3 * x)
    assert len(runs) == 2  # while it was listed, and beside the first run of the list


@needs_kernels
@pytest.mark.parametrize("H", [8, 128])  # of PyTorch's memory, and of the pool's
def test_memory_of_the_native_kernels_lasts(H):
    from unrolled.functional.recurrent import CELLS
    from unrolled.kernels.torch import recur
    from unrolled.kernels.written.torch import empty

    T, B = 40, 16
    X, base, state = drawn(T, B, 5), drawn(T, B, H), (drawn(B, H, seed=1), drawn(B, H, seed=2))
    shapes = CELLS["lstm"].shapes(5, H).values()
    weights = [drawn(*s, seed=i).mul_(0.1).requires_grad_() for i, s in enumerate(shapes)]

    def compute():
        for W in weights:
            W.grad = None
        before = torch.tanh(X[..., :1] + base).sum()  # leaves memory of the outputs' size
        outputs, last = recur("lstm", X, state, weights)
        loss = outputs.square().mean() + last[1].mean() + before
        loss.backward()
        return (loss.detach(), *(W.grad for W in weights))

    results, replay = listed(compute)
    gc.collect()
    others = [empty((T, B, n * H), X).fill_(7) for n in (1, 4) for _ in range(4)]
    for seed in range(4):
        X.copy_(drawn(T, B, 5, seed=seed))
        replay()
        found = [part.clone() for part in results]
        for part, expected in zip(found, compute(), strict=True):
            assert seed == 0 or torch.equal(part, expected)
        assert all(bool((other == 7).all()) for other in others)


def test_memory_that_nobody_reads_again_is_used_again():
    x = drawn(64, 64)

    def compute():
        h = x
        for _ in range(50):
            h = torch.tanh(h) + x
        return (h,)

    (found,), replay = listed(compute)
    places = {tensor.data_ptr() for step in kept_steps(compute) for tensor in step.tensors}
    assert len(places) <= 5  # x, the result, and what they take turns in
    for seed in range(3):
        x.copy_(drawn(64, 64, seed=seed))
        replay()
        assert seed == 0 or torch.equal(found, compute()[0])


def kept_steps(compute):
    with lists._Listing() as listing:
        results = compute()
    listing.share_memory(results)
    return listing.steps


COUNTER, MEAN = torch.zeros(3), torch.zeros(1)


packed = torch.nn.utils.rnn.pack_padded_sequence
PACKED = packed(torch.ones(3, 2, 1), torch.tensor([3, 2]))
LAYER = torch.nn.RNN(1, 1).requires_grad_(False)


def packed_layer(x):
    given = PACKED.data * x[0], PACKED.batch_sizes, torch.zeros(1, 2, 1), LAYER._flat_weights
    return torch.rnn_tanh(*given, True, 1, 0.0, False, False)[0][:3, 0]


def normalized(x):
    return torch.nn.functional.batch_norm(x.view(3, 1), MEAN, torch.ones(1), training=True)


UNLISTABLE = {
    "a decision": (lambda x: x * 2 if x.sum().item() > 0 else x, "looks at numbers"),
    "numbers that decide a size": (lambda x: x[x > 0], "looks at numbers"),
    "a change for good": (COUNTER.add_, "changes what was there before"),
    "a change that is not told of": (normalized, "may change what was there before"),
    "a written argument": (lambda x: x.mul_(2), "changes what was there before"),
    "a running sum": (lambda x: torch.tensor([1.0, 2.0, 3.0]).add_(x), "changes what was there"),
    "a result beside a draw that is kept": (
        lambda x: torch.nn.functional.rrelu(x, training=True),
        "both makes tensors and works on those",
    ),
    "rows": (lambda x: x.to_sparse(), "a torch.sparse_coo tensor|looks at numbers"),
    "a list of numbers": (lambda x: x[: len(x.tolist())] * 2, "tolist looks at numbers"),
    "arithmetic in NumPy": (
        lambda x: x + torch.from_numpy(np.square(x.numpy())),
        "numpy looks at numbers",
    ),
    "an array of it": (lambda x: x + np.asarray(x).max().item(), "looks at numbers"),
    "lengths": (lambda x: packed(x.view(3, 1, 1), [3]).data, "looks at numbers"),
    "a packed sequence": (packed_layer, "rnn_tanh looks at numbers"),
}


@pytest.mark.parametrize("name", UNLISTABLE)
def test_what_cannot_be_listed_says_why(name):
    function, reason = UNLISTABLE[name]
    runs, ends = [], []
    for in_list in (False, True):
        COUNTER.zero_(), MEAN.zero_()
        torch.manual_seed(0)
        x, seen = drawn(3), []

        def compute(x=x, seen=seen):
            seen.append(1)
            return (function(x) * torch.rand(1), *map(torch.clone, (x, COUNTER, MEAN)))

        if in_list:
            with pytest.raises(UnlistableError, match=reason) as error:
                listed(compute)
            ends.append(error.value.found)
        else:
            ends.append(compute())
        runs.append((len(seen), torch.rand(1)))
    assert runs[0] == runs[1]  # the lines run once, to their end, and draw what they draw
    for found, expected in zip(*ends, strict=True):
        assert torch.equal(found.to_dense(), expected.to_dense())


def test_what_nobody_is_told_of_is_found_out():
    x, count = drawn(3), [0]

    def compute():
        count[0] += 1
        return (x * torch.rand(1) + count[0],)

    _, replay = listed(compute)
    replay()
    x.copy_(drawn(3, seed=1))
    torch.manual_seed(0)
    expected = x * torch.rand(1) + 2
    after = torch.get_rng_state()
    torch.manual_seed(0)
    with pytest.raises(UnlistableError, match="other numbers than its lines") as error:
        replay()
    assert torch.equal(error.value.found[0], expected)
    assert torch.equal(torch.get_rng_state(), after)


def test_what_the_lines_keep_for_the_next_time_is_theirs():
    class Model:
        h = torch.ones(3)

    model, x = Model(), drawn(3)

    def compute():
        model.h = model.h * x  # the next run reads what the list would overwrite
        return (model.h + 1,)

    expected, h = [], torch.ones(3)
    for _ in range(2):
        h = h * x
        expected.append(h + 1)
    results, replay = listed(compute)
    replay()
    assert torch.equal(results[0], expected[0])
    with pytest.raises(UnlistableError, match="other numbers") as error:
        replay()
    assert torch.equal(error.value.found[0], expected[1])


def test_a_failure_of_the_computation_draws_nothing():
    before = torch.get_rng_state()

    def compute():
        torch.rand(3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        listed(compute)
    assert torch.equal(torch.get_rng_state(), before)  # for who now computes it without a list


def test_a_computation_on_much_memory_is_left_alone(monkeypatch):
    monkeypatch.setattr(lists, "MOST_BYTES", 2**20)
    x = drawn(2**17)
    listed(lambda: (x + 1,))
    with pytest.raises(NotWorthListingError, match="more than 1 MB") as error:
        listed(lambda: (1 + x.repeat(4),))
    assert torch.equal(error.value.found[0], 1 + x.repeat(4))


def test_pytorchs_compiler_is_not_loaded_for_it():
    code = (
        "import sys, torch\n"
        "from unrolled.kernels.listed.torch import listed\n"
        "listed(lambda: (torch.ones(2) + 1,))[1]()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_parts_that_are_compiled_are_listed_as_they_are_written(caplog):
    def doubled(x):
        return torch.tanh(2 * x) + 1

    x, compiled = drawn(3), torch.compile(doubled, backend="eager")
    compiled(x)  # loads the compiler
    (found,), replay = listed(lambda: (compiled(x),))
    for seed in range(3):
        x.copy_(drawn(3, seed=seed))
        replay()
        assert seed == 0 or torch.equal(found, doubled(x))
    # else the compiler has tried its hand at the listing
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
