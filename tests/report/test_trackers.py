import csv
import json
import math
import shutil

import pytest

from installed import FRAMEWORK
from unrolled import experiments
from unrolled.errors import RunError, SettingError
from unrolled.report import trackers
from unrolled.telemetry.records import LayerRecord, ParameterRecord, TelemetryRecord
from unrolled.training.records import EpochRecord, StepRecord

STEP = StepRecord(epoch=1, step=3, loss=2.5, num_targets=10, gradient_norm=4.0, clipped_norm=1.0)
EPOCH = EpochRecord(
    epoch=1,
    step=8,
    loss=2.0,
    val_loss=math.nan,
    gradient_norm=1.5,
    gradient_norm_max=3.0,
    clipped_norm=1.0,
    num_targets=100,
    train_s=0.5,
    timed_targets=100,
)
RECORD = TelemetryRecord(
    step=3,
    epoch=1,
    loss=2.5,
    gradient_norm=4.0,
    clip_method="value",
    parameters={"W": ParameterRecord(0.5, finite=True)},
    layers={"layers.0": LayerRecord([0.1, 0.2], [0.3, 0.4], 0.5, 2, None)},
)


class Kept(trackers.Tracker):
    """What a user may write."""

    def __init__(self, **options):
        super().__init__(**options)
        self.logged = []

    def log(self, step, values):
        self.logged.append((step, values))


def test_a_tracker_of_ones_own_needs_one_method():
    kept = Kept()
    kept.on_step(None, STEP)
    kept.record(RECORD)
    kept.on_epoch(None, EPOCH)
    kept.close()
    (_, step), (_, record), (_, epoch) = kept.logged
    assert [number for number, _ in kept.logged] == [3, 3, 8]
    norms = {"gradient_norm": 4.0, "clipped_norm": 1.0}
    assert step == {"step.loss": 2.5, **{f"step.{name}": norm for name, norm in norms.items()}}
    layer = {"layers.0.decay_per_step": 0.5, "layers.0.horizon_steps": 2}
    assert record == {"epoch": 1, "loss": 2.5, "gradient_norm": 4.0} | layer | {
        "parameters.W.gradient_norm": 0.5
    }
    norms = {"gradient_norm": 1.5, "gradient_norm_max": 3.0, "clipped_norm": 1.0}
    measures = {"epoch": 1, "loss": 2.0, "val_loss": None, **norms}
    assert epoch == {f"epoch.{name}": value for name, value in measures.items()}


def test_the_measures_of_an_experiment_and_the_name_of_a_part_are_used():
    kept = Kept(fields=lambda epoch: {"perplexity": 7.0, "text": "x"}, part="lstm")
    kept.on_epoch(None, EPOCH)
    ((_, values),) = kept.logged
    assert values["lstm.epoch.perplexity"] == 7.0
    assert not any("text" in name or "loss" in name for name in values)


def test_a_tracker_without_log_says_so():
    with pytest.raises(NotImplementedError, match=r"Tracker must define log\(step, values\)"):
        trackers.Tracker().on_step(None, STEP)


def rows(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_csv_has_a_row_for_each_epoch_and_each_record(tmp_path):
    tracker = trackers.Csv(tmp_path)
    tracker.on_step(None, STEP)
    tracker.record(RECORD)
    tracker.on_epoch(None, EPOCH)
    tracker.on_epoch(None, EPOCH)
    tracker.close()
    found = rows(tmp_path / "metrics.csv")
    assert len(found) == 2
    assert (found[0]["step"], found[0]["loss"], found[0]["val_loss"]) == ("8", "2.0", "")
    (record,) = rows(tmp_path / "telemetry.csv")
    assert record["layers.0.hidden_gradient_mean.1"] == "0.2"
    assert record["parameters.W.gradient_norm"] == "0.5"


@pytest.mark.parametrize("kind", [trackers.Csv, trackers.TensorBoard])
def test_where_nothing_can_be_written_it_says_so(tmp_path, kind):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        kind(tmp_path / "file").on_epoch(None, EPOCH)


def test_an_unknown_tracker_is_told_the_nearest_before_anything_is_written(unrolled, tmp_path):
    assert trackers.check(["csv", "csv"]) == [trackers.Csv]
    with pytest.raises(SettingError, match="did you mean 'tensorboard'"):
        trackers.check(["tensorbord"])
    outcome = unrolled("run", "linear-regression", "--out", "run", "--log", "svc")
    assert outcome.code == 2
    assert "did you mean 'csv'" in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_what_it_was_asked_to(unrolled, tmp_path):
    outcome = unrolled(
        *("run", "linear-regression", "--out", "run", "--log", "csv", "--log", "tensorboard")
    )
    assert outcome.code == 0
    assert [row["epoch"] for row in rows(tmp_path / "run/metrics.csv")] == ["1", "2", "3"]
    assert len(list((tmp_path / "run/tensorboard").iterdir())) == 1


SMALL = ("num_train=40", "batch_size=8", "max_epochs=3")
DIGITS = ["cells=gru,srn", "lengths=10", "batch_size=64", "num_hiddens=4", "max_epochs=2"]
BOTH = ("csv", "tensorboard")


@pytest.fixture(scope="module", params=["linear-regression", "language-model", "digit-sum"])
def straight(request, tmp_path_factory):
    """A run that was never stopped, with many checkpoints."""
    tiny = ["num_hiddens=4", "max_tokens=400", "num_steps=5", "batch_size=8", "max_epochs=3"]
    settings = {"linear-regression": SMALL, "digit-sum": DIGITS, "language-model": tiny}
    out = tmp_path_factory.mktemp("runs") / request.param
    name = request.param
    every = "every=3steps,keep=99"
    return experiments.run(name, tuple(settings[name]), FRAMEWORK, 0, out, BOTH, every)


def killed(straight, path, number):
    """A copy that looks as if it were killed at the end, with that many checkpoints in all."""
    shutil.copytree(straight, path)
    (path / "summary.json").unlink()
    folders = sorted(path.glob("checkpoints/**/step-*"))
    for folder in folders[number:]:
        shutil.rmtree(folder)
    return path


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_a_run_that_is_resumed_has_the_tables_of_one_that_was_never_stopped(
    straight, tmp_path, number
):
    run = killed(straight, tmp_path / "run", number)
    experiments.resume(run, log=BOTH, checkpoint="every=3steps,keep=99")
    for name in ("metrics", "telemetry"):
        if (straight / f"{name}.csv").exists():
            assert (run / f"{name}.csv").read_bytes() == (straight / f"{name}.csv").read_bytes()


def test_a_resumed_run_says_so(straight, tmp_path):
    run = killed(straight, tmp_path / "run", 2)
    last = sorted(run.glob("checkpoints/**/step-*"))[-1]
    part = {} if last.parent.name == "checkpoints" else {"part": last.parent.name}
    experiments.resume(run)
    (resumed,) = json.loads((run / "environment.json").read_text())["resumed"]
    assert resumed.items() >= {"step": int(last.name[5:]), **part}.items()
    when = resumed["began"].replace("T", " ").replace("+00:00", " UTC")
    of = f" of {part['part']}" if part else ""
    text = f"resumed {when} after step {resumed['step']}{of}"
    assert text in (run / "report.html").read_text()


def test_a_tracker_may_be_new_or_left_out_when_a_run_is_resumed(straight, tmp_path):
    run = killed(straight, tmp_path / "run", 2)
    experiments.resume(run)
    assert (run / "metrics.csv").read_bytes() == (straight / "metrics.csv").read_bytes()
    new = killed(straight, tmp_path / "new", 2)
    (new / "metrics.csv").unlink()
    shutil.rmtree(new / "tensorboard")
    experiments.resume(new, log=BOTH)
    steps = [(row.get("part"), row["step"]) for row in rows(straight / "metrics.csv")]
    kept = [(row.get("part"), row["step"]) for row in rows(new / "metrics.csv")]
    assert kept == steps[-len(kept) :]
