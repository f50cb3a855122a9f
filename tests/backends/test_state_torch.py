"""PyTorch: training with everything made anew in the middle, beside training straight on."""

import copy
import functools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from exact_resume import data, needs, resumed, same  # noqa: E402
from unrolled.backends import torch as backend  # noqa: E402
from unrolled.errors import ParameterError, SettingError  # noqa: E402
from unrolled.torch import SGD  # noqa: E402

state = backend.state

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True, foreach=True),
    "adam-fused": lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
    "adam-lr-tensor": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.1), foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.9), foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "adadelta": torch.optim.Adadelta,
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.1),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.1),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.1, t0=2),
    "rprop": torch.optim.Rprop,
    "adafactor": torch.optim.Adafactor,
    "ours": lambda p: SGD(p, lr=0.1),
}
STATELESS = {"sgd", "ours"}


class Own(torch.optim.Optimizer):
    """Keeps beside a parameter what is of other types than it."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.1, "limits": (None, 2.5), "lags": [1, {"a": np.int8(3)}]})

    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                kept = self.state[p]
                if not kept:
                    kept["exact"] = p.detach().to(torch.float64)
                    kept["count"] = torch.zeros(2, dtype=torch.int64)
                    kept["half"] = [None, (torch.zeros_like(p, dtype=torch.bfloat16),)]
                    kept["on"] = torch.tensor(True)
                kept["exact"] -= group["lr"] * p.grad.double() / 3
                kept["count"] += 2**53 + 1
                kept["half"][1][0].add_(p.grad.bfloat16())
                p.copy_(kept["exact"] + 1e-3 * kept["half"][1][0])


def make(kind: Any, dtype: torch.dtype = torch.float32) -> Any:
    layers = [nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2)]
    model = nn.Sequential(*layers).to(dtype)
    return model, kind(list(model.parameters()))


def step(model: Any, optimizer: Any, parameters: Any, i: int) -> Any:
    X, y = (torch.as_tensor(a).to(model[0].weight.dtype) for a in data(i))

    def loss(parameters: Any) -> Any:
        return ((model(X) - y) ** 2).mean(), None

    _, gradients = backend.value_and_grad(loss)(parameters)
    return backend.apply_gradients(optimizer, parameters, gradients)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_exactly_and_not_without_any_part(name: str) -> None:
    expected = {"parameters", "buffers", "generators", "optimizer"}
    if name in STATELESS:
        expected.remove("optimizer")
    assert needs(backend, functools.partial(make, OPTIMIZERS[name]), step) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [Own, OPTIMIZERS["adam"], OPTIMIZERS["momentum"]])
def test_types_that_are_not_the_parameters_are_kept(kind: Any, dtype: torch.dtype) -> None:
    assert resumed(backend, functools.partial(make, kind, dtype), step)


def test_what_was_changed_in_training_is_kept() -> None:
    def change(optimizer: Any) -> None:
        optimizer.param_groups[0].update(lr=0.03, betas=(0.7, 0.99), initial_lr=0.1)

    make_adam = functools.partial(make, OPTIMIZERS["adam"])
    assert resumed(backend, make_adam, step, change=change)
    make_ours = functools.partial(make, OPTIMIZERS["ours"])
    assert resumed(backend, make_ours, step, change=lambda optimizer: setattr(optimizer, "lr", 0.7))


@pytest.mark.parametrize("name", ["adam", "momentum", "adagrad"])
def test_before_the_first_step(name: str) -> None:
    assert resumed(backend, functools.partial(make, OPTIMIZERS[name]), step, taken=0)


def test_rows_of_a_table_with_sparse_adam() -> None:
    def make_table() -> Any:
        table = nn.Embedding(9, 2, sparse=True)
        return table, torch.optim.SparseAdam(list(table.parameters()), lr=0.1)

    def step_of_rows(model: Any, optimizer: Any, parameters: Any, i: int) -> Any:
        optimizer.zero_grad()
        (model(torch.tensor([i, 1, i + 2])) ** 2).sum().backward()
        optimizer.step()
        return parameters

    assert needs(backend, make_table, step_of_rows) == {"parameters", "optimizer"}


def test_lists_of_lbfgs_in_a_loop_of_ones_own() -> None:
    def make_linear() -> Any:
        model = nn.Linear(3, 2)
        return model, torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3, history_size=2)

    def step_of_lbfgs(model: Any, optimizer: Any, parameters: Any, i: int) -> Any:
        X, y = map(torch.as_tensor, data(0))

        def closure() -> Any:
            optimizer.zero_grad()
            loss = ((model(X) - y) ** 2).mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        return parameters

    assert needs(backend, make_linear, step_of_lbfgs) == {"parameters", "optimizer"}


def test_buffers_of_all_kinds() -> None:
    model = nn.Module()
    model.register_buffer("numbers", torch.arange(3), persistent=False)
    model.register_buffer("short", torch.tensor(1.5, dtype=torch.bfloat16))
    model.register_buffer("nothing", None)
    model.inner = nn.BatchNorm1d(2)
    kept = {n: np.array(backend.to_numpy(b)) for n, b in state.buffers(model).items()}
    assert list(kept)[:3] == ["numbers", "short", "inner.running_mean"]
    before = dict(model.named_buffers())
    for buffer in before.values():
        buffer.add_(3)
    state.load_buffers(model, kept)
    assert all(buffer is before[name] for name, buffer in model.named_buffers())
    assert same({n: np.array(backend.to_numpy(b)) for n, b in before.items()}, kept)


def test_buffers_of_another_model_are_named() -> None:
    model = nn.BatchNorm1d(2)
    good = {n: np.array(backend.to_numpy(b)) for n, b in state.buffers(model).items()}
    wrong = {n: value for n, value in good.items() if n != "running_var"} | {"more": np.ones(1)}
    with pytest.raises(ParameterError, match=r"more: unexpected.*\n.*running_var: missing"):
        state.load_buffers(model, wrong)
    with pytest.raises(ParameterError, match="'running_mean' are float64; float32 is expected"):
        state.load_buffers(model, good | {"running_mean": np.zeros(2)})


class Velocity(SGD):
    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=0.1)
        self.velocity = 0


def test_an_optimizer_of_ones_own_says_what_it_keeps() -> None:
    class Silent:
        def step(self) -> None: ...

    class Odd(Silent):
        def state_dict(self) -> Any:
            return {"a": [{1}]}

        def load_state_dict(self, state: Any) -> None: ...

    for optimizer, words in [
        (Silent(), "Silent, which has no state_dict and no load_state_dict"),
        (Odd(), r"Odd holds a builtins\.set"),
        (Velocity([]), "Velocity keeps velocity"),
    ]:
        with pytest.raises(SettingError, match=words):
            state.optimizer_state(optimizer, {})


def test_the_state_of_another_optimizer_is_refused() -> None:
    model, optimizer = make(OPTIMIZERS["adam"])
    tree = state.optimizer_state(optimizer, backend.parameters(model))
    _, other = make(OPTIMIZERS["sgd"])
    with pytest.raises(ParameterError, match="of the optimizer Adam, this one is a SGD"):
        state.load_optimizer_state(other, tree, backend.parameters(model))
    smaller = nn.Linear(3, 2)
    with pytest.raises(ParameterError, match=r"the state does not fit the optimizer: .*size"):
        state.load_optimizer_state(
            torch.optim.Adam(smaller.parameters()), copy.deepcopy(tree), backend.parameters(smaller)
        )


def test_draws_follow_as_if_nothing_had_been() -> None:
    torch.manual_seed(3)
    torch.randn(5)
    tree = state.generators()
    expected = torch.randn(3), backend.fresh_seed()
    torch.manual_seed(4)
    state.load_generators(tree)
    assert torch.equal(torch.randn(3), expected[0])
    assert backend.fresh_seed() == expected[1]
