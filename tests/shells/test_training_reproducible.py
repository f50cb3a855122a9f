"""The same seed gives the same training, to the last bit."""

from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from recorder import Recorder  # noqa: E402
from torch import nn  # noqa: E402

import unrolled.torch as unrolled  # noqa: E402
from unrolled.d2l import torch as d2l  # noqa: E402

TEXT = "all that glitters is not gold, and all who wander are not lost " * 6
SETTINGS = {"batch_size": 3, "num_steps": 5}


def linear_layer(seed: int | None) -> tuple[Any, Any]:
    data = unrolled.SyntheticRegressionData([2, -3.4], 4.2, num_train=100, seed=seed)
    return unrolled.LinearRegression(lr=0.03), data


def language_scratch(seed: int | None, use_random_iter: bool = False) -> tuple[Any, Any]:
    data = unrolled.TextData(TEXT, **SETTINGS, use_random_iter=use_random_iter, seed=seed)
    return unrolled.LanguageModel(28, 6, "gru", seed=seed), data


def language_layer(seed: int | None) -> tuple[Any, Any]:
    data = unrolled.TextData(TEXT, **SETTINGS, seed=seed)
    # with dropout, which draws in every step
    return unrolled.RNNModel(nn.LSTM(28, 6, num_layers=2, dropout=0.5), 28), data


OUR_SEEDS_DO = [language_scratch, partial(language_scratch, use_random_iter=True)]
PYTORCHS_SEED_DOES = [*OUR_SEEDS_DO, linear_layer, language_layer]


def trained(make: Any, seed: int | None) -> tuple[list[float], list[Any]]:
    model, data = make(seed)
    losses = Recorder()
    unrolled.Trainer(3, listeners=[losses]).fit(model, data)
    assert len(losses.losses) > 10
    return losses.losses, [p.detach() for p in model.parameters()]


def same(a: tuple[list[float], list[Any]], b: tuple[list[float], list[Any]]) -> bool:
    weights = [torch.equal(x, y) for x, y in zip(a[1], b[1], strict=True)]
    assert all(weights) == (a[0] == b[0])
    return all(weights)


@pytest.mark.parametrize("make", OUR_SEEDS_DO)
def test_same_seeds_give_the_same_losses_and_weights_whatever_pytorchs_generator(
    make: Any,
) -> None:
    torch.manual_seed(1)
    first = trained(make, 0)
    torch.manual_seed(2)
    assert same(first, trained(make, 0))
    torch.manual_seed(1)
    assert not same(first, trained(make, 1))


@pytest.mark.parametrize("make", PYTORCHS_SEED_DOES)
def test_pytorchs_seed_is_enough_and_without_any_seed_every_run_differs(make: Any) -> None:
    runs = []
    for seed in (0, 0, None):
        if seed is not None:
            torch.manual_seed(seed)
        runs.append(trained(make, None))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


class OwnData(unrolled.DataModule):
    batch_size = 4

    def get_dataloader(self, train: bool) -> Any:
        return self.get_tensorloader((torch.arange(40), torch.arange(40)), train)


LOADERS = {
    "text": lambda: unrolled.TextData(TEXT, **SETTINGS).train_dataloader(),
    "text at random": lambda: unrolled.TextData(
        TEXT, **SETTINGS, use_random_iter=True
    ).train_dataloader(),
    "own": lambda: OwnData().train_dataloader(),
    "book at random": lambda: d2l.load_data_time_machine(4, 16, True, max_tokens=500)[0],
}


@pytest.mark.parametrize("kind", LOADERS)
def test_seeding_pytorch_is_enough_for_the_order_of_the_data(kind: str) -> None:
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        loader = LOADERS[kind]()
        runs.append([X.tolist() for _ in range(3) for X, _ in loader])  # three epochs
    assert runs[0] == runs[1] != runs[2]
