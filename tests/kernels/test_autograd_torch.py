"""Derivatives of derivatives through the fast engine, and `torch.func` over it."""

import pytest

torch = pytest.importorskip("torch")


from unrolled import native  # noqa: E402
from unrolled.functional.recurrent import CELLS, RELU_RNN  # noqa: E402
from unrolled.kernels import torch as engine  # noqa: E402

pytestmark = [pytest.mark.usefixtures("instructions"), pytest.mark.best_set]

T, B, D, H = 3, 2, 4, 5

ENGINES = {
    "fast": engine.recur,
    "operations": lambda *arguments: engine.differentiable(engine.OPERATIONS, *arguments),
}
engines = pytest.mark.parametrize("recur", ENGINES.values(), ids=ENGINES)
cells = pytest.mark.parametrize("cell", [*CELLS.values(), RELU_RNN], ids=lambda cell: cell.engine)


def arrays(cell, dtype=torch.float64):
    """X, state and weights, far enough from the kink of a ReLU."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, dtype=dtype, generator=draw).requires_grad_()

    weights = [normal(*shape) for shape in cell.shapes(D, H).values()]
    return normal(T, B, D), [normal(B, H) for _ in range(cell.num_states)], weights


def as_one(recur, cell):
    """Outputs and last states as a function of single arrays."""

    def function(X, *rest):
        n = cell.num_states
        outputs, last = recur(cell.engine, X, rest[:n], rest[n:])
        return (outputs, *last)

    return function


@engines
@cells
def test_second_derivatives_are_those_of_finite_differences(recur, cell):
    X, state, weights = arrays(cell)
    assert torch.autograd.gradgradcheck(as_one(recur, cell), (X, *state, *weights))


@engines
@cells
def test_a_recorded_way_back_gives_the_same_numbers(recur, cell):
    X, state, weights = arrays(cell)
    outputs, last = recur(cell.engine, X, state, weights)
    loss = (outputs**2).sum() + sum(part.sum() for part in last)
    inputs = (X, *state, *weights)
    plain, recorded = (
        torch.autograd.grad(loss, inputs, retain_graph=True, create_graph=create)
        for create in (False, True)
    )
    assert not plain[0].requires_grad
    assert recorded[0].requires_grad
    torch.testing.assert_close(recorded, plain, rtol=1e-12, atol=1e-14)


@engines
def test_one_weight_at_two_places_counts_twice(recur):
    X, state, (W_x, W_h, b, *rest) = arrays(CELLS["gru"])
    tied = [W_x, W_h, b, W_x, W_h, *rest[2:]]
    outputs, _ = recur("gru", X, state, tied)
    plain, recorded = (
        torch.autograd.grad(outputs.sum(), W_h, retain_graph=True, create_graph=create)[0]
        for create in (False, True)
    )
    torch.testing.assert_close(recorded, plain, rtol=1e-12, atol=1e-14)


@engines
def test_ids_and_gradients_through_time_are_recorded_too(recur):
    _, state, weights = arrays(CELLS["rnn"])
    ids = torch.tensor([[0, 3], [1, 1], [2, 0]])
    taps = tuple(torch.zeros(T, B, H, dtype=torch.float64, requires_grad=True) for _ in range(2))
    outputs, _ = recur("rnn", ids, state, weights, taps)
    loss = (outputs**2).sum()
    inputs = (*taps, *state, *weights)
    plain, recorded = (
        torch.autograd.grad(loss, inputs, retain_graph=True, create_graph=create)
        for create in (False, True)
    )
    torch.testing.assert_close(recorded, plain, rtol=1e-12, atol=1e-14)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # PyTorch's own, in jvp
@cells
def test_transformed_functions_are_the_formula(cell):
    X, state, weights = (x.detach() if torch.is_tensor(x) else x for x in arrays(cell))
    inputs = (X, *(x.detach() for x in (*state, *weights)))
    function = as_one(engine.recur, cell)

    def loss(*inputs):
        return (function(*inputs)[0] ** 2).sum()

    places = tuple(range(len(inputs)))
    leaves = [x.clone().requires_grad_() for x in inputs]
    expected = torch.autograd.grad(loss(*leaves), leaves, allow_unused=True)
    found = torch.func.grad(loss, places)(*inputs)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, torch.zeros_like(x) if y is None else y)
    _, slope = torch.func.jvp(loss, inputs, inputs)
    along = sum((g * x).sum() for g, x in zip(found, inputs, strict=True))
    torch.testing.assert_close(slope, along)


def test_the_output_layer_is_differentiated_twice():
    draw = torch.Generator().manual_seed(0)
    shapes = [(7, H), (H, 3), (3,)]
    inputs = [
        torch.randn(s, dtype=torch.float64, generator=draw, requires_grad=True) for s in shapes
    ]
    assert torch.autograd.gradgradcheck(engine.affine, inputs)
    found = torch.func.grad(lambda *x: (engine.affine(*x) ** 2).sum(), 1)(*inputs)
    expected = 2 * inputs[0].T @ (inputs[0] @ inputs[1] + inputs[2])
    torch.testing.assert_close(found, expected)
    if native.available()[0]:
        assert "Affine" in engine.affine(*inputs).grad_fn.name()
