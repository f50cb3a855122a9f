"""Messages between processes: JSON of a limited size behind four bytes that say its length.

Anybody may connect to an open port, so nothing here trusts what comes: no pickle, and what is no
message is a ``ValueError``. The first four bytes of other protocols, as of HTTP, are a length
beyond the limit.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

from unrolled.errors import RunError, SettingError
from unrolled.output import printable
from unrolled.untrusted import MIB, parse_json

MOST_MESSAGE = MIB
"""Bytes of what one process tells."""

LENGTH = 4
"""Bytes that say how many follow."""

LONGEST_TEXT = 1000
"""Characters of an error of another process that are shown."""


@dataclass(frozen=True)
class Hello:
    """The first message of a process: who it is, and what must be the same in all."""

    rank: int
    size: int
    host: str
    process: int
    about: dict[str, Any]

    def __str__(self) -> str:
        who = f"host {printable(self.host)[:100]}, process {self.process}"
        return f"process {self.rank} of {self.size} ({who})"


HELLO = {"rank": int, "size": int, "host": str, "process": int, "about": dict}


def encode(kind: str, value: Any = None, most: int | None = None) -> bytes:
    """Return a message as bytes; a `SettingError` says that it cannot be, or takes too many."""
    try:
        data = json.dumps({kind: value}, separators=(",", ":")).encode()
        parse_json(data)  # as the other end will: half characters, too long numbers, too deep
    except (TypeError, ValueError, RecursionError) as error:
        raise SettingError(f"other processes cannot be told this {kind}: {error}") from None
    if most is not None and len(data) > most:
        raise SettingError(
            f"other processes cannot be told this {kind}: it has {len(data):,} bytes; "
            f"at most {most:,} are expected"
        )
    return len(data).to_bytes(LENGTH) + data


def decode(data: bytes) -> tuple[str, Any]:
    """Return kind and value of a message without its length; a `ValueError` if it is none."""
    message = parse_json(data)
    if not isinstance(message, dict) or len(message) != 1:
        raise ValueError("it is no message")
    return next(iter(message.items()))


def decode_hello(data: bytes) -> Hello:
    """Return the hello of a process; a `ValueError` if it is none."""
    match decode(data):
        case "hello", dict(value) if {name: type(part) for name, part in value.items()} == HELLO:
            return Hello(**value)
    raise ValueError("it is no hello")


class Connection:
    """A connection with another process.

    Attributes:
        name: the other process, for messages.
        heard: when it was last heard, of ``time.monotonic``.
        left: whether it has said that it ends.
        inbox: what it has told, for who waits; an error there stays.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.name = "a process"
        self.heard = time.monotonic()
        self.left = False
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()

    @property
    def is_closed(self) -> bool:
        """Return whether the other process has closed the connection."""
        return self.reader.at_eof() or self.reader.exception() is not None

    def send(self, kind: str, value: Any = None) -> None:
        """Send a message without waiting: what the other end does not take is kept for it."""
        if not self.writer.is_closing():
            self.writer.write(encode(kind, value))

    async def read(self, most: int = MOST_MESSAGE) -> bytes:
        """Return the next message as it came.

        Raises:
            OSError, EOFError: the connection has ended, or was broken.
            ValueError: what comes is longer than a message.
        """
        length = int.from_bytes(await self.reader.readexactly(LENGTH))
        if length > most:
            raise ValueError(f"{length:,} bytes are no message")
        return await self.reader.readexactly(length)

    async def receive(self) -> Any:
        """Wait for what the other process tells; raise its error if it has left."""
        told = await self.inbox.get()
        if isinstance(told, RunError):
            self.inbox.put_nowait(told)  # for the next who waits
            raise told
        return told

    async def close(self) -> None:
        """Close it, after what was sent is gone; wait at most a second."""
        self.writer.close()
        try:
            async with asyncio.timeout(1):
                await self.writer.wait_closed()
        except (OSError, TimeoutError):
            self.writer.transport.abort()
