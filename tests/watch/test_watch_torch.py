"""``watch(model)`` beside training loops as people write them; truth from autograd itself."""

import copy
import gc
import io
import math
import pickle
import weakref
from functools import partial

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from watching import (
    B,
    D,
    H,
    Reader,
    T,
    data,
    make,
    near,
    norm,
    sgd,
    squares,
    step,
    trained_once,
    written_out,
)

from unrolled.errors import RunError, SettingError
from unrolled.telemetry.reading import read_telemetry
from unrolled.watch import watch
from unrolled.watch.torch.optimizer_hooks import all_steps

STEPS = {"tanh": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def test_norms_before_and_after_clipping_and_of_the_update():
    model = Reader()
    optimizer = sgd(model)
    with watch(model) as watched:
        for number in range(1, 4):
            optimizer.zero_grad()
            model(data(number)).pow(2).mean().backward()
            before = {n: p.grad.norm().item() for n, p in model.named_parameters()}
            whole = norm(model.parameters())
            nn.utils.clip_grad_norm_(model.parameters(), whole / 4)
            weights = {n: p.detach().clone() for n, p in model.named_parameters()}
            optimizer.step()
            record = watched.last
            assert record.step == number
            assert record.gradient_norm == near(whole)
            assert record.clipped_norm == near(whole / 4, 1e-3)
            assert record.clip_coefficient == near(0.25, 1e-3)
            assert record.clip_method == "global_norm"
            assert list(record.parameters) == list(before)
            for name, p in model.named_parameters():
                found, w = record.parameters[name], weights[name]
                assert found.gradient_norm == near(before[name])
                assert found.clipped_norm == near(before[name] / 4, 1e-3)
                assert found.weight_norm == near(w.norm().item())
                assert found.update_ratio == near(((p - w).norm() / w.norm()).item(), 1e-3)
                assert found.finite


@pytest.mark.parametrize("by_value", [False, True])
def test_a_step_without_clipping_of_the_whole(by_value):
    model = Reader()
    with watch(model, clips_at=None if by_value else 1e9) as watched:
        model(data()).sum().backward()
        if by_value:
            nn.utils.clip_grad_value_(model.parameters(), 0.01)
        sgd(model).step()
        record = watched.last
    if by_value:
        assert record.clip_coefficient < 1
        assert record.clip_method is None
    else:
        assert (record.clip_coefficient, record.clip_threshold) == (1.0, 1e9)
        assert record.clip_method == "global_norm"
        assert record.gradient_norm == record.clipped_norm


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("kind", STEPS)
def test_gradients_through_time_of_a_fused_layer(kind, dtype, rel):
    layer, x = make(STEPS[kind]).to(dtype), data(dtype=dtype)
    norms = written_out(layer, x).norms()
    record, _ = trained_once(layer, lambda: squares(layer(x)[0]))
    (found,) = record.layers.values()
    assert found.hidden_gradient_mean == near(norms.mean(1).tolist(), rel)
    assert found.hidden_gradient_max == near(norms.amax(1).tolist(), rel)
    assert found.horizon_steps == T - 1
    decay = (norms[0].mean() / norms[-1].mean()).item() ** (1 / (T - 1))
    assert found.decay_per_step == near(decay)
    assert found.truncation_points == []


def test_one_time_step_s_part_of_the_weight_gradient_is_all_of_it():
    layer = nn.LSTM(D, H)
    state = (torch.ones(1, B, H), torch.ones(1, B, H))
    record, _ = trained_once(layer, lambda: squares(layer(data()[:1], state)[0]))
    whole = layer.weight_hh_l0.grad.norm().item()
    assert record.layers["lstm"].weight_gradient_per_step == near([whole])
    assert record.layers["lstm"].truncation_points == []


def test_several_sequences_layers_and_directions_have_names():
    model = nn.GRU(D, H, num_layers=2, bidirectional=True)
    record, _ = trained_once(model, lambda: model(data(1))[0].sum() + squares(model(data(2))[0]))
    one = {"gru.0", "gru.0.backward", "gru.1", "gru.1.backward"}
    assert set(record.layers) == one | {name.replace("gru", "gru#2") for name in one}


def test_the_mean_is_over_gradients_accumulated_in_several_passes():
    model = Reader()
    optimizer = sgd(model)
    with watch(model) as watched:
        for part in range(4):
            (model(data(part)).pow(2).mean() / 4).backward()
        whole = norm(model.parameters())
        assert watched.last is None
        optimizer.step()
        record = watched.last
        assert (record.step, record.clip_coefficient) == (1, 1.0)
        assert record.gradient_norm == near(whole)
        optimizer.zero_grad()
        (model(data(3)).pow(2).mean() / 4).backward()
        optimizer.step()
        # through time the curves are those of the last minibatch alone
        assert watched.last.step == 2
        assert len(record.layers) == len(watched.last.layers) == 1


def test_a_gradient_that_is_differentiated_again_is_not_traced():
    model, x = Reader(nn.RNN), data().requires_grad_()

    def slope():
        return torch.autograd.grad(model(x).sum(), x, create_graph=True)[0].pow(2).sum()

    record, notes = trained_once(model, slope)
    assert record.layers == {}
    assert "differentiated again" in notes["rnn"]


def autocasts(kind):
    """Whether PyTorch runs its own layer in bfloat16 here: not its LSTM on CPUs before AVX-512."""
    try:
        with torch.autocast("cpu", torch.bfloat16):
            Reader(kind)(data())
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("kind", STEPS)
def test_under_autocast(kind):
    if not autocasts(STEPS[kind]):
        pytest.skip(f"PyTorch has no {kind} layer in bfloat16 for this CPU")

    def loss_of(model, enabled):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            return model(data()).pow(2).mean()

    found = []
    for enabled in (False, True):
        model = Reader(STEPS[kind])
        record, notes = trained_once(model, partial(loss_of, model, enabled))
        assert notes == {}
        found.append(record)
    exact, half = (record.layers["rnn"].hidden_gradient_mean for record in found)
    assert half == near(exact, 0.1)  # bfloat16 has three digits
    assert found[1].gradient_norm == near(found[0].gradient_norm, 0.1)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.LBFGS])
def test_an_optimizer_that_calls_back_for_its_gradients(kind):
    model = Reader()
    optimizer = kind(model.parameters(), lr=0.1)
    truth = []

    def closure():
        optimizer.zero_grad()
        loss = model(data()).pow(2).mean()
        loss.backward()
        truth.append(norm(model.parameters()))
        nn.utils.clip_grad_norm_(model.parameters(), truth[-1] / 2)
        return loss

    with watch(model) as watched:
        optimizer.step(closure)
        assert watched.steps == 1
        record = watched.last
    assert record.gradient_norm == near(truth[-1])
    assert record.clip_coefficient == near(0.5, 1e-3)
    assert record.parameters["out.weight"].update_ratio > 0


def test_frozen_unused_and_tied_parameters():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = nn.Embedding(7, H), nn.Linear(H, 7, bias=False)
            self.out.weight = self.embed.weight
            self.frozen, self.unused = nn.Linear(H, H), nn.Linear(2, 2)
            self.frozen.requires_grad_(False)

        def forward(self, ids):
            return self.out(self.frozen(self.embed(ids)))

    model = Model()
    record, _ = trained_once(model, lambda: model(torch.tensor([1, 2])).sum())
    whole, found = model.embed.weight.grad.norm().item(), record.parameters
    assert set(found) == {"embed.weight", "unused.weight", "unused.bias"}
    assert found["embed.weight"].gradient_norm == near(whole)
    assert found["unused.weight"].gradient_norm is None
    assert found["unused.weight"].update_ratio == 0
    assert record.layers == {}


def test_sparse_gradients_and_lazy_parameters():
    model = nn.Sequential(nn.Embedding(7, H, sparse=True), nn.LazyLinear(2))
    with watch(model) as watched:
        y = model(torch.tensor([1, 1, 2]))
        optimizer = sgd(model)
        for _ in range(2):
            y.sum().backward()
            whole = model[0].weight.grad.to_dense().norm().item()
            optimizer.step()
            assert watched.last.parameters["0.weight"].gradient_norm == near(whole)
            assert watched.last.parameters["1.weight"].gradient_norm > 0
            optimizer.zero_grad()
            y = model(torch.tensor([1, 1, 2]))


def test_inference_is_ignored():
    model = Reader()
    with watch(model) as watched:
        for seed in (1, 2):
            with torch.no_grad():
                model(data(9)), model(data(8))
            model.eval()
            with torch.inference_mode():
                model(data(7))
            model.train()
            step(model, model(data(seed)).sum())
        assert watched.steps == 2
        assert list(watched.last.layers) == ["rnn"]
        assert not watched.recurrences.by_name


def test_every_so_many_steps():
    model, seen = Reader(), []
    with watch(model, every=3, sink=seen.append, keep=2) as watched:
        for _ in range(8):
            step(model, model(data()).sum())
        assert [r.step for r in seen] == [1, 4, 7]
        assert [r.step for r in watched.records] == [4, 7]
        assert watched.steps == 8
        assert [r.step for r in watched] == [4, 7]
        assert list(watched) == []


def test_a_closed_watch_hears_of_no_step():
    model, listeners = Reader(), all_steps().listeners
    watched = watch(model)
    for _ in range(2):
        step(model, model(data()).sum())
        watched.close()  # twice: the second does nothing
    assert (watched.steps, len(watched.records)) == (1, 1)
    assert all_steps().listeners == listeners


def test_a_watch_that_is_never_closed_goes_with_its_model():
    model, records = Reader(), []
    watched = weakref.ref(watch(model, sink=records.append))  # nobody but the model keeps it
    gc.collect()
    for _ in range(2):
        step(model, model(data()).sum())
    assert len(records) == 2
    listeners = all_steps().listeners
    del model
    gc.collect()
    assert watched() is None
    sgd(Reader()).step()
    assert len(all_steps().listeners) < len(listeners)


def through_a_file(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), through_a_file]
)
def test_copies_are_not_watched(copied):
    model = Reader()
    with watch(model) as watched:
        other = copied(model)
        step(other, other(data()).sum())
        assert (watched.steps, watched.last) == (0, None)
        step(model, model(data()).sum())
        assert watched.steps == 1


def test_a_model_can_move_after_it_was_watched():
    model = Reader()
    with watch(model) as watched:
        model.double()
        step(model, model(data(dtype=torch.float64)).sum())
        assert watched.last.gradient_norm == near(norm(model.parameters()), 1e-12)
        assert watched.last.layers["rnn"].hidden_gradient_mean[-1] > 0


def test_nothing_of_a_step_is_kept():
    model = Reader()
    optimizer = sgd(model)
    with watch(model, keep=3) as watched:
        kept = []
        for step in range(4):
            optimizer.zero_grad()
            y = model(data(step))
            y.sum().backward()
            optimizer.step()
            kept.append(weakref.ref(y))
            gradients = [weakref.ref(p.grad) for p in model.parameters()]
        del y
        optimizer.zero_grad()
        gc.collect()
        assert not any(reference() is not None for reference in (*kept, *gradients))
        assert len(watched.records) == 3
        assert not watched.current.before
        assert not watched.current.gradient


def test_losses_are_seen_or_told():
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.criterion = nn.Linear(2, 1), nn.MSELoss()

        def forward(self, x, y):
            return {"loss": self.criterion(self.net(x), y), "logits": None}

    model = WithLoss()
    with watch(model) as watched:
        for told, recorded in (((), None), ((7.0, torch.tensor(9.0)), 8.0)):
            loss = model(torch.ones(3, 2), torch.zeros(3, 1))["loss"]
            for each in told:
                watched.loss(each)
            step(model, loss)
            assert watched.last.loss == near(recorded or loss.item())
        step(model, model.net(torch.ones(3, 2)).sum())
        assert watched.last.loss is None


def test_the_first_that_is_not_finite_has_a_name():
    class Logs(nn.Module):
        def forward(self, x):
            return torch.log(x)

    def first(model, loss_of):
        return trained_once(model, loss_of)[0].first_not_finite

    def model(scale=1.0, last=1.0):
        made = nn.Sequential(nn.Linear(2, 2), Logs(), nn.Linear(2, 1))
        nn.init.constant_(made[0].weight, scale)
        nn.init.zeros_(made[0].bias)
        made[2].weight.data[0, 0] = last
        return made

    ones = torch.ones(3, 2)
    negative, fine, infinite = model(-1.0), model(), model(last=math.inf)
    assert first(negative, lambda: negative(ones).sum()) == "the output of 1"
    assert first(fine, lambda: fine(ones * math.nan).sum()) == "an input of 0"
    assert first(infinite, lambda: infinite(ones).sum()) == "the weight 2.weight"
    no_slope = nn.Sequential(nn.Linear(2, 1))
    found = first(no_slope, lambda: torch.sqrt(no_slope(0 * ones) * 0).sum())  # 0 has none
    assert found.startswith("the gradient of 0.")


def test_a_disk_that_becomes_full_ends_no_training(tmp_path, monkeypatch):
    model = Reader()

    def steps(*numbers):
        for number in numbers:
            step(model, model(data(number)).sum())
        return watched.records  # settles the last

    with watch(model, out=tmp_path / "mine") as watched:
        written = steps(0)

        def full(lines, record):
            raise RunError(f"'{lines.path}' cannot be written: No space left on device")

        monkeypatch.setattr("unrolled.runs.lines.Lines.__call__", full)
        with pytest.warns(RuntimeWarning, match="No space left"):
            steps(1)
        assert len(steps(2, 3)) == 4
    assert "No space left" in watched.notes["out"]
    read, _ = read_telemetry(tmp_path / "mine" / "telemetry.jsonl")
    assert list(read) == written
    assert watched.diagnose() == []


def test_bad_settings():
    with pytest.raises(SettingError, match="every is 0"):
        watch(nn.Linear(1, 1), every=0)
    with pytest.raises(SettingError, match="keep is 0"):
        watch(nn.Linear(1, 1), keep=0)
    with pytest.raises(SettingError, match="was given a Tensor"):
        watch(torch.ones(1))
    with pytest.raises(SettingError, match="scaler is a float"):
        watch(nn.Linear(1, 1), scaler=2.0)
    with pytest.raises(SettingError, match=r"'rnnn'.*did you mean 'rnn'"):
        watch(Reader(), states={"rnnn": "h"})
    with pytest.raises(SettingError, match=r"'h'.*forward of reader"):
        watch(Reader(), states={"reader": "h"})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_beside_lightning(tmp_path):
    lightning = pytest.importorskip("pytorch_lightning")

    class Lit(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Reader()
            self.norms = []

        def training_step(self, batch, index):
            return self.net(batch[0].transpose(0, 1)).pow(2).mean()

        def on_before_optimizer_step(self, optimizer):
            self.norms.append(norm(self.parameters()))

        def configure_optimizers(self):
            return sgd(self)

    model = Lit()
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.randn(16, T, D)), batch_size=4
    )
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=0.05,
        accumulate_grad_batches=2,
        default_root_dir=tmp_path,
    )
    with watch(model) as watched:
        trainer.fit(model, loader)
        records = watched.records
    assert [r.step for r in records] == [1, 2, 3, 4]
    assert [r.gradient_norm for r in records] == near(model.norms)
    assert all(r.clipped_norm == near(min(r.gradient_norm, 0.05), 1e-3) for r in records)
    assert list(records[0].layers) == ["net.rnn"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("early", [True, False])
def test_beside_accelerate(precision, early):
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(True)
    accelerator = accelerate.Accelerator(
        cpu=True, mixed_precision=precision, gradient_accumulation_steps=2
    )
    model = Reader(nn.GRU)  # PyTorch's LSTM does not run in bfloat16 on every CPU
    handle = watch(model) if early else None
    optimizer = sgd(model)
    model, optimizer = accelerator.prepare(model, optimizer)
    handle = handle or watch(model)
    norms = []
    with handle as watched:
        for step in range(4):
            with accelerator.accumulate(model):
                accelerator.backward(model(data(step)).pow(2).mean())
                if accelerator.sync_gradients:
                    norms.append(norm(model.parameters()))
                    accelerator.clip_grad_norm_(model.parameters(), 0.05)
                optimizer.step()
                optimizer.zero_grad()
        records = watched.records
    accelerate.state.AcceleratorState._reset_state(True)
    assert [r.gradient_norm for r in records] == near(norms)
    assert all(r.clipped_norm == near(min(r.gradient_norm, 0.05), 1e-3) for r in records)
    assert all(list(r.layers) == ["rnn"] for r in records)
