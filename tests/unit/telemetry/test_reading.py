import json
import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import RunError
from unrolled.telemetry import reading
from unrolled.telemetry.reading import read_jsonl, read_telemetry
from unrolled.telemetry.recorded_run import RecordedRun
from unrolled.telemetry.records import LayerRecord, ParameterRecord, TelemetryRecord

RECORD = TelemetryRecord(
    step=3,
    epoch=1,
    loss=2.5,
    gradient_norm=4.0,
    parameters={"w": ParameterRecord(4.0, 1.0, 2.0, 1e-3)},
    layers={"rnn": LayerRecord([0.5, 1.0], [1.0, 2.0], 0.5, 1, 0.1, [1.0, 2.0], [0])},
)


def test_what_was_written_is_read(tmp_path):
    file = tmp_path / "telemetry.jsonl"
    file.write_text(f"{json.dumps(RECORD.as_dict())}\n" * 2)
    records, skipped = read_telemetry(file)
    assert (list(records), skipped) == ([RECORD, RECORD], [])


def test_the_names_of_models_come_along(tmp_path):
    parts = [{"part": "clipped", **RECORD.as_dict()}, RECORD.as_dict()]
    text = "".join(f"{json.dumps(part)}\n" for part in parts * 3)
    (tmp_path / "telemetry.jsonl").write_text(text)
    for every, count in ((1, 3), (3, 1)):
        histories = RecordedRun(tmp_path, every=every).read().histories
        assert {part: h.steps.length for part, h in histories.items()} == {
            "clipped": count,
            "": count,
        }


def test_numbers_that_were_not_finite_are_none_or_nan():
    data = RECORD.as_dict() | {"loss": None}
    data["layers"]["rnn"]["hidden_gradient_mean"] = [None, 1.0]
    record = TelemetryRecord.from_dict(data)
    assert record.loss is None
    assert math.isnan(record.layers["rnn"].hidden_gradient_mean[0])


def test_older_records_lack_fields_and_have_other_names():
    old = {"fall_per_step": 0.5, "reach": 3, "borders": [0], "weight_gradient_split": [1.0]}
    data = {"step": 1, "parameters": {"w": {}}, "layers": {"rnn": old}}
    record = TelemetryRecord.from_dict(data)
    assert record.parameters["w"] == ParameterRecord(None)
    expected = LayerRecord([], [], 0.5, 3, None, [1.0], truncation_points=[0])
    assert record.layers["rnn"] == expected


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"step": "1"},
        {"step": 1.5},
        {"step": True},
        {"step": 1, "loss": "x"},
        {"step": 1, "parameters": [1]},
        {"step": 1, "parameters": {"w": 3}},
        {"step": 1, "parameters": {"w": {"gradient_norm": []}}},
        {"step": 1, "layers": {"rnn": {"hidden_gradient_mean": 1}}},
        {"step": 1, "layers": {"rnn": {"hidden_gradient_mean": ["x"]}}},
        {"step": 1, "layers": {"rnn": {"truncation_points": [None]}}},
        {"step": 1, "clip_method": 3},
    ],
    ids=str,
)
def test_what_is_no_record_is_an_error(data):
    with pytest.raises(ValueError, match=r"."):
        TelemetryRecord.from_dict(data)


def test_damaged_lines_are_skipped_and_counted(tmp_path):
    file = tmp_path / "metrics.jsonl"
    deep = b"[" * 100_000
    lines = [b'{"a": 1}', b"{", b"", b"\xff\xfe", b"3", deep, b"null", b'{"a": 2}']
    file.write_bytes(b"\n".join(lines) + b'\n{"a": ')
    records, skipped = read_jsonl(file)
    assert list(records) == [{"a": 1}, {"a": 2}]
    assert skipped == [2, 4, 5, 6, 7, 9]


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_any_bytes_can_be_read(tmp_path_factory, lines):
    file = tmp_path_factory.mktemp("any") / "telemetry.jsonl"
    file.write_bytes(b"\n".join(lines))
    records, skipped = read_telemetry(file)
    count = len(list(records))
    assert count + len(skipped) <= len(file.read_bytes().split(b"\n"))


def test_a_line_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_LINE", 1000)
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b"x" * 5500 + b'\n{"a": 1}\n' + b"y" * 5000)
    records, skipped = read_jsonl(file)
    assert (list(records), skipped) == ([{"a": 1}], [1, 3])


def test_a_long_file_is_read_in_little_memory(tmp_path):
    file = tmp_path / "telemetry.jsonl"
    line = json.dumps(RECORD.as_dict())
    file.write_text(f"{line}\n" * 6_000)
    assert file.stat().st_size > 2_400_000
    records, _ = read_telemetry(file)
    next(records)
    tracemalloc.start()
    assert sum(1 for _ in records) == 5999
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(RunError, match="cannot be read: No such file"):
        read_jsonl(tmp_path / "nowhere.jsonl")
