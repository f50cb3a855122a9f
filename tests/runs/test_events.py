"""Event files, read by TensorFlow's own code."""

import pytest

from unrolled.runs.events import EventFile, crc32c

TAGS = {"epoch/loss": 0.25, "parameters/W_hh.gradient_norm": 1e30}


# RFC 3720, appendix B.4
@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"\x00" * 32, 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_checksums_are_those_of_the_standard(data, checksum):
    assert crc32c(data) == checksum


def test_tensorflow_reads_them(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    file = EventFile(tmp_path / "run")
    for step in (1, 300, 2**40):
        file.add(step, TAGS)
    file.add(5, {"huge": 1e300, "ü": -1.0})
    file.add(6, {})
    file.close()
    (events,) = (tmp_path / "run").iterdir()
    raw = [r.numpy() for r in tensorflow.data.TFRecordDataset(str(events))]  # checks the sums
    found = [tensorflow.compat.v1.Event.FromString(record) for record in raw]
    assert found[0].file_version == "brain.Event:2"
    assert [event.step for event in found[1:]] == [1, 300, 2**40, 5]
    for event in found[1:4]:
        read = {value.tag: value.simple_value for value in event.summary.value}
        assert read == pytest.approx(TAGS)
    assert found[4].summary.value[0].simple_value == pytest.approx(3.4e38, rel=0.01)
    assert found[4].summary.value[1].tag == "ü"


def read(directory):
    """Step and status of the events of all files, in the order in which TensorBoard reads them."""
    tensorflow = pytest.importorskip("tensorflow")
    found = []
    for file in sorted(directory.iterdir()):
        for raw in tensorflow.data.TFRecordDataset(str(file)):
            event = tensorflow.compat.v1.Event.FromString(raw.numpy())
            if event.HasField("session_log") or event.HasField("summary"):
                found.append((event.step, event.session_log.status))
    return found


def test_a_later_file_has_tensorboard_forget_the_steps_that_are_taken_again(tmp_path, monkeypatch):
    for steps, now in (((1, 2, 3, 4), 1e9), ((3, 4), 5e8), ((4, 5), 1e9 + 0.5)):
        monkeypatch.setattr("unrolled.runs.events.time.time", lambda now=now: now)
        file = EventFile(tmp_path)
        for step in steps:
            file.add(step, TAGS)
        file.close()
    start = 1  # SessionLog.START
    expected = [1, 2, 3, 4, (3, start), 3, 4, (4, start), 4, 5]
    assert read(tmp_path) == [each if isinstance(each, tuple) else (each, 0) for each in expected]


def test_tensorboard_shows_every_step_once(tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    for steps in ((1, 2, 3, 4), (3, 4), (4, 5)):
        file = EventFile(tmp_path)
        file.begin(steps[0])
        for step in steps:
            file.add(step, {"loss": step + 10 * len(steps)})
        file.close()
    shown = event_accumulator.EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(each.step, each.value) for each in shown] == [
        (1, 41),
        (2, 42),
        (3, 23),
        (4, 24),
        (5, 25),
    ]


def test_nothing_is_made_before_there_is_something_to_write(tmp_path):
    file = EventFile(tmp_path / "run")
    file.add(1, {})
    file.close()
    assert not (tmp_path / "run").exists()
