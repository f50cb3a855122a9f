"""Write TensorBoard event files.

A file of records, each a length, a checksum, a message, a checksum; the message holds the time,
the step, and numbers by name. A package for it would bring TensorFlow's or protobuf's versions
along, on which the frameworks here disagree.

References: ``tensorflow/core/lib/io/record_writer.h``, ``tensorflow/core/util/event.proto``
and ``tensorflow/core/framework/summary.proto``; checksum: CRC-32C, RFC 3720, appendix B.4.
"""

import os
import re
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from unrolled.runs.lines import unwritten

POLYNOMIAL = 0x82F63B78  # of CRC-32C, bits reversed

NAME = re.compile(r"events\.out\.tfevents\.([0-9]+\.[0-9]+)\.")

START = 1  # of a session, in the SessionLog of event.proto


def _table() -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (POLYNOMIAL if byte & 1 else 0)
        entries.append(byte)
    return tuple(entries)


CRC_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The checksum of Castagnoli."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


class EventFile:
    """A file of events in a directory, which TensorBoard shows as a run; made when needed.

    Where an earlier process has left files there, it begins with an event that has TensorBoard
    forget what they say of this step and later ones.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._begun = False
        self._open: BinaryIO | None = None

    def begin(self, step: int) -> None:
        """Make the file, if there is none yet; ``step`` is the first that it is about."""
        if self._open is not None:
            return
        try:
            self._make(step)
        except OSError as error:
            raise unwritten(self.directory, error) from None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers by name."""
        if not values:
            return
        self.begin(step)
        try:
            summary = b"".join(_bytes(1, _bytes(1, tag.encode()) + _float(2, value))
                               for tag, value in values.items())  # fmt: skip
            self._write(_double(1, time.time()) + _int(2, step) + _bytes(5, summary))
        except OSError as error:
            raise unwritten(self.directory, error) from None

    def close(self) -> None:
        """Close the file."""
        if self._open is not None:
            with suppress(OSError):  # what could not be written was told of when it was
                self._open.close()
            self._open = None

    def _make(self, step: int) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        earlier = [float(found[1]) for each in self.directory.iterdir()
                   if (found := NAME.match(each.name))]  # fmt: skip
        # TensorBoard reads them in the order of their names, also where the clock was set back
        now = max([time.time(), *(time_ + 1 for time_ in earlier)])
        name = f"events.out.tfevents.{now:.6f}.{socket.gethostname()}.{os.getpid()}"
        self._open = (self.directory / name).open("wb")
        self._write(_double(1, now) + _bytes(3, b"brain.Event:2"))
        if earlier and not self._begun:
            self._write(_double(1, now) + _int(2, step) + _bytes(7, _int(1, START)))
        self._begun = True

    def _write(self, message: bytes) -> None:
        assert self._open is not None
        length = struct.pack("<Q", len(message))
        self._open.write(length + _masked(length) + message + _masked(message))
        self._open.flush()


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


# the fields of a protocol buffer: number and kind of the field, then the value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3 | 0) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _float(field: int, value: float) -> bytes:
    limit = 3.4028234663852886e38  # beyond what four bytes hold
    return _varint(field << 3 | 5) + struct.pack("<f", min(max(value, -limit), limit))
