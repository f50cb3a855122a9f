"""Processes for tests of a meeting: each runs a few lines in its place."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from unrolled.processes.place import free_port

LIMIT_S = 120
"""Seconds after which a process that has not ended is a failure."""

LOST = 3
"""The exit code of a process that ends because another one was lost."""

BEFORE = """
import json, os, signal, sys, time
from unrolled.errors import UnrolledError
from unrolled.processes import meeting as module
from unrolled.processes.place import place_from_environment

place = place_from_environment()

def meet(about=None, limit_s=60, **more):
    quick = {"beat_s": 0.1, "silence_s": 60, **more}
    return module.meet(place, {} if about is None else about, limit_s, **quick)

def main():
    CODE

try:
    main()
except UnrolledError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


@dataclass
class Ended:
    """How a process has ended."""

    code: int
    out: str
    err: str

    @property
    def value(self):
        """The last line of its output, as JSON."""
        return json.loads(self.out.splitlines()[-1])


class Member(subprocess.Popen):
    """A process in its place; it says ``met`` where the code prints so."""

    def __init__(self, code, rank, size=2, port=None, host="127.0.0.1", command=(), **more):
        place = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": host, "MASTER_PORT": port}
        environment = {**os.environ, **{name: str(value) for name, value in place.items()}, **more}
        program = BEFORE.replace("CODE", code.strip().replace("\n", "\n    "))
        super().__init__(
            [*command, sys.executable, "-c", program],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def wait_for(self, line):
        """Read its output up to a line."""
        for found in self.stdout:
            if found.strip() == line:
                return
        raise AssertionError(f"it has ended without {line}: {self.stderr.read()}")

    def end(self):
        """Wait for its end."""
        try:
            out, err = self.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            out, err = self.communicate()
            raise AssertionError(f"it does not end: {out} {err}") from None
        return Ended(self.returncode, out, err)


def start(*codes, size=None, **more):
    """Start a process for each code, in the order of ranks; one code and a size: all run it."""
    codes = codes * (size or 1)
    port = free_port(1)
    return [Member(code, rank, len(codes), port, **more) for rank, code in enumerate(codes)]


def run(*codes, **more):
    """Run processes to their ends."""
    return [member.end() for member in start(*codes, **more)]
