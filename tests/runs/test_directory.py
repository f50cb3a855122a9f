import json
import math

import numpy as np
import pytest

from unrolled.errors import RunError
from unrolled.runs.directory import RunDirectory
from unrolled.runs.lines import EpochLog
from unrolled.training.records import EpochRecord

EPOCH = EpochRecord(
    epoch=1,
    step=8,
    loss=2.0,
    val_loss=None,
    gradient_norm=1.5,
    gradient_norm_max=3.0,
    clipped_norm=1.0,
    num_targets=100,
    train_s=0.5,
    timed_targets=100,
)


def test_json_comes_back_infinities_as_null_and_half_characters_escaped(tmp_path):
    directory = RunDirectory.create(tmp_path / "run")
    written = {"a": [1, math.inf, {"b": math.nan}], "c": "ü", "name": "caf\udce9"}
    directory.write_json("summary.json", written)
    read = {"a": [1, None, {"b": None}], "c": "ü", "name": "caf\\udce9"}
    assert directory.read_json("summary.json") == read


def test_models_come_back_exactly(tmp_path):
    directory = RunDirectory.create(tmp_path / "run")
    arrays = {"W": np.arange(6.0).reshape(2, 3).T, "b": np.ones(3, np.float32)}
    directory.save_model(arrays)
    found = directory.load_model()
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_timings_stand_apart_so_that_metrics_can_be_compared(tmp_path):
    directory = RunDirectory.create(tmp_path / "run")
    with directory:
        EpochLog(directory.lines, lambda epoch: {"loss": epoch.loss}).on_epoch(None, EPOCH)
    metrics = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    timings = json.loads((tmp_path / "run/timings.jsonl").read_text())
    assert metrics == {
        "epoch": 1,
        "step": 8,
        "loss": 2.0,
        "gradient_norm": 1.5,
        "gradient_norm_max": 3.0,
        "clipped_norm": 1.0,
    }
    assert timings == {"epoch": 1, "step": 8, "train_s": 0.5, "targets_per_s": 200.0}


def test_an_empty_directory_is_used_one_with_other_files_is_not(tmp_path):
    assert RunDirectory.create(tmp_path).path == tmp_path
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="already holds other files"):
        RunDirectory.create(tmp_path)


def test_runs_are_numbered_and_each_gets_its_own(tmp_path):
    names = [RunDirectory.create_next(tmp_path / "runs", "x").path.name for _ in range(3)]
    assert names == ["x-1", "x-2", "x-3"]


def test_where_no_directory_can_be_made_it_says_so(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RunError, match="cannot be made"):
        RunDirectory.create_next(tmp_path / "runs", "x")


def test_a_misspelt_run_is_told_the_nearest(tmp_path):
    (tmp_path / "first-run").mkdir()
    (tmp_path / "first-run/config.json").write_text("{}")
    with pytest.raises(RunError, match="did you mean 'first-run'"):
        RunDirectory.open(tmp_path / "frist-run")


def test_a_run_that_watch_has_made_is_told_apart_from_a_damaged_one(tmp_path):
    directory = RunDirectory.create(tmp_path / "run")
    config = {"experiment": "watch", "framework": "torch", "seed": None, "settings": {}}
    directory.write_json("config.json", config)
    with pytest.raises(RunError, match=r"made by watch, which keeps no weights.*unrolled report"):
        RunDirectory.open(tmp_path / "run")


def test_ctrl_c_while_a_run_begins_leaves_nothing(tmp_path):
    directory = RunDirectory.create(tmp_path / "runs/first")

    def begin():
        with directory.all_or_nothing():
            directory.write_json("config.json", {})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert not (tmp_path / "runs").exists()


def test_what_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    directory = RunDirectory.create(tmp_path / "run")
    directory.write_json("config.json", {})

    def refused(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("unrolled.runs.directory.read_json", refused)
    with pytest.raises(RunError, match=r"config\.json' cannot be read: Permission denied"):
        directory.read_json("config.json")
