"""How processes come together: process 0 waits for the others and compares what they say."""

import asyncio
import errno
import ipaddress
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from unrolled.differences import differences
from unrolled.errors import RunError
from unrolled.output import printable
from unrolled.processes.messages import (
    LONGEST_TEXT,
    MOST_MESSAGE,
    Connection,
    Hello,
    decode,
    decode_hello,
)
from unrolled.processes.place import Place, free_port

HELLO_S = 5.0
"""Seconds within which a caller must say hello."""

PAUSE_S = 0.1
"""Seconds between attempts to connect, and between looks at who has come."""

MOST_DIFFERENCES, MOST_REFUSED = 10, 5
"""Differences, and refusals, that an error lists at most."""


@dataclass(frozen=True)
class Arrival:
    """All processes have come: the connections with them, and who they are."""

    connections: dict[int, Connection]  # by rank: process 0 has all the others, these have it
    processes: list[tuple[str, int]]  # machine and process number of each, in the order of ranks
    engine_port: int  # one of process 0's machine that was free


class Reception:
    """The callers at process 0: who has come, and who was refused."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.came: dict[int, tuple[Hello, Connection]] = {}
        self.refused: list[str] = []  # the first ones

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let in a caller that says hello; refuse one that does not fit, and drop strangers."""
        connection = Connection(reader, writer)
        to_close = [connection]
        try:
            async with asyncio.timeout(HELLO_S):
                other = decode_hello(await connection.read())
            if why := self._refusal(other):
                why = f"{other} was refused: {why}"
                self.refused = [*self.refused, why][:MOST_REFUSED]
                connection.send("error", why)
            else:
                connection.name = str(other)
                to_close = [self.came[other.rank][1]] if other.rank in self.came else []
                self.came[other.rank] = other, connection
        except (OSError, EOFError, ValueError, TimeoutError):
            pass  # no process of ours
        finally:
            for each in to_close:
                await each.close()

    def _refusal(self, other: Hello) -> str:
        before = self.came.get(other.rank)
        if before and not before[1].is_closed:
            return f"{before[0]} is there already; each process needs a RANK of its own"
        if other.size != self.place.size:
            return f"WORLD_SIZE is {self.place.size} in process 0; it must be the same in all"
        if not 1 <= other.rank < self.place.size:
            return f"RANK must be from 1 to {self.place.size - 1}"
        return ""

    def missing(self) -> list[int]:
        """Ranks that are not there."""
        here = {rank for rank, (_, each) in self.came.items() if not each.is_closed}
        return sorted({*range(1, self.place.size)} - here)


async def wait_for_all(place: Place, hello: Hello, limit_s: float) -> Arrival:
    """Wait, as process 0, for all the others; tell them who is there, or why it cannot be."""
    reception = Reception(place)
    server = await asyncio.start_server(reception.greet, sock=_listen(place))
    try:
        async with asyncio.timeout(limit_s):
            while reception.missing():
                await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        pass  # who is missing is said below
    except asyncio.CancelledError:  # Ctrl-C
        for _, connection in reception.came.values():
            connection.writer.transport.abort()
        raise
    finally:
        server.close()
    came = dict(sorted(reception.came.items()))
    connections = {rank: connection for rank, (_, connection) in came.items()}
    wrong: list[str] = []
    if missing := reception.missing():
        wrong = [*reception.refused, _who_is_missing(place, missing, limit_s)]
    wrong += [line for other, _ in came.values() for line in compared(hello, other)]
    if wrong:
        for connection in connections.values():
            connection.send("error", "\n".join(wrong))
        await asyncio.gather(*(connection.close() for connection in connections.values()))
        raise RunError("\n".join(wrong))
    everybody = [hello, *(other for other, _ in came.values())]
    arrival = Arrival(connections, [(each.host, each.process) for each in everybody], free_port())
    for connection in connections.values():
        connection.send("welcome", [arrival.processes, arrival.engine_port])
        connection.heard = time.monotonic()
    return arrival


def _who_is_missing(place: Place, missing: Sequence[int], limit_s: float) -> str:
    ranks = ", ".join(map(str, missing[:20])) + (", ..." if len(missing) > 20 else "")
    who = f"process {ranks} of {place.size} has" if len(missing) == 1 else f"processes {ranks} have"
    return (
        f"{who} not come: waited {limit_s:g} s at {place.host}:{place.port + 1}; start "
        f"{'it' if len(missing) == 1 else 'them'} with the same MASTER_ADDR, MASTER_PORT and "
        f"WORLD_SIZE ({place.size}), and see whether a firewall closes port {place.port + 1}"
    )


def compared(ours: Hello, other: Hello) -> list[str]:
    """Return in what another process differs from process 0: one line, or none."""
    found = differences(ours.about, other.about, other="{} there")
    if not found:
        return []
    shown = [printable(each)[:LONGEST_TEXT] for each in found[:MOST_DIFFERENCES]]
    more = len(found) - len(shown)
    return [
        f"{other} differs from process 0: {', '.join(shown)}{f' and {more} more' if more else ''}; "
        "give all processes the same versions, settings and data"
    ]


def _listen(place: Place) -> socket.socket:
    """Open the port: on all addresses, as names of this machine may mean others elsewhere."""
    family, near = socket.AF_INET, place.host == "localhost"
    with suppress(ValueError):
        address = ipaddress.ip_address(place.host)
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        near = address.is_loopback
    with suppress(OSError, UnicodeError):  # a name that only the others know
        if place.host != "localhost":
            family = socket.getaddrinfo(place.host, None)[0][0]
    port = place.port + 1
    try:
        return socket.create_server((place.host if near else "", port), family=family)
    except OSError as error:
        why = (
            "is taken" if error.errno == errno.EADDRINUSE else f"cannot be opened: {error.strerror}"
        )
        raise RunError(
            f"port {port} of this machine (MASTER_PORT + 1), where the processes meet, {why}; "
            "choose another MASTER_PORT, or end the program that uses it"
        ) from None


async def join(place: Place, hello: Hello, limit_s: float) -> Arrival:
    """Find process 0, trying again until the limit, and wait for its word on all of us."""
    end = time.monotonic() + limit_s
    while True:
        try:
            return await _ask(place, hello, end, limit_s)
        except (socket.gaierror, UnicodeError):
            why = "there is no such host"
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno else "nobody answers"
        except (EOFError, ValueError, TypeError):
            why = "what answers there is no process of ours; another program may have the port"
        if time.monotonic() + PAUSE_S >= end:
            break
        await asyncio.sleep(PAUSE_S)
    raise RunError(
        f"process 0 of {place.size} has not come: process {place.rank} waited {limit_s:g} s for "
        f"{place.host}:{place.port + 1}: {why}; start it with the same MASTER_ADDR and "
        "MASTER_PORT, and see whether a firewall closes the port"
    )


async def _ask(place: Place, hello: Hello, end: float, limit_s: float) -> Arrival:
    async with asyncio.timeout(max(end - time.monotonic(), 0)):
        reader, writer = await asyncio.open_connection(place.host, place.port + 1)
    connection = Connection(reader, writer)
    try:
        if writer.get_extra_info("sockname") == writer.get_extra_info("peername"):
            raise EOFError  # TCP may connect a port that nobody listens at with itself
        connection.send("hello", asdict(hello))
        # process 0 may have begun to wait only now
        async with asyncio.timeout(limit_s + HELLO_S):
            match decode(await connection.read(place.size * MOST_MESSAGE)):
                case "error", str(why):
                    raise RunError("\n".join(map(printable, why.splitlines())))
                case "welcome", [[*processes], int(port)] if len(processes) == place.size:
                    everybody = [(str(host), int(process)) for host, process in processes]
                    connection.name = str(Hello(0, place.size, *everybody[0], about={}))
                    return Arrival({0: connection}, everybody, port)
        raise ValueError("no answer of ours")
    except BaseException:
        await connection.close()
        raise
