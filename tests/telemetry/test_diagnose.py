"""Findings of runs with one known cause each; none of healthy ones; runs read from directories.

The ordinary tests train one run of each cause, and every third healthy one; ``make test-long``
trains all of them, and those that followed the remedy.
"""

import json
import math
from itertools import compress, cycle

import numpy as np
import pytest

from unrolled.errors import RunError
from unrolled.telemetry import (
    Finding,
    LayerRecord,
    ParameterRecord,
    TelemetryRecord,
    diagnose,
    diagnose_run,
)
from unrolled.telemetry.diagnose import Diagnosis, as_text

torch = pytest.importorskip("torch")
import sick_runs  # noqa: E402
from sick_runs import flat, healthy, mlp, rnn, sick, simple, train, trained  # noqa: E402
from torch import nn  # noqa: E402
from torch.optim import SGD  # noqa: E402

from unrolled.watch import watch  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny matrices gain nothing from more, and much is lost where others compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some(names, ordinary):
    """Parameters for all names, marked as long where they are not ordinary ones."""
    long = pytest.mark.long
    return [pytest.param(n, marks=[] if n in ordinary else [long]) for n in names]


ONE_OF_A_CAUSE = {cause: name for name, (cause, _) in reversed(sick_runs.SICK.items())}.values()
EVERY_THIRD = [*compress(sick_runs.HEALTHY, cycle([1, 0, 0]))]


def names(findings):
    return [finding.name for finding in findings]


def only(findings, name):
    assert name in names(findings), f"no {name} in {findings}"
    return next(finding for finding in findings if finding.name == name)


def warnings_of(run):
    return [finding for finding in run.diagnose() if finding.severity != "note"]


@pytest.mark.filterwarnings("ignore:watch. the weights have moved:RuntimeWarning")
@pytest.mark.parametrize("name", some(sick_runs.SICK, ONE_OF_A_CAUSE))
def test_the_cause_of_a_sick_run_comes_first(name):
    findings = sick(name).diagnose()
    warned = [finding for finding in findings if finding.severity != "note"]
    assert (warned[0].name, warned[0].follows_from) == (sick_runs.SICK[name][0], None)
    for place, finding in enumerate(findings):
        assert finding.text.endswith(".")
        assert finding.remedy
        assert finding.severity in ("serious", "warning", "note")
        assert all(math.isfinite(number) for number in finding.numbers.values())
        if finding.follows_from is not None:  # what follows stands behind its cause
            assert finding.follows_from in names(findings[:place])
            assert "follows from" in finding.text


@pytest.mark.parametrize("name", some(sick_runs.HEALTHY, EVERY_THIRD))
def test_a_healthy_run_gets_no_warning(name):
    assert warnings_of(healthy(name)) == []


@pytest.mark.long
@pytest.mark.parametrize("name", sick_runs.CURED)
def test_the_remedy_helps(name):
    said, run = sick_runs.CURED[name]
    assert said in warnings_of(sick(name))[0].remedy
    assert warnings_of(trained(run)) == []


def test_exploded_after_a_step_that_was_too_large():
    run = sick("rate jumps")
    root, *rest = run.diagnose()
    assert (root.name, root.step, root.follows_from) == ("step too large", 61, None)
    found = only(rest, "exploded")
    norms = [record.gradient_norm for record in run.records]
    assert (found.severity, found.follows_from) == ("serious", "step too large")
    assert found.numbers["norm"] == norms[found.step - 1] >= 10 * found.numbers["usual_norm"]
    assert found.numbers["update_ratio"] >= 1
    assert found.parameter in run.records[0].parameters
    assert f"In step {found.step}" in found.text
    found = only(rest, "divergence")
    assert (found.severity, found.step) == ("serious", 62)  # after a good beginning
    assert found.numbers["last"] > found.numbers["first"] > found.numbers["lowest"]


def test_saturated_and_dead():
    run = sick("exploding at once")
    found = only(run.diagnose(), "saturated and dead")
    assert (found.parameter, found.step) == ("rnn", 2)
    assert found.numbers["saturated"] > 0.9
    layers = [r.layers["rnn"] for r in run.records if r.step >= found.step]
    assert sum(layer.saturated >= 0.8 for layer in layers) / len(layers) >= 0.95


def test_units_of_a_gru_that_only_remember_are_not_saturated():
    torch.manual_seed(0)
    model = nn.GRU(3, 8)
    with torch.no_grad():
        model.bias_ih_l0[8:16] = 20.0  # of the update gate: nothing is forgotten
    with watch(model) as watched:
        optimizer = SGD(model.parameters(), lr=1e-3)
        for _ in range(20):
            optimizer.zero_grad()
            H = torch.where(torch.rand(1, 4, 8) < 0.5, -0.999, 0.999)
            model(torch.randn(9, 4, 3), H)[0][-1].sum().backward()
            optimizer.step()
    (layer,) = watched.last.layers.values()
    assert layer.saturated > 0.95
    assert layer.decay_per_step > 0.99
    assert not [name for name in names(watched.diagnose()) if "saturated" in name]


def test_a_clipped_explosion_is_no_explosion():
    run = simple(rnn, SGD, 0.1, loss=sick_runs.times_32, data=sick_runs.early, clip=20, steps=60)
    found = names(trained(run).diagnose())
    assert found[0] == "step too large"
    assert "exploded" not in found
    assert "saturated and dead" not in found


def test_vanished_through_time():
    found = only(sick("vanishing tanh").diagnose(), "vanished")
    assert (found.parameter, found.numbers["window"]) == ("rnn", 50)
    assert found.numbers["horizon_steps"] <= 10
    assert "LSTM" in found.remedy


def test_vanished_in_depth():
    deep = simple(lambda: mlp(*[8] * 12, unit=nn.Sigmoid), SGD, 0.1, data=flat, steps=25)
    found = [f for f in trained(deep).diagnose() if f.name == "vanished"]
    assert [f.parameter for f in found] == ["0.weight"]  # not that of the last, 24.weight


def test_dead_without_a_recurrence():
    torch.manual_seed(0)
    model = mlp(8)

    def each(step):
        if step == 20:
            model[0].bias.data.fill_(-100.0)  # as one far too long step leaves it

    run = train(model, SGD(model.parameters(), 0.05), flat, 60, each=each)
    found = only(run.diagnose(), "dead")
    assert (found.parameter, found.step) == ("0.weight", 21)


def test_clipped_nearly_always_or_never():
    found = only(sick("clipped to nothing").diagnose(), "clipped nearly always")
    assert found.numbers["share"] == 1
    assert found.numbers["median_norm"] > 10 * 1e-3
    run = simple(mlp, SGD, 0.1, data=flat, steps=40, clip=1e6, clips_at=1e6)
    found = only(trained(run).diagnose(), "never clipped")
    assert (found.severity, found.numbers["threshold"]) == ("note", 1e6)
    assert "never clipped" not in names(healthy("MLP").diagnose())


def test_plateau_of_steps_too_small():
    root, *rest = sick("tiny rate, SGD").diagnose()
    assert (root.name, root.remedy[:27]) == ("step too small", "raise the learning rate fro")
    found = only(rest, "plateau")
    assert found.follows_from == root.name
    assert found.numbers["last"] > 0.9 * found.numbers["first"]


@pytest.mark.parametrize(
    ("name", "step", "first"),
    [
        ("NaN in the data", 41, "an input of rnn"),
        ("log of 0", 51, "the loss"),
        ("SGD at 100", 17, "the output of 2"),
    ],
)
def test_nan_and_which_tensor_was_first(name, step, first):
    found = only(sick(name).diagnose(), "NaN")
    assert (found.step, found.parameter) == (step, first)


@pytest.mark.parametrize(
    ("perplexity", "heldout", "expected"), [(1.05, 20.0, ["memorised"]), (6.5, 7.5, [])]
)
def test_memorised_is_read_from_epochs_and_from_the_summary(
    tmp_path, perplexity, heldout, expected
):
    epochs = [{"epoch": e, "perplexity": perplexity, "val_perplexity": heldout} for e in (1, 2)]
    assert names(diagnose([], epochs)) == expected
    summary = {"perplexity": perplexity, "heldout_perplexity": heldout}
    found = diagnose_run(write(tmp_path / "run", [], [], summary)).findings[""]
    assert names(found) == expected
    assert all(finding.numbers == summary for finding in found)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ([0.4**t for t in range(12)][::-1], []),  # fallen to a tenth
        ([0.9**t for t in range(12)][::-1], ["truncation too short"]),  # still falling
        ([1.1**t for t in range(12)][::-1], ["truncation too short"]),  # growing
        ([1.0] * 12, []),
        ([math.nan] * 12, []),
        ([3.0] + [1.0] * 10 + [0.0], []),
    ],
)
def test_truncation_too_short(profile, expected):
    layer = LayerRecord(profile, profile, None, 12, None, truncation_points=[0])
    losses = np.linspace(3, 1, 40)
    records = [
        TelemetryRecord(s, 1, v, 1.0, layers={"rnn": layer}) for s, v in enumerate(losses, 1)
    ]
    found = diagnose(records)
    assert names(found) == expected
    for finding in found:
        assert (finding.severity, finding.parameter) == ("note", "rnn")
        assert "24 steps" in finding.remedy


def test_nothing_known_is_nothing_found():
    assert diagnose([]) == []
    empty = LayerRecord([], [], None, None, None)
    blank = [TelemetryRecord(s, None, None, None, layers={"rnn": empty}) for s in range(50)]
    assert diagnose(blank) == []
    two = [
        [TelemetryRecord(s, 1, v, 1.0) for s, v in ((1, 3.3), (2, loss))] for loss in (9.0, 5e28)
    ]
    assert diagnose(two[0]) == []  # a loss far above its first is divergence after few steps
    assert only(diagnose(two[1]), "divergence").numbers["last"] == 5e28


def test_a_lucky_first_minibatch_is_no_progress_that_a_loss_could_lose():
    false_alarms = 0
    for seed in range(50):
        draws = np.random.default_rng(seed)
        losses = draws.chisquare(8, 50) / 8  # the loss of eight examples by a model that stands
        losses[0] = losses.min()
        records = [TelemetryRecord(step, loss=x) for step, x in enumerate(losses.tolist(), 1)]
        false_alarms += "divergence" in names(diagnose(records))
        risen = [TelemetryRecord(step, loss=x + step / 4) for step, x in enumerate(losses, 1)]
        assert "divergence" in names(diagnose(risen))
    assert false_alarms == 0


# runs, from their directories


def write(path, telemetry=None, metrics=None, summary=None):
    path.mkdir()
    for name, lines in (("telemetry.jsonl", telemetry), ("metrics.jsonl", metrics)):
        if lines is not None:
            (path / name).write_text("".join(f"{line}\n" for line in lines))
    if summary is not None:
        (path / "summary.json").write_text(json.dumps(summary))
    return path


def as_lines(run, part=None):
    head = {} if part is None else {"part": part}
    return [json.dumps({**head, **record.as_dict()}) for record in run.records]


def words(outcome):
    assert outcome.code == 0
    return " ".join(outcome.out.split())


def test_a_run_is_judged_by_its_telemetry(tmp_path, unrolled):
    exploded = sick("rate jumps")
    run = write(tmp_path / "run", as_lines(exploded), [], {"status": "finished"})
    found = diagnose_run(run)
    assert found.findings[""] == diagnose(exploded.records)
    assert found.skipped == ["metrics.jsonl is empty"]
    outcome = unrolled("diagnose", run)
    assert "serious: step too large, step 61" in words(outcome)
    assert "What to do: lower the learning rate from 3" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100


def test_the_models_of_a_run_are_judged_apart(tmp_path):
    lines = as_lines(sick("rate jumps"), "unclipped") + as_lines(healthy("MLP"), "clipped")
    found = diagnose_run(write(tmp_path / "run", lines)).findings
    assert "step too large" in names(found["unclipped"])
    assert found["clipped"] == []


@pytest.mark.parametrize("telemetry", [None, [], ["{"]])
def test_metrics_alone_are_judged_where_there_is_no_telemetry(tmp_path, telemetry, unrolled):
    losses = np.linspace(3, 2, 30).tolist() + np.linspace(2, 40, 30).tolist()
    metrics = [json.dumps({"epoch": e, "step": 5 * e, "loss": v}) for e, v in enumerate(losses, 1)]
    run = write(tmp_path / "run", telemetry, metrics)
    found = diagnose_run(run)
    assert names(found.findings[""]) == ["divergence"]
    assert any("telemetry.jsonl" in text for text in found.skipped)
    run = write(tmp_path / "stopped", telemetry, metrics[:1], {"status": "diverged"})
    assert names(diagnose_run(run).findings[""]) == ["NaN"]
    assert unrolled("diagnose", run).code == 0


def test_it_says_what_it_has_seen_and_could_look_for(tmp_path, unrolled):
    metrics = [json.dumps({"epoch": e, "step": e, "loss": 2.0}) for e in range(1, 4)]
    for place, (telemetry, lines, said) in enumerate([
        (None, metrics, "looked for: NaN, exploded, divergence, plateau, clipping, memorised"),
        ([], [], "there is nothing in it that could be looked at"),
        ([], [], "telemetry.jsonl is empty"),
        (
            as_lines(healthy("MLP")),
            [],
            "(200 records; steps 1 to 200; 4 parameters) "
            "nothing to report; looked for: not seen, NaN, no gradient",
        ),
    ]):  # fmt: skip
        run = write(tmp_path / str(place), telemetry, lines, {})
        assert said in words(unrolled("diagnose", run))


LAYER = {"hidden_gradient_mean": [1e9, 1.0], "cell": "lstm"}


@pytest.mark.parametrize(
    ("name", "lines", "skipped"),
    [
        ("metrics", [{"epoch": 1e999, "loss": 2.0}], 1),
        ("metrics", [{"epoch": 1, "step": math.nan, "loss": 2.0}], 1),
        ("telemetry", [{"step": 1, "layers": {"rnn": {"truncation_points": [1e999]}}}], 1),
        ("telemetry", [{"step": 1, "layers": {"rnn": {**LAYER, "gates": {"forget": [1]}}}}], 0),
        ("telemetry", [{"step": 1, "layers": {"rnn": {**LAYER, "cell": "of tomorrow"}}}], 0),
    ],
)
def test_odd_numbers_and_names_in_a_file_end_no_diagnosis(tmp_path, name, lines, skipped):
    run = write(tmp_path / "run", **{name: map(json.dumps, lines)})
    assert sum("line 1 is damaged" in text for text in diagnose_run(run).skipped) == skipped


def test_weights_that_decay_without_a_gradient():
    decays = [
        TelemetryRecord(
            step,
            loss=3.0,
            gradient_norm=0.0,
            weight_decay=0.5,
            parameters={"w": ParameterRecord(0.0, 0.0, 0.8**step, 0.2)},
        )
        for step in range(50)
    ]
    found = only(diagnose(decays), "weight decay too strong")
    assert found.text.endswith("The weight decay is 0.5.")


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


# What a training did about NaN


def with_nan(last, *bad, **done):
    """Records of a training, some of steps that were not finite."""
    for step in range(1, last + 1):
        if step in bad:
            first = {"first_not_finite": "input 0", **done}
            yield TelemetryRecord(step, 1, math.nan, math.nan, **first)
        else:
            yield TelemetryRecord(step, 1, 2.0, 1.0)


@pytest.mark.parametrize(
    ("bad", "done", "said"),
    [
        ([4, 9], {"on_nonfinite": "skip"}, "Minibatch skipped twice: steps 4, 9."),
        (
            range(2, 30),
            {"on_nonfinite": "rollback", "rolled_back_to": 0},
            "Rolled back to the start 28 times: steps 2, 3, 4, 5, 6, 7, 8, 9 and 20 more.",
        ),
    ],
)
def test_steps_that_were_left_out_are_a_warning_that_names_them(bad, done, said):
    found = only(diagnose(with_nan(30, *bad, **done)), "NaN")
    assert (found.severity, found.step, found.parameter) == ("warning", bad[0], "input 0")
    first = f"In step {bad[0]} input 0 was NaN or infinite, before anything else that was seen."
    assert found.text == f"{first} {said}"
    assert found.numbers == {"steps": len(bad)}


def test_a_stop_after_them_is_serious():
    records = [*with_nan(9, 4, on_nonfinite="skip")]
    records.append(TelemetryRecord(10, 1, math.nan, math.nan, on_nonfinite="stop"))
    found = only(diagnose(records), "NaN")
    assert found.severity == "serious"
    assert found.text.endswith("Minibatch skipped once: step 4. Then the training stopped.")


def test_without_telemetry_the_epochs_say_how_many():
    lines = [{"epoch": n, "loss": 2.0, **({"not_finite": n} if n > 1 else {})} for n in (1, 2, 3)]
    found = only(diagnose([], lines), "NaN")
    assert found.severity == "warning"
    assert found.text.startswith("5 steps in 2 epochs had a loss or gradient that was NaN")
