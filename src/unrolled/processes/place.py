"""`Place` of a process among several, from ``torchrun``'s environment or ours; `free_port`."""

import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from unrolled.errors import RunError, SettingError, shortened

LAUNCHER = "UNROLLED_LAUNCHER"
"""The environment variable with the process number of who started all processes."""

LAST_PORT = 2**16 - 1

OURS = range(20_000, 32_000)
"""Ports to choose from; systems give those above to connections."""


@dataclass(frozen=True)
class Place:
    """The place of this process among all that train together.

    Attributes:
        rank: its number, from 0; process 0 writes the files.
        size: how many processes there are.
        local_rank: its number among those of its machine, from 0: which GPU it takes.
        host: name or address of the machine of process 0.
        port: a port there that the framework, or ``torchrun``, may use; we use ``port + 1``.
    """

    rank: int
    size: int
    local_rank: int
    host: str
    port: int


def place_from_environment(environment: Mapping[str, str] = os.environ) -> Place | None:
    """Return the place that environment variables name; None where one process trains alone.

    They are ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``, ``MASTER_PORT`` and ``LOCAL_RANK``; without
    the last it is 0: one process on each machine. ``torchrun`` and ``unrolled run --processes`` set
    all of them.

    Raises:
        SettingError: some are missing, no whole number or out of range; all are named.
    """
    if not {"RANK", "WORLD_SIZE"} & environment.keys() or environment.get("WORLD_SIZE") == "1":
        return None
    wrong: list[str] = []

    def whole(name: str, least: int, most: int, default: str | None = None) -> int:
        given = environment.get(name, default)
        # int() takes more than anybody means: '1_0', ' 1'
        if given and given.isascii() and given.isdecimal() and least <= int(given[:20]) <= most:
            return int(given)
        is_given = "is not set" if given is None else f"is '{shortened(given)}'"
        wrong.append(f"{name} {is_given}; it must be a whole number from {least} to {most}")
        return least

    size = whole("WORLD_SIZE", 1, 2**20)
    rank = whole("RANK", 0, 2**20 if wrong else size - 1)
    local_rank = whole("LOCAL_RANK", 0, rank, "0")
    host = environment.get("MASTER_ADDR", "").strip()
    if not host:
        wrong.append(
            "MASTER_ADDR is not set; it must be the name or address of process 0's machine"
        )
    port = whole("MASTER_PORT", 1, LAST_PORT - 1)  # the next one must be there, too
    if wrong:
        raise SettingError("\n".join(wrong))
    return Place(rank, size, local_rank, host, port)


def free_port(following: int = 0, host: str = "") -> int:
    """Return a free port of this machine, at random, and so many free ones following it.

    Another program may take it before it is used: that is rare. By default it is free everywhere.
    """
    for _ in range(1000):
        port = OURS[secrets.randbelow(len(OURS))]
        try:
            with ExitStack() as opened:
                for each in range(port, port + following + 1):
                    opened.enter_context(socket.create_server((host, each)))
            return port
        except OSError:
            continue
    raise RunError(f"no port from {OURS.start} to {OURS.stop} is free; end programs that use them")
