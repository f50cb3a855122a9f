"""Each finding on a training made to show it; all of them silent on healthy ones."""

import json
import math

import numpy as np
import pytest

from unrolled.errors import RunError
from unrolled.telemetry import Finding, LayerRecord, TelemetryRecord, diagnose, diagnose_run
from unrolled.telemetry.diagnose import Diagnosis, as_text

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from unrolled.watch import watch  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny matrices gain nothing from more, and much is lost where others compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Last(nn.Module):
    """A recurrent layer, and a linear one on its last output."""

    def __init__(self, rnn, outputs):
        super().__init__()
        self.rnn, self.out = rnn, nn.Linear(rnn.hidden_size, outputs)

    def forward(self, x):
        return self.out(self.rnn(x)[0][-1])


class Each(Last):
    """The same on every output, from a state that is carried on."""

    state = None

    def forward(self, x):
        y, state = self.rnn(x, self.state)
        self.state = state.detach()
        return self.out(y)


def train(model, batches, loss_of, optimizer, clip=None, **settings):
    """A training loop as people write it; gives the records."""
    with watch(model, keep=10_000, **settings) as watched:
        for x, y in batches:
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            watched.loss(loss)
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
        return watched.records


def sums_of_digits(steps, batch=64, length=20, seed=0):
    """Digits, of which the first two add up to the label; embedded by fixed random vectors."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(10, 32)).astype("f") / 3
    for _ in range(steps):
        digits = np.zeros((length, batch), int)
        digits[:2] = rng.integers(0, 10, (2, batch))
        digits[rng.integers(2, length, batch), np.arange(batch)] = rng.integers(0, 10, batch)
        label = torch.from_numpy(digits[0] + digits[1])
        yield torch.from_numpy(vectors[digits]), label


def streams(steps, length, target, batch=16, seed=0):
    """A stream of numbers, in pieces, and what is to be said of each."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps * length, batch, 1)).astype("f")
    y = target(x).astype("f")
    for i in range(steps):
        piece = slice(i * length, (i + 1) * length)
        yield torch.from_numpy(x[piece]), torch.from_numpy(y[piece])


def explosion(steps=60, clip=None):
    torch.manual_seed(0)
    model = Last(nn.RNN(32, 32), 19)
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.xavier_uniform_(p)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    summed = nn.CrossEntropyLoss(reduction="sum")
    return train(model, sums_of_digits(steps), summed, optimizer, clip)


@pytest.fixture(scope="module")
def exploded():
    return explosion()


def names(findings):
    return [finding.name for finding in findings]


def only(findings, name):
    found = [finding for finding in findings if finding.name == name]
    assert found, f"no {name} in {findings}"
    for finding in found:
        assert finding.text.endswith(".")
        assert finding.remedy
        assert finding.severity in ("serious", "warning", "note")
        assert all(math.isfinite(number) for number in finding.numbers.values())
    return found[0]


def test_exploded_after_a_step_that_was_too_large(exploded):
    root, *rest = diagnose(exploded)
    assert (root.name, root.step, root.follows_from) == ("step too large", 1, None)
    found = only(rest, "exploded")
    norms = [record.gradient_norm for record in exploded]
    assert (found.severity, found.follows_from) == ("serious", "step too large")
    assert found.numbers["norm"] == norms[found.step - 1] >= 10 * found.numbers["usual_norm"]
    assert found.numbers["update_ratio"] >= 1
    assert found.parameter in exploded[0].parameters
    assert f"In step {found.step}" in found.text


def test_saturated_and_dead(exploded):
    found = only(diagnose(exploded), "saturated and dead")
    assert found.parameter == "rnn"
    assert 2 <= found.step < 20
    assert found.numbers["saturated"] > 0.9
    layers = [r.layers["rnn"] for r in exploded if r.step >= found.step]
    share = sum(layer.saturated >= 0.9 for layer in layers) / len(layers)
    assert share >= 0.95


def test_units_of_a_gru_that_only_remember_are_not_saturated():
    torch.manual_seed(0)
    model = nn.GRU(3, 8)
    with torch.no_grad():
        model.bias_ih_l0[8:16] = 20.0  # of the update gate: nothing is forgotten
    records = []
    with watch(model, sink=records.append):
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(20):
            optimizer.zero_grad()
            H = torch.where(torch.rand(1, 4, 8) < 0.5, -0.999, 0.999)
            model(torch.randn(9, 4, 3), H)[0][-1].sum().backward()
            optimizer.step()
    (layer,) = records[-1].layers.values()
    assert layer.saturated > 0.95
    assert layer.decay_per_step > 0.99
    assert not [name for name in names(diagnose(records)) if "saturated" in name]


def test_what_follows_stands_behind_its_cause(exploded):
    findings = diagnose(exploded)
    for place, finding in enumerate(findings):
        if finding.follows_from is not None:
            assert finding.follows_from in names(findings[:place])
            assert "follows from" in finding.text


def test_a_clipped_explosion_is_no_explosion():
    found = names(diagnose(explosion(clip=20)))
    assert found[0] == "step too large"
    assert "exploded" not in found
    assert "saturated and dead" not in found


def test_vanished_through_time():
    torch.manual_seed(0)
    model = Last(nn.RNN(32, 16), 19)
    nn.init.normal_(model.rnn.weight_hh_l0, std=0.1 / 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    records = train(model, sums_of_digits(30), nn.CrossEntropyLoss(), optimizer)
    found = only(diagnose(records), "vanished")
    assert (found.parameter, found.numbers["window"]) == ("rnn", 20)
    assert found.numbers["horizon_steps"] <= 3
    assert "LSTM" in found.remedy


def test_vanished_in_depth():
    torch.manual_seed(0)
    layers = [part for _ in range(12) for part in (nn.Linear(8, 8), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.randn(16, 8), torch.randn(16, 1)) for _ in range(25)]
    found = diagnose(train(model, batches, nn.MSELoss(), optimizer))
    assert only(found, "vanished").parameter == "0.weight"
    assert not [f for f in found if f.parameter == "24.weight"]


def test_dead_without_a_recurrence():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    x = torch.rand(16, 4)

    def batches():
        for step in range(60):
            if step == 20:
                model[0].bias.data.fill_(-100.0)  # as one far too long step leaves it
            yield x, x.sum(1, keepdim=True) + torch.randn(16, 1)

    found = only(diagnose(train(model, batches(), nn.MSELoss(), optimizer)), "dead")
    assert (found.parameter, found.step) == ("0.weight", 21)


def regression(steps=60, lr=0.05, clip=None, noise=0.1, **settings):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    weights = torch.tensor([[2.0], [-3.4], [1.0]])
    batches = []
    for _ in range(steps):
        x = torch.randn(32, 3)
        batches.append((x, x @ weights + noise * torch.randn(32, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return train(model, batches, nn.MSELoss(), optimizer, clip, **settings)


def test_clipped_nearly_always():
    found = only(diagnose(regression(clip=0.01)), "clipped nearly always")
    assert found.numbers["share"] == 1
    assert found.numbers["median_norm"] > 1


def test_never_clipped():
    found = only(diagnose(regression(clip=1e6, clips_at=1e6)), "never clipped")
    assert (found.severity, found.numbers["threshold"]) == ("note", 1e6)
    assert "never clipped" not in names(diagnose(regression()))


def test_plateau():
    root, *rest = diagnose(regression(lr=1e-6))
    assert (root.name, root.remedy[:27]) == ("step too small", "raise the learning rate fro")
    found = only(rest, "plateau")
    assert found.follows_from == root.name
    assert found.numbers["last"] > 0.9 * found.numbers["first"]


def test_divergence():
    found = only(diagnose(regression(lr=1.2, steps=40)), "divergence")
    assert found.severity == "serious"
    assert found.numbers["last"] > found.numbers["first"]


def test_divergence_after_a_good_beginning():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def batches():
        for step in range(100):
            x = torch.randn(32, 3)
            if step == 50:
                optimizer.param_groups[0]["lr"] = 1.2
            yield x, x.sum(1, keepdim=True) * 3 + 0.1 * torch.randn(32, 1)

    found = only(diagnose(train(model, batches(), nn.MSELoss(), optimizer)), "divergence")
    assert 20 < found.step < 60


def test_nan_and_which_tensor_was_first():
    class Root(nn.Module):
        def forward(self, x):
            return torch.sqrt(x)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 1), Root())
    nn.init.constant_(model[0].weight, 1.0)
    nn.init.constant_(model[0].bias, 0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    batches = [(torch.ones(4, 1), torch.ones(4, 1) * 2)] * 3
    batches += [(-torch.ones(4, 1), torch.ones(4, 1))] * 3
    found = only(diagnose(train(model, batches, nn.MSELoss(), optimizer)), "NaN")
    assert (found.step, found.parameter) == (4, "the output of 1")


def test_memorised(tmp_path):
    from unrolled import experiments

    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " + "sphinx of black quartz " * 9)
    sets = ("num_hiddens=48", "max_epochs=150", "batch_size=2", "num_steps=10", "lr=2")
    path = experiments.run(
        "language-model", (*sets, f"text={text}", "max_tokens=45"), out=tmp_path / "run"
    )
    (findings,) = diagnose_run(path).findings.values()
    found = only(findings, "memorised")
    assert found.numbers["perplexity"] < 2 < found.numbers["heldout_perplexity"]


def test_memorised_is_read_from_epochs_too():
    epochs = [{"epoch": e, "perplexity": 1.05, "val_perplexity": 20.0} for e in (1, 2)]
    assert names(diagnose([], epochs)) == ["memorised"]
    epochs = [{"epoch": e, "perplexity": 6.5, "val_perplexity": 7.5} for e in (1, 2)]
    assert diagnose([], epochs) == []


def running_mean(x):
    """What needs all of the past."""
    return np.cumsum(x, axis=0) / 20


def test_truncation_too_short():
    torch.manual_seed(0)
    model = Each(nn.RNN(1, 8), 1)
    nn.init.eye_(model.rnn.weight_hh_l0)
    nn.init.normal_(model.rnn.weight_ih_l0, std=0.01)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    records = train(model, streams(60, 12, running_mean), nn.MSELoss(), optimizer)
    assert records[5].layers["rnn"].truncation_points == [0]
    found = only(diagnose(records), "truncation too short")
    assert (found.severity, found.parameter) == ("note", "rnn")
    assert "24 steps" in found.remedy


@pytest.mark.parametrize("profile", [[math.nan] * 12, [3.0] + [1.0] * 10 + [0.0]])
def test_a_border_of_truncation_without_gradients_is_no_finding(profile):
    layer = LayerRecord(profile, profile, None, 12, None, truncation_points=[0])
    records = [TelemetryRecord(step, 1, 2.0, 1.0, layers={"rnn": layer}) for step in range(1, 41)]
    assert "truncation too short" not in names(diagnose(records))


def delayed(x):
    """What needs one step of the past."""
    return 0.5 * x + np.concatenate([x[:1], x[:-1]])


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU])
def test_a_healthy_recurrent_training_is_left_in_peace(kind):
    torch.manual_seed(0)
    model = Each(kind(1, 16), 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batches = streams(150, 12, delayed)
    records = train(model, batches, nn.MSELoss(), optimizer, clip=1.0, clips_at=1.0)
    assert records[-1].loss < 0.1 * records[0].loss
    assert any(record.clip_coefficient < 1 for record in records)
    assert records[9].layers["rnn"].truncation_points == [0]
    assert diagnose(records) == []


def test_a_healthy_classifier_of_sequences_is_left_in_peace():
    torch.manual_seed(0)
    model = Last(nn.LSTM(32, 32), 19)
    nn.init.constant_(model.rnn.bias_ih_l0[32:64], 3.0)  # forget little, at first
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    records = train(model, sums_of_digits(150), nn.CrossEntropyLoss(), optimizer, clip=5.0)
    assert diagnose(records) == []


def test_a_healthy_network_without_recurrence_is_left_in_peace():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x = torch.randn(100, 64, 3)
    batches = [(part, part.pow(2).sum(1, keepdim=True)) for part in x]
    assert diagnose(train(model, batches, nn.MSELoss(), optimizer)) == []
    assert diagnose(regression(steps=200)) == []


def test_nothing_known_is_nothing_found():
    assert diagnose([]) == []
    empty = LayerRecord([], [], None, None, None)
    blank = [TelemetryRecord(s, None, None, None, layers={"rnn": empty}) for s in range(50)]
    assert diagnose(blank) == []


# runs, from their directories


def write(path, telemetry=None, metrics=None, summary=None):
    path.mkdir()
    for name, lines in (("telemetry.jsonl", telemetry), ("metrics.jsonl", metrics)):
        if lines is not None:
            (path / name).write_text("".join(f"{line}\n" for line in lines))
    if summary is not None:
        (path / "summary.json").write_text(json.dumps(summary))
    return path


def as_lines(records, part=None):
    head = {} if part is None else {"part": part}
    return [json.dumps({**head, **record.as_dict()}) for record in records]


def test_a_run_is_judged_by_its_telemetry(tmp_path, exploded, unrolled):
    run = write(tmp_path / "run", as_lines(exploded), [], {"status": "finished"})
    found = diagnose_run(run)
    assert found.findings[""] == diagnose(exploded)
    assert found.skipped == ["metrics.jsonl is empty"]
    outcome = unrolled("diagnose", run)
    assert outcome.code == 0
    assert "serious: step too large, step 1" in outcome.out
    assert "What to do: lower the learning rate from 0.2" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100


def test_the_models_of_a_run_are_judged_apart(tmp_path, exploded):
    healthy = regression(steps=60)
    lines = as_lines(exploded, "unclipped") + as_lines(healthy, "clipped")
    found = diagnose_run(write(tmp_path / "run", lines)).findings
    assert "step too large" in names(found["unclipped"])
    assert found["clipped"] == []


def test_damaged_lines_are_left_out_and_named(tmp_path, exploded, unrolled):
    lines = as_lines(exploded)
    lines[1:1] = ["{broken", "[]", '{"step": "x"}', '{"step": 3, "loss": "high"}']
    run = write(tmp_path / "run", lines, ['{"epoch": 1, "loss": 3.0}', "\0\0"])
    found = diagnose_run(run)
    assert found.findings[""] == diagnose(exploded)
    assert found.skipped == [
        "telemetry.jsonl: lines 2 to 5 are damaged and left out",
        "metrics.jsonl: line 2 is damaged and left out",
    ]
    assert "note: telemetry.jsonl: lines 2 to 5 are" in unrolled("diagnose", run).out


@pytest.mark.parametrize("telemetry", [None, [], ["{"]])
def test_metrics_alone_are_judged_where_there_is_no_telemetry(tmp_path, telemetry, unrolled):
    losses = np.linspace(3, 2, 30).tolist() + np.linspace(2, 40, 30).tolist()
    metrics = [json.dumps({"epoch": e, "step": 5 * e, "loss": v}) for e, v in enumerate(losses, 1)]
    run = write(tmp_path / "run", telemetry, metrics)
    found = diagnose_run(run)
    assert names(found.findings[""]) == ["divergence"]
    assert any("telemetry.jsonl" in text for text in found.skipped)
    assert unrolled("diagnose", run).code == 0


def test_it_says_what_it_could_look_for(tmp_path, unrolled):
    metrics = [json.dumps({"epoch": e, "step": e, "loss": 2.0}) for e in range(1, 4)]
    for telemetry, lines, said in (
        (None, metrics, "looked for: NaN, exploded, divergence, plateau, clipping, memorised"),
        ([], [], "there is nothing in it that could be looked at"),
    ):
        run = write(tmp_path / said[:5], telemetry, lines)
        assert said in " ".join(unrolled("diagnose", run).out.split())


def test_a_loss_far_above_its_first_is_divergence_after_few_steps():
    records = [TelemetryRecord(s, 1, loss, 1.0) for s, loss in ((1, 3.3), (2, 5e28))]
    assert only(diagnose(records), "divergence").numbers["last"] == 5e28
    assert diagnose([TelemetryRecord(s, 1, loss, 1.0) for s, loss in ((1, 3.3), (2, 9.0))]) == []


def test_a_run_that_stopped_for_nan_says_so(tmp_path):
    metrics = [json.dumps({"epoch": 1, "step": 5, "loss": 2.0})]
    found = diagnose_run(write(tmp_path / "run", None, metrics, {"status": "diverged"}))
    assert names(found.findings[""]) == ["NaN"]


def test_a_healthy_run_has_nothing_to_report(tmp_path, unrolled):
    run = write(tmp_path / "run", as_lines(regression()), [])
    outcome = unrolled("diagnose", run)
    assert outcome.code == 0
    assert "nothing to report; looked for: not seen, NaN, no gradient" in " ".join(
        outcome.out.split()
    )
    assert "60 records; steps 1 to 60; 2 parameters" in " ".join(outcome.out.split())


def test_empty_files_are_no_error(tmp_path, unrolled):
    outcome = unrolled("diagnose", write(tmp_path / "run", [], [], {}))
    assert outcome.code == 0
    assert "telemetry.jsonl is empty" in outcome.out


def test_what_is_no_run_is_an_error(tmp_path, unrolled):
    with pytest.raises(RunError, match="no such directory"):
        diagnose_run(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    outcome = unrolled("diagnose", tmp_path / "empty")
    assert outcome.code == 2
    assert "holds neither telemetry.jsonl nor metrics.jsonl" in outcome.err


def test_lines_are_wrapped():
    finding = Finding("plateau", "warning", "word " * 50 + "end.", None, "p", {}, "try " * 30)
    text = as_text(Diagnosis({"": [finding]}, ["1 record"]), "runs/mine", width=40)
    assert max(map(len, text.splitlines())) <= 40
    assert "warning: plateau, p" in text
