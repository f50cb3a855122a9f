"""RunnerV3, used as a reader of its book types it, on PyTorch; and briefly everywhere."""

import importlib
import math

import numpy as np
import pytest

from installed import INSTALLED
from unrolled.data.digit_sum import as_arrays, published
from unrolled.errors import ParameterError, SettingError, UnrolledError

EXAMPLES = published([5])[5]
SIZES = (10, 4, 6, 19)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def nndl(torch):
    return importlib.import_module("unrolled.nndl.torch")


def loaders(torch, nndl, batch_size=50):
    loader = torch.utils.data.DataLoader
    train = loader(nndl.DigitSumDataset(EXAMPLES["train"]), batch_size, shuffle=True)
    return train, loader(nndl.DigitSumDataset(EXAMPLES["dev"]), batch_size)


def make(torch, nndl, lr=0.01, metric=True, seed=0, **options):
    torch.manual_seed(seed)
    model = nndl.Model_RNN4SeqClass(nndl.SRN(4, 6), *SIZES)
    optimizer = options.pop("optimizer", torch.optim.Adam)(model.parameters(), lr)
    loss_fn = torch.nn.CrossEntropyLoss(**options)
    return nndl.RunnerV3(model, optimizer, loss_fn, nndl.Accuracy() if metric else None)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_custom_log_finds_the_loss_of_its_own_step(torch, nndl, reduction, tmp_path):
    told, modes = [], []

    def custom_print_log(runner):
        told.append(runner.train_step_losses[-1])
        modes.append(runner.model.training)

    dev = list(loaders(torch, nndl)[1])  # a loader of PyTorch would draw before each evaluation
    runner, (train, _) = make(torch, nndl, reduction=reduction), loaders(torch, nndl)
    runner.train(
        train,
        dev,
        num_epochs=2,
        log_steps=0,
        eval_steps=1,
        save_path=tmp_path / "best",
        custom_print_log=custom_print_log,
    )
    twin, (train, _) = make(torch, nndl, reduction=reduction), loaders(torch, nndl)
    twin.train(train, num_epochs=2, log_steps=0)
    assert told == runner.train_step_losses == twin.train_step_losses
    assert [step for step, _ in told] == list(range(12))
    assert 2 < told[0][1] < 4  # about log 19: a mean
    assert modes == [True] * 12  # after an evaluation too
    # numbers, which hold no graph
    numbers = [*runner.train_epoch_losses, *runner.dev_scores, runner.best_score]
    pairs = [*runner.train_step_losses, *runner.dev_losses]
    assert {type(x) for x in numbers} | {type(x) for _, x in pairs} == {float}


def test_it_trains_exactly_as_the_published_loop(torch, nndl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner, (train, dev) = make(torch, nndl), loaders(torch, nndl)
    torch.manual_seed(1)
    runner.train(train, dev, num_epochs=3, log_steps=0, eval_steps=4)

    model = make(torch, nndl).model  # the same start, and the loop written out
    optimizer, loss_fn = torch.optim.Adam(model.parameters(), 0.01), torch.nn.CrossEntropyLoss()
    torch.manual_seed(1)
    step_losses, epoch_losses, dev_losses, dev_scores, step = [], [], [], [], 0
    for _ in range(3):
        losses = []
        for X, y in train:
            model.train()
            loss = loss_fn(model(X), y)
            losses.append(loss.item())
            step_losses.append((step, loss.item()))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if step and (step % 4 == 0 or step == 17):
                model.eval()
                with torch.no_grad():
                    outputs = [(model(X), y) for X, y in dev]
                dev_losses.append((step, np.mean([loss_fn(*o).item() for o in outputs])))
                right = sum((logits.argmax(1) == y).sum().item() for logits, y in outputs)
                dev_scores.append(right / 100)
            step += 1
        epoch_losses.append(np.mean(losses))
    np.testing.assert_allclose(runner.train_step_losses, step_losses, rtol=1e-6)
    np.testing.assert_allclose(runner.train_epoch_losses, epoch_losses, rtol=1e-6)
    assert [step for step, _ in runner.dev_losses] == [4, 8, 12, 16, 17]
    np.testing.assert_allclose(runner.dev_losses, dev_losses, rtol=1e-6)
    assert runner.dev_scores == dev_scores
    assert runner.best_score == max(dev_scores)
    for ours, theirs in zip(runner.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert (tmp_path / "best_model.safetensors").exists()


def test_the_best_model_is_kept_and_comes_back(torch, nndl, tmp_path):
    runner, (train, dev) = make(torch, nndl, lr=0.1), loaders(torch, nndl)
    path = tmp_path / "deep" / "best.pdparams"
    runner.train(train, dev, num_epochs=4, log_steps=0, eval_steps=2, save_path=path)
    other = make(torch, nndl, seed=5)
    other.load_model(path)
    score, _ = other.evaluate(dev)
    assert score == runner.best_score == max(runner.dev_scores)
    assert other.dev_scores == []  # an evaluation by itself keeps nothing
    assert [p.name for p in path.parent.iterdir()] == ["best.pdparams"]
    assert b"pickle" not in path.read_bytes()

    class Nothing(nndl.Accuracy):
        def accumulate(self):
            return 0.0

    # best_score = 0 compared with > never saves a model that scores nothing
    runner, path = make(torch, nndl), tmp_path / "nothing"
    runner.metric = Nothing()
    assert runner.best_score == -math.inf
    runner.train(train, dev, num_epochs=1, log_steps=0, eval_steps=1, save_path=path)
    assert runner.best_score == 0
    runner.load_model(path)


def test_running_statistics_are_saved_and_a_prediction_has_no_graph_and_no_dropout(
    torch, nndl, tmp_path
):
    nn = torch.nn
    parts = nn.Embedding(10, 4), nn.Flatten(), nn.BatchNorm1d(20), nn.Dropout(0.5)
    net = nn.Sequential(*parts, nn.Linear(20, 19))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    runner = nndl.RunnerV3(net, optimizer, nn.CrossEntropyLoss(), nndl.Accuracy())
    train, dev = loaders(torch, nndl)
    runner.train(train, num_epochs=1, log_steps=0)
    runner.save_model(tmp_path / "model")
    before = runner.evaluate(dev)
    net[2].reset_running_stats()
    assert runner.evaluate(dev) != before
    runner.load_model(tmp_path / "model")
    assert runner.evaluate(dev) == before
    X = torch.tensor(as_arrays(EXAMPLES["dev"])[0])
    first, again = runner.predict(X), runner.predict(X)  # without a graph and without dropout
    assert not first.requires_grad
    torch.testing.assert_close(first, again)


def test_a_file_that_does_not_fit_changes_nothing(torch, nndl, tmp_path):
    runner = make(torch, nndl)
    runner.save_model(tmp_path / "model")
    other = nndl.Model_RNN4SeqClass(nndl.SRN(4, 7), 10, 4, 7, 19)
    optimizer = torch.optim.Adam(other.parameters())
    other = nndl.RunnerV3(other, optimizer, torch.nn.CrossEntropyLoss())
    before = other.values()["rnn_model.W"].copy()
    for path, said in (
        (tmp_path / "model", r"rnn_model.W: has shape \(4, 6\), expected \(4, 7\)"),
        (tmp_path / "none", "does not exist"),
    ):
        with pytest.raises(ParameterError, match=said):
            other.load_model(path)
    np.testing.assert_array_equal(other.values()["rnn_model.W"], before)


def test_the_published_gradient_log_sees_gradients_before_clipping(torch, nndl):
    norms = {"W": [], "U": [], "b": []}

    def custom_print_log(runner):
        for name, param in runner.model.named_parameters():
            if name.startswith("rnn_model."):
                norms[name[-1]].append(torch.norm(param.grad, p=2).item())

    options = {"optimizer": torch.optim.SGD, "lr": 0.2, "reduction": "sum"}
    runner, (train, _) = make(torch, nndl, **options), loaders(torch, nndl, 64)
    runner.train(
        train, num_epochs=2, log_steps=0, custom_print_log=custom_print_log, gradient_clip_val=1
    )
    assert {len(values) for values in norms.values()} == {10}
    for step, before, after in runner.gradient_norms:
        assert math.hypot(*(values[step] for values in norms.values())) <= before * (1 + 1e-5)
        assert after == pytest.approx(min(before, 1))
    assert max(before for _, before, _ in runner.gradient_norms) > 10
    assert runner.gradients.keys() == dict(runner.model.named_parameters()).keys()


@pytest.mark.parametrize("how", ["in place", "anew"])
def test_clipping_inside_the_log_counts(torch, nndl, how):
    def clip(runner):
        if how == "in place":
            torch.nn.utils.clip_grad_norm_(runner.model.parameters(), max_norm=0.5)
        else:
            for param in runner.model.parameters():
                param.grad = param.grad * 0

    options = {"optimizer": torch.optim.SGD, "lr": 1.0, "reduction": "sum"}
    runner, (train, _) = make(torch, nndl, **options), loaders(torch, nndl)
    before = {name: p.detach().clone() for name, p in runner.model.named_parameters()}
    only = [next(iter(train))]
    runner.train(only, num_epochs=1, log_steps=0, custom_print_log=clip)
    moved = [(p - before[name]).flatten() for name, p in runner.model.named_parameters()]
    expected = 0.5 if how == "in place" else 0.0
    assert torch.cat(moved).norm().item() == pytest.approx(expected, rel=1e-4)


def test_the_log_lines_say_what_is_clipped(torch, nndl, capsys, tmp_path):
    runner, (train, dev) = make(torch, nndl), loaders(torch, nndl)
    path = tmp_path / "best"
    runner.train(train, dev, num_epochs=1, log_steps=2, eval_steps=3, save_path=path)
    out = capsys.readouterr().out
    assert "[Train] epoch: 0/1, step: 2/6, loss: " in out
    assert "clipping" not in out
    assert "[Evaluate]  dev score: " in out
    assert "[Evaluate] best score so far: -inf --> " in out
    assert "[Train] Training done!" in out
    runner.train(train, num_epochs=1, log_steps=1, gradient_clip_val=0.01)
    assert " -> 0.01 after clipping" in capsys.readouterr().out


def test_evaluating_without_metric_or_loader_is_an_error(torch, nndl):
    train, dev = loaders(torch, nndl)
    without = make(torch, nndl, metric=False)
    for call, said in (
        (lambda: without.train(train, dev, num_epochs=1, eval_steps=1), "needs a metric"),
        (lambda: make(torch, nndl).train(train, num_epochs=1, eval_steps=1), "needs a dev_loader"),
        (lambda: without.evaluate(dev), "no metric"),
        (lambda: make(torch, nndl).evaluate(None), "no loader"),
        (lambda: make(torch, nndl).evaluate([]), "no minibatch"),
        (lambda: make(torch, nndl).train([], num_epochs=1), "no minibatch"),
    ):
        with pytest.raises(SettingError, match=said):
            call()
    assert without.train_step_losses == []


@pytest.mark.parametrize("framework", INSTALLED)
def test_the_runner_works_on_every_framework(framework, tmp_path):
    nndl = importlib.import_module(f"unrolled.nndl.{framework}")
    nndl.backend.seed(0)
    data = nndl.DigitSumData(5, 60, seed=0)
    model = nndl.Model_RNN4SeqClass(nndl.SRN(4, 6, seed=0), *SIZES, lr=0.02, seed=0)
    xp = nndl.backend.xp

    def loss_fn(outputs, labels):
        return xp.mean((outputs - xp.one_hot(labels, 19)) ** 2)

    runner = nndl.RunnerV3(model, model.configure_optimizers(), loss_fn, nndl.Accuracy())
    path = tmp_path / "best.safetensors"
    calls = []
    runner.train(
        data.train_dataloader(),
        data.val_dataloader(),
        num_epochs=2,
        log_steps=0,
        eval_steps=3,
        save_path=path,
        custom_print_log=lambda runner: calls.append(sorted(runner.gradients)),
    )
    assert len(runner.train_step_losses) == 10
    assert len(runner.train_epoch_losses) == 2
    assert runner.train_epoch_losses[1] < runner.train_epoch_losses[0]
    assert [step for step, _ in runner.dev_losses] == [3, 6, 9]
    assert len(calls) == 10
    assert calls[0] == sorted(["embedding.W", "linear.bias", "linear.weight", "rnn_model.U",
                               "rnn_model.W", "rnn_model.b"])  # fmt: skip
    runner.load_model(path)
    assert runner.evaluate(data.val_dataloader())[0] == runner.best_score
    X, _ = next(iter(data.loader("test")))
    assert tuple(runner.predict(X).shape) == (100, 19)
    runner.train(data.train_dataloader(), num_epochs=1, log_steps=0)  # on from what was loaded
    assert len(runner.train_epoch_losses) == 3
    assert runner.train_epoch_losses[-1] < runner.train_epoch_losses[0]
    with pytest.raises(UnrolledError):
        runner.load_model(tmp_path / "none")
