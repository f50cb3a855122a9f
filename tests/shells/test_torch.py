"""The library on PyTorch: its models are PyTorch's own, its training does what it says."""

import copy
import math
import pickle
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from recorder import Recorder  # noqa: E402
from torch import nn  # noqa: E402

import unrolled.torch as unrolled  # noqa: E402
from unrolled.d2l import torch as d2l  # noqa: E402
from unrolled.errors import NotFiniteError, SettingError  # noqa: E402

W, BIAS = [2, -3.4], 4.2
TEXT = "the quick brown fox jumps over the lazy dog and runs away " * 6
V = 28


class Batches(unrolled.DataModule):
    """These minibatches, in this order, and none to validate on."""

    def __init__(self, *batches: Any, val: Any = None) -> None:
        self.batches, self.val = list(batches), val

    def get_dataloader(self, train: bool) -> Any:
        return self.batches if train else self.val


def regression_data(**settings: Any) -> Any:
    return unrolled.SyntheticRegressionData(W, BIAS, **({"seed": 0} | settings))


def linear(**settings: Any) -> Any:
    return unrolled.LinearRegressionScratch(2, **({"lr": 0.03, "seed": 0} | settings))


def some_batches(count: int, rows: int = 4) -> list[Any]:
    torch.manual_seed(1)
    return [(torch.randn(rows, 2), torch.randn(rows, 1)) for _ in range(count)]


def scratch(cell: str = "rnn", H: int = 6, layers: int = 1, vocab_size: int = V) -> Any:
    torch.manual_seed(0)
    return unrolled.LanguageModel(vocab_size, H, cell, layers)


def with_layer(cell: str = "rnn", H: int = 6, vocab_size: int = V, **settings: Any) -> Any:
    torch.manual_seed(0)
    layer = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell](vocab_size, H, **settings)
    return unrolled.RNNModel(layer, vocab_size)


def text_data(**settings: Any) -> Any:
    given = {"batch_size": 3, "num_steps": 5, "seed": 0} | settings
    return unrolled.TextData(TEXT, **given)


MODELS = {
    "linear regression": lambda: (unrolled.LinearRegression(0.03), regression_data(num_train=64)),
    "gru from scratch, two layers": lambda: (scratch("gru", layers=2), text_data()),
    "nn.LSTM": lambda: (with_layer("lstm"), text_data()),
}


# PyTorch's own idioms


def prediction(model: Any, X: Any) -> Any:
    with torch.no_grad():
        output = model(X)
    return output[0] if isinstance(output, tuple) else output


def assert_same_prediction(a: Any, b: Any, X: Any) -> None:
    torch.testing.assert_close(prediction(a, X), prediction(b, X), rtol=0, atol=0)


@pytest.mark.parametrize("kind", MODELS)
def test_a_trained_model_is_a_module_like_others(kind: str) -> None:
    make = MODELS[kind]
    model, data = make()
    unrolled.Trainer(1).fit(model, data)
    X, _ = next(iter(data.train_dataloader()))
    names = sorted(dict(model.named_parameters()))
    assert sorted(model.state_dict()) == sorted(unrolled.backend.parameters(model)) == names
    fresh, _ = make()
    fresh(X)  # layers that learn their input size from the first minibatch know it now
    fresh.load_state_dict(model.state_dict())
    twin = copy.deepcopy(model)
    for other in (fresh, twin, pickle.loads(pickle.dumps(model))):
        assert_same_prediction(other, model, X)
    assert twin.trainer is None
    before = prediction(model, X)
    unrolled.Trainer(1).fit(twin, data)
    torch.testing.assert_close(prediction(model, X), before, rtol=0, atol=0)
    assert not torch.equal(prediction(twin, X), before)


@pytest.mark.parametrize("kind", MODELS)
def test_model_to_float64_computes_and_trains_in_float64(kind: str) -> None:
    model, data = MODELS[kind]()
    batches = [
        tuple(part.double() if part.is_floating_point() else part for part in batch)
        for batch in data.train_dataloader()
    ]
    prediction(model, next(iter(data.train_dataloader()))[0])
    model.to(torch.float64)
    unrolled.Trainer(1).fit(model, Batches(*batches))
    assert all(p.dtype == torch.float64 for p in model.parameters())
    assert prediction(model, batches[0][0]).dtype == torch.float64


def test_parameters_of_a_layer_keep_pytorchs_names() -> None:
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    names = {*(f"rnn.{kind}_l0" for kind in kinds), "linear.weight", "linear.bias"}
    assert {*with_layer().state_dict()} == names


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.Adagrad])
def test_optimizers_of_pytorch_lower_the_loss(optimizer: Any) -> None:
    model, recorder = scratch("gru"), Recorder()
    model.configure_optimizers = lambda: optimizer(model.parameters(), lr=0.05)
    unrolled.Trainer(8, listeners=[recorder]).fit(model, text_data())
    assert recorder.epochs[-1].loss < 0.95 * recorder.epochs[0].loss


def test_a_loop_of_ones_own_trains_a_model() -> None:
    model = linear(lr=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        for batch in regression_data().train_dataloader():
            optimizer.zero_grad()
            model.training_step(batch).backward()
            optimizer.step()
    torch.testing.assert_close(model.w.flatten(), torch.tensor([2, -3.4]), atol=0.01, rtol=0)


def test_hooks_on_parameters_run() -> None:
    model, seen = linear(), []
    model.w.register_hook(seen.append)
    unrolled.Trainer(1).fit(model, Batches(*some_batches(3)))
    assert len(seen) == 3


@pytest.mark.parametrize("name", ["forward", "loss"])
def test_what_a_module_does_not_define_says_so(name: str) -> None:
    arguments = {"forward": (1,), "loss": (1, 2)}[name]
    with pytest.raises(NotImplementedError, match=name):
        getattr(unrolled.Module(), name)(*arguments)


# Data


def test_synthetic_data_are_as_the_formula_says() -> None:
    data = unrolled.SyntheticRegressionData([1, -2, 0.5], 3, noise=0.1, num_train=4000, seed=0)
    assert data.X.shape == (5000, 3)
    assert data.y.shape == (5000, 1)
    assert torch.all(data.X.mean(0).abs() < 0.06)
    assert torch.all((data.X.std(0) - 1).abs() < 0.05)
    noise = data.y - data.X @ torch.tensor([[1], [-2], [0.5]]) - 3
    assert abs(noise.mean()) < 0.01
    assert 0.09 < noise.std() < 0.11


def test_loader_shuffles_for_training_only_and_anew_each_epoch() -> None:
    data = regression_data(num_train=64, num_val=40)
    train, val = data.train_dataloader(), data.val_dataloader()
    first, second = (torch.cat([y for _, y in train]) for _ in range(2))
    assert not torch.equal(first, second)
    for seen in (first, second):
        assert not torch.equal(seen, data.y[:64])
        assert torch.equal(seen.sort(dim=0)[0], data.y[:64].sort(dim=0)[0])
    assert torch.equal(torch.cat([y for _, y in val]), data.y[64:])


def test_get_tensorloader_takes_the_rows_of_indices() -> None:
    class Data(unrolled.DataModule):
        batch_size = 2

        def get_dataloader(self, train: bool) -> Any:
            tensors = torch.arange(10), torch.arange(10) ** 2
            return self.get_tensorloader(tensors, train, slice(3, 8))

    xs, ys = zip(*Data().val_dataloader(), strict=True)
    assert torch.cat(xs).tolist() == [3, 4, 5, 6, 7]
    assert torch.cat(ys).tolist() == [9, 16, 25, 36, 49]
    assert sorted(torch.cat([x for x, _ in Data().train_dataloader()]).tolist()) == [3, 4, 5, 6, 7]


# Linear regression


def test_sigma_is_001_unless_given() -> None:
    model = unrolled.LinearRegressionScratch(4000, lr=0.1, seed=0)
    assert model.w.std().item() == pytest.approx(0.01, rel=0.05)


# The optimizer


def test_sgd_step_and_zero_grad() -> None:
    w, unused = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.ones(1))
    optimizer = unrolled.SGD([w, unused], lr=0.5)
    (w @ torch.tensor([1.0, 3.0])).backward()
    optimizer.step()
    assert w.tolist() == [0.5, 0.5]
    assert unused.tolist() == [1.0]
    optimizer.zero_grad()
    assert w.grad.tolist() == [0.0, 0.0]
    optimizer.step()
    assert w.tolist() == [0.5, 0.5]


# The trainer


def test_trainer_counts_epochs_and_minibatches_anew_in_each_training() -> None:
    trainer, model, recorder = unrolled.Trainer(3), linear(), Recorder()
    trainer.listeners = [recorder]
    for _ in range(2):
        trainer.fit(model, regression_data(num_train=100, num_val=50))
        assert (trainer.num_train_batches, trainer.num_val_batches) == (4, 2)
        assert (trainer.train_batch_idx, trainer.val_batch_idx, trainer.epoch) == (12, 6, 2)
    assert [step.num_targets for step in recorder.steps] == [32, 32, 32, 4] * 6
    assert model.trainer is trainer
    assert list(model.board.xlim) == [0, 3]


def test_fit_runs_its_parts_in_order() -> None:
    called = []

    class Spy(unrolled.Trainer):
        def prepare_data(self, data: Any) -> None:
            called.append("data")
            super().prepare_data(data)

        def prepare_model(self, model: Any) -> None:
            called.append("model")
            super().prepare_model(model)

        def fit_epoch(self) -> None:
            called.append("epoch")
            super().fit_epoch()

    model = linear()
    configure = model.configure_optimizers
    model.configure_optimizers = lambda: (called.append("optimizers"), configure())[1]
    Spy(2).fit(model, Batches(*some_batches(1)))
    assert called == ["data", "model", "optimizers", "epoch", "epoch"]


def test_without_validation_loader_the_validation_is_skipped() -> None:
    model, recorder = linear(), Recorder()
    model.validation_step = lambda batch: pytest.fail("there is nothing to validate on")
    trainer = unrolled.Trainer(2, listeners=[recorder])
    trainer.fit(model, Batches(*some_batches(2)))
    assert trainer.num_val_batches == trainer.val_batch_idx == 0
    assert [epoch.val_loss for epoch in recorder.epochs] == [None, None]


def test_validation_loss_is_the_mean_over_all_targets_and_moves_no_weight() -> None:
    model, recorder = linear(lr=0.0), Recorder()
    before = copy.deepcopy(model.state_dict())
    big, small = some_batches(2)
    batches = [big, (small[0][:1], small[1][:1])]
    unrolled.Trainer(1, listeners=[recorder]).fit(model, Batches(big, val=batches))
    X, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    expected = ((model(X) - y) ** 2 / 2).mean().item()
    assert recorder.epochs[0].val_loss == pytest.approx(expected, rel=1e-5)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_layers_are_in_training_mode_for_training_and_not_for_validation() -> None:
    model, modes = linear(), []
    training, validation = model.training_step, model.validation_step
    model.training_step = lambda batch: (modes.append(model.training), training(batch))[1]
    model.validation_step = lambda batch: (modes.append(model.training), validation(batch))[1]
    unrolled.Trainer(2).fit(model, Batches(*some_batches(1), val=some_batches(1)))
    assert modes == [True, False, True, False]


def test_a_stop_during_the_preparation_counts() -> None:
    trainer = unrolled.Trainer(5)

    class Told(Batches):
        def train_dataloader(self) -> Any:
            trainer.stop()  # as a signal does
            return super().train_dataloader()

    trainer.fit(linear(), Told(*some_batches(2)))
    assert (trainer.train_batch_idx, trainer.stopping) == (0, True)
    trainer.fit(linear(), Batches(*some_batches(2)))
    assert (trainer.train_batch_idx, trainer.stopping) == (10, False)


SUMMED = partial(nn.functional.mse_loss, reduction="sum")


@pytest.mark.parametrize(
    ("loss", "reduction"),
    [
        (nn.MSELoss(), None),
        (nn.MSELoss(reduction="sum"), None),
        (nn.functional.mse_loss, None),
        (SUMMED, None),
        (lambda y_hat, y: 1.0 * SUMMED(y_hat, y), "sum"),
    ],
)
def test_what_is_recorded_of_a_loss_is_the_mean(loss: Any, reduction: str | None) -> None:
    data = regression_data(num_train=64, num_val=100)
    model = unrolled.NativeModel(nn.Linear(2, 1), loss, lr=0.0, reduction=reduction)
    with torch.no_grad():
        model.net.weight.zero_(), model.net.bias.zero_()
    recorder = Recorder()
    unrolled.Trainer(1, listeners=[recorder]).fit(model, data)
    (epoch,) = recorder.epochs
    for found in (*recorder.losses, epoch.loss, epoch.val_loss):
        assert found == pytest.approx(float(data.y.pow(2).mean()), rel=0.5)


def test_plots_have_so_many_points_per_epoch() -> None:
    model = linear()
    unrolled.Trainer(3).fit(model, regression_data(num_train=128, num_val=64))
    assert {label: len(points) for label, points in model.board.points.items()} == {
        "train_loss": 6,
        "val_loss": 3,
    }
    assert [x for x, _ in model.board.points["val_loss"]] == [1, 2, 3]


# Not finite


def test_nan_loss_stops_at_its_step_with_the_last_weights_that_gave_a_finite_loss() -> None:
    batches = some_batches(5)
    broken = (batches[2][0], torch.full((4, 1), math.nan))
    model, twin = linear(), linear()
    with pytest.raises(NotFiniteError, match=r"nan.*epoch 1, step 3") as caught:
        unrolled.Trainer(2).fit(model, Batches(*batches[:2], broken, *batches[3:]))
    assert (caught.value.epoch, caught.value.step) == (1, 3)
    unrolled.Trainer(1).fit(twin, Batches(batches[0]))  # the loss of step 2 was finite with these
    assert torch.equal(model.w, twin.w)
    assert torch.equal(model.b, twin.b)


def test_step_of_a_nan_is_counted_over_all_epochs() -> None:
    class Turning(Batches):
        epochs = 0

        def get_dataloader(self, train: bool) -> Any:
            return self if train else None

        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Any:
            self.epochs += 1
            good, (X, y) = some_batches(2)
            yield good
            yield X, y * (math.nan if self.epochs == 3 else 1)

    with pytest.raises(NotFiniteError) as caught:
        unrolled.Trainer(5).fit(linear(), Turning())
    assert (caught.value.epoch, caught.value.step) == (3, 6)


class RootOfW(unrolled.Module):
    """A loss that is finite where its gradient is not: sqrt(w) at w = 0."""

    lr = 0.1

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Any) -> Any:
        return self.w.sqrt().sum()


@pytest.mark.parametrize("clip", [0, 1])
def test_infinite_gradient_stops_and_leaves_the_weights(clip: float) -> None:
    model = RootOfW()
    with pytest.raises(NotFiniteError, match="gradient became") as caught:
        unrolled.Trainer(1, gradient_clip_val=clip).fit(model, Batches(*some_batches(2)))
    assert caught.value.step == 1
    assert model.w.tolist() == [0.0]


# Recurrent language models


def leaves(state: Any) -> list[Any]:
    return list(state) if isinstance(state, tuple) else [state]


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize(("bidirectional", "layers", "B"), [(False, 1, 1), (True, 2, 3)])
def test_model_with_a_layer_computes_what_the_layer_does(
    cell: str, bidirectional: bool, layers: int, B: int
) -> None:
    model = with_layer(cell, num_layers=layers, bidirectional=bidirectional)
    directions = 2 if bidirectional else 1
    ids = torch.randint(V, (B, 5))
    state = model.begin_state(batch_size=B)
    assert isinstance(state, tuple) == (cell == "lstm")
    for part in leaves(state):
        assert part.shape == (layers * directions, B, 6)
        assert not part.any()
    state = tuple(map(torch.rand_like, state)) if cell == "lstm" else torch.rand_like(state)
    logits, last = model(ids, state)
    Y, expected_last = model.rnn(torch.eye(V)[ids.T], state)
    by_hand = Y.reshape(5 * B, 6 * directions) @ model.linear.weight.T + model.linear.bias
    torch.testing.assert_close(logits, by_hand)
    for a, b in zip(leaves(last), leaves(expected_last), strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(model(ids)[0], model(ids, model.begin_state(B))[0])
    before = copy.deepcopy(model.state_dict())
    unrolled.Trainer(1).fit(model, text_data(batch_size=B))
    assert not [n for n, value in model.state_dict().items() if torch.equal(value, before[n])]


@pytest.mark.parametrize("wrong", [-1, 3])
def test_an_id_that_the_vocabulary_lacks_is_no_row(wrong: int) -> None:
    rows = torch.func.vmap(lambda ids: unrolled.backend.xp.one_hot(ids, 3))(
        torch.tensor([[2], [0]])
    )
    assert rows.tolist() == [[[0, 0, 1]], [[1, 0, 0]]]
    with pytest.raises(RuntimeError, match="out of bounds"):
        unrolled.backend.xp.one_hot(torch.tensor([wrong]), 3)


def test_perplexity_is_drawn_for_every_epoch() -> None:
    model, recorder = scratch(), Recorder()
    unrolled.Trainer(3, listeners=[recorder]).fit(model, text_data())
    assert model.board.points["perplexity"] == [
        (epoch.epoch, pytest.approx(math.exp(epoch.loss))) for epoch in recorder.epochs
    ]


# The books' functions


@pytest.fixture(scope="module")
def book() -> tuple[Any, Any]:
    return d2l.load_data_time_machine(batch_size=4, num_steps=6, max_tokens=200, seed=0)


@pytest.mark.parametrize("theta", [0.01, 1000.0])
def test_grad_clipping_scales_by_theta_over_the_norm_if_that_is_larger(theta: float) -> None:
    net = scratch()
    net.loss_and_state(next(iter(text_data().train_dataloader())), None)[0].backward()
    before = [p.grad.clone() for p in net.parameters()]
    norm = math.sqrt(sum((g.double() ** 2).sum().item() for g in before))
    d2l.grad_clipping(net, theta)
    for gradient, parameter in zip(before, net.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, gradient * min(1, theta / norm))


@pytest.mark.parametrize("updater", ["ours", "pytorch", "function"])
def test_train_epoch_ch8_gives_perplexity_and_speed_and_moves_the_weights(
    book: Any, updater: str
) -> None:
    net, (train_iter, _) = scratch(), book
    sgd = unrolled.SGD(net.parameters(), lr=1.0)
    given = {
        "ours": sgd,
        "pytorch": torch.optim.SGD(net.parameters(), lr=1.0),
        "function": lambda batch_size: sgd.step(),
    }[updater]
    found = [
        d2l.train_epoch_ch8(net, train_iter, nn.CrossEntropyLoss(), given, None, False)
        for _ in range(8)
    ]
    assert 20 < found[0][0] < 28.5  # 28 is the uniform model's
    assert found[-1][0] < 0.9 * found[0][0]
    assert all(speed > 0 for _, speed in found)


def test_train_epoch_ch8_clips_at_norm_1(book: Any) -> None:
    net, (train_iter, _) = scratch(), book
    batch = next(iter(train_iter))

    def huge(y_hat: Any, y: Any) -> Any:
        return 1e4 * nn.functional.cross_entropy(y_hat, y, reduction="none")

    before = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
    d2l.train_epoch_ch8(net, [batch], huge, torch.optim.SGD(net.parameters(), lr=1.0))
    after = nn.utils.parameters_to_vector(net.parameters()).detach()
    assert (after - before).norm().item() == pytest.approx(1, rel=1e-3)


def test_train_ch8_reports_and_learns(book: Any, capsys: pytest.CaptureFixture[str]) -> None:
    net, (train_iter, vocab) = scratch(H=24), book
    d2l.train_ch8(net, train_iter, vocab, 1.0, 20, None)
    *continuations, last, traveller, short = capsys.readouterr().out.splitlines()
    assert len(continuations) == 2  # one every ten epochs
    assert all(len(line) == len("time traveller") + 50 for line in [*continuations, traveller])
    assert all(line.startswith("time traveller") for line in [*continuations, traveller])
    assert short.startswith("traveller")
    assert len(short) == len("traveller") + 50
    assert 1 < float(last.split()[1].rstrip(",")) < 24
    assert "tokens/sec" in last


def test_huge_finite_weights_are_no_alarm():
    model = unrolled.LinearRegressionScratch(1, lr=0.0)
    with torch.no_grad():
        model.w.fill_(3e19)
    X = torch.full((2, 1), 1e-19)
    unrolled.Trainer(1).fit(model, Batches((X, torch.ones(2, 1))))
    assert model.w.item() == torch.tensor(3e19).item()


def test_an_empty_training_loader_is_told() -> None:
    with pytest.raises(SettingError, match="no minibatch"):
        unrolled.Trainer(1).fit(unrolled.LinearRegressionScratch(1, lr=0.1), Batches())


def test_no_epochs_leave_a_lazy_model_alone():
    data = unrolled.SyntheticRegressionData([1.0], 0.0, seed=0)
    model = unrolled.LinearRegression(0.1)
    unrolled.Trainer(0).fit(model, data)
    assert len(list(model.parameters())) == 2


def test_equal_seeds_do_not_link_weights_and_data():
    data = unrolled.SyntheticRegressionData([2.0, -3.4], 4.2, seed=0)
    model = unrolled.LinearRegressionScratch(2, lr=0.1, seed=0)
    assert not torch.allclose(model.w.flatten(), 0.01 * data.X[0])


def test_parameters_of_bfloat16_are_listed_saved_and_loaded_bit_for_bit(tmp_path):
    model = nn.Linear(4, 3).to(torch.bfloat16)
    before = model.weight.clone()
    parameters = unrolled.parameters(model)
    assert "weight" in str(parameters)
    parameters.save(tmp_path / "file")
    with torch.no_grad():
        model.weight.zero_()
    parameters.load(tmp_path / "file")
    assert torch.equal(model.weight, before)
    assert model.weight.dtype is torch.bfloat16
