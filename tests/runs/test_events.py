"""Event files, read by TensorFlow's own code where it is installed, else by the format's text."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.runs.events import EventFile, _varint, crc32c

TAGS = {"epoch/loss": 0.25, "parameters/W_hh.gradient_norm": 1e30}


@pytest.fixture
def events(tmp_path):
    file = EventFile(tmp_path / "run")
    for step in (1, 300, 2**40):
        file.add(step, TAGS)
    file.add(5, {"huge": 1e300, "ü": -1.0})
    file.add(6, {})
    file.close()
    (found,) = (tmp_path / "run").iterdir()
    return found


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


@given(st.integers(0, 2**63))
def test_whole_numbers_come_back(value):
    found = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(_varint(value)))
    assert found == value


def test_every_record_is_whole(events):
    data, count = events.read_bytes(), 0
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert struct.unpack("<I", data[8:12])[0] == masked(data[:8])
        message = data[12 : 12 + length]
        assert struct.unpack("<I", data[12 + length : 16 + length])[0] == masked(message)
        data, count = data[16 + length :], count + 1
    assert count == 5  # the version, and four with numbers


def masked(data):
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


def test_tensorflow_reads_them(events):
    tensorflow = pytest.importorskip("tensorflow")
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
