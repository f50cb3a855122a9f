import tracemalloc

import numpy as np
import pytest

from unrolled.telemetry import history, records
from unrolled.telemetry.columns import Table
from unrolled.telemetry.history import History
from unrolled.telemetry.records import ParameterRecord, TelemetryRecord


def test_a_table_has_nan_where_nothing_was_added():
    table = Table()
    table.add(1, {"a": 2.0, "b": None})
    table.add(3, {"a": None, "c": 5.0})
    np.testing.assert_array_equal(table["a"], [np.nan, 2, np.nan, np.nan])
    np.testing.assert_array_equal(table["c"], [np.nan, np.nan, np.nan, 5])
    assert np.isnan(table["b"]).all()
    assert len(table["unknown"]) == 4


def test_parameters_that_change_their_name_at_every_step_take_little_memory():
    found = History()
    tracemalloc.start()
    for step in range(3000):
        found.add(TelemetryRecord(step, parameters={f"w{step}": ParameterRecord(1.0, 1.0)}))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000  # a full table of each would take 140 million


def test_only_so_many_parameters_are_kept(monkeypatch):
    monkeypatch.setattr(history, "MOST_PARAMETERS", 2)
    monkeypatch.setattr(records, "MOST_PARAMETERS", 2)
    found = History()
    for step in range(4):
        found.add(TelemetryRecord(step, parameters={f"w{step}": ParameterRecord(1.0)}))
    assert list(found.parameters) == ["w0", "w1"]
    line = {"step": 1, "parameters": {name: {} for name in "abc"}}
    with pytest.raises(ValueError, match="it has more than 2 parameters"):
        TelemetryRecord.from_dict(line)
