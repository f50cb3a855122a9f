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


def test_nothing_is_made_before_there_is_something_to_write(tmp_path):
    file = EventFile(tmp_path / "run")
    file.add(1, {})
    file.close()
    assert not (tmp_path / "run").exists()
