"""stand-in"""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    rank: int
    size: int
    local_rank: int
    host: str
    port: int


def place_from_environment():
    e = os.environ
    if int(e.get("WORLD_SIZE", 1)) == 1:
        return None
    return Place(
        int(e["RANK"]),
        int(e["WORLD_SIZE"]),
        int(e.get("LOCAL_RANK", 0)),
        e["MASTER_ADDR"],
        int(e["MASTER_PORT"]),
    )
