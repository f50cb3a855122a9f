import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from unrolled.backends.loss import torch as kernel  # noqa: E402
from unrolled.backends.loss.torch import cross_entropy  # noqa: E402
from unrolled.backends.torch import xp  # noqa: E402
from unrolled.functional import losses  # noqa: E402

SIZES = [(1, 1), (1, 5), (7, 3), (5, 28), (13, 1000)]


def case(N, V, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(N, V, dtype=dtype, generator=generator)
    return logits.requires_grad_(), torch.randint(0, V, (N,), generator=generator)


@pytest.fixture(params=[1, 64, 2**22], ids="{} at a time".format, autouse=True)
def chunk(request, monkeypatch):
    monkeypatch.setattr(kernel, "CHUNK", request.param)


@pytest.mark.parametrize(("N", "V"), SIZES)
def test_loss_and_gradient_are_those_of_the_definition(N, V):
    logits, targets = case(N, V)
    loss = cross_entropy(logits, targets)
    (3 * loss).backward()
    x, rows = logits.detach().numpy(), np.arange(N)
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    assert loss.item() == pytest.approx(-np.log(p[rows, targets]).mean(), rel=1e-12, abs=1e-15)
    p[rows, targets] -= 1
    np.testing.assert_allclose(logits.grad.numpy(), 3 * p / N, rtol=1e-10, atol=1e-15)


def test_the_gradients_are_those_of_finite_differences_twice():
    logits, targets = case(4, 6)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, targets), logits)
    assert torch.autograd.gradgradcheck(lambda x: cross_entropy(x, targets), logits)
    loss = cross_entropy(logits, targets)
    recorded, plain = (
        torch.autograd.grad(loss, logits, create_graph=create, retain_graph=True)[0]
        for create in (True, False)
    )
    torch.testing.assert_close(recorded, plain, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("layout", ["transposed", "every second"])
def test_logits_need_not_be_contiguous(layout):
    logits, targets = case(6, 10)
    logits = logits.detach()
    odd = (
        logits.T.contiguous().T
        if layout == "transposed"
        else torch.stack([logits, logits], -1)[..., 0]
    )
    assert not odd.is_contiguous()
    odd.requires_grad_()
    logits.requires_grad_()
    (cross_entropy(odd, targets) - cross_entropy(logits, targets)).backward()
    torch.testing.assert_close(odd.grad, -logits.grad, rtol=1e-12, atol=0)


def test_huge_logits_overflow_nothing():
    logits = torch.tensor([[1e4, 0.0], [-1e4, 1e4]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == 1e4
    assert logits.grad.tolist() == [[0, 0], [-0.5, 0.5]]


def test_the_logits_and_a_second_backward_stay_as_they_were():
    logits, targets = case(5, 28)
    before = logits.detach().clone()
    loss = cross_entropy(logits, targets)
    first, second = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, logits)


class LargeArrays(TorchDispatchMode):
    """Counts the arrays of so many numbers that are made."""

    def __init__(self, numel):
        super().__init__()
        self.numel, self.places = numel, set()
        self.kept = []  # or another would get the same memory

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if isinstance(result, torch.Tensor) and result.numel() >= self.numel:
            self.kept.append(result)
            self.places.add(result.untyped_storage().data_ptr())
        return result


def arrays_made(loss, monkeypatch):
    monkeypatch.setattr(kernel, "CHUNK", 256)
    N, V = 40, 50
    logits, targets = case(N, V)
    leaf = logits.untyped_storage().data_ptr()
    with LargeArrays(N * V // 2) as large:
        torch.autograd.grad(loss(logits, targets), logits)
    return len(large.places - {leaf})


def test_the_gradient_is_the_only_array_as_large_as_the_logits(monkeypatch):
    assert arrays_made(cross_entropy, monkeypatch) == 1
    formula = dataclasses.replace(xp, cross_entropy=None)
    assert arrays_made(lambda *case: losses.cross_entropy(formula, *case), monkeypatch) > 3


def test_the_formula_hands_over(monkeypatch):
    logits, targets = case(5, 28)
    formula = dataclasses.replace(xp, cross_entropy=None)
    expected = losses.cross_entropy(formula, logits, targets)
    for chunk, name in ((5 * 28, "CrossEntropy"), (5 * 28 + 1, "NllLoss")):
        monkeypatch.setattr(kernel, "CHUNK", chunk)
        loss = losses.cross_entropy(xp, logits, targets)
        assert name in loss.grad_fn.name()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("target", [-100, -1, 28])
def test_every_target_must_be_an_id(target):
    logits, targets = case(5, 28)
    targets[2] = target
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        cross_entropy(logits, targets)


def test_without_gradients_nothing_is_kept():
    logits, targets = case(5, 28)
    with torch.no_grad():
        assert cross_entropy(logits, targets).grad_fn is None
