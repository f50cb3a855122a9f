"""`meet`: processes that train together exchange numbers, and all end when one is lost.

Each has a thread beside its training, which sends a sign of life every two seconds and listens to
process 0; process 0 listens to all. A process is lost when its connection closes without a goodbye,
or when it is silent for 15 seconds: a cut cable closes no connection, nor does a process that is
stopped (SIGSTOP). Then all the others end, too: their training would wait for ever in a sum over
all processes.

The thread needs Python's global lock for an instant. Frameworks release it while they compute and
wait. Native code that holds it for longer than 15 seconds counts as lost, and cannot end by itself
when another process is lost: only its launcher can kill it.
"""

import asyncio
import functools
import operator
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from unrolled.errors import ProcessLostError, RunError
from unrolled.output import printable
from unrolled.processes.arrival import PAUSE_S, Arrival, join, wait_for_all
from unrolled.processes.messages import (
    LENGTH,
    LONGEST_TEXT,
    MOST_MESSAGE,
    Connection,
    Hello,
    decode,
    encode,
)
from unrolled.processes.place import LAUNCHER, Place

CALLBACKS_S, PRINTING_S = 10.0, 2.0
"""Seconds that ending takes at most for each."""

ECHO_S = 1.0
"""Seconds to wait whether an error here is the echo of another process's end."""

Result = TypeVar("Result")


def meet(
    place: Place,
    about: dict[str, Any],
    limit_s: float = 60.0,
    *,
    beat_s: float = 2.0,
    silence_s: float = 15.0,
    leave_s: float = 60.0,
) -> "Meeting":
    """Wait until all processes are there and agree; return their meeting.

    Process 0 listens at port ``place.port + 1``, and the others connect to it. The network is
    trusted: whoever reaches the port can speak as one of the processes.

    Args:
        place: that of this process.
        about: what must be the same in all processes: a nested dict of texts and numbers.
        limit_s: seconds to wait for the others.
        beat_s: seconds between signs of life.
        silence_s: seconds after which a silent process is lost.
        leave_s: seconds that process 0 waits in `Meeting.leave` for the others.

    Raises:
        RunError: somebody has not come, or differs from process 0; or the port is taken.
        SettingError: JSON cannot hold ``about``, or it is longer than a megabyte.
    """
    meeting = Meeting(place, beat_s, silence_s, leave_s)
    try:
        meeting._wait(meeting._arrive(about, limit_s))
    except BaseException:  # Ctrl-C, too
        meeting._stop()
        raise
    return meeting


class Meeting:
    """Processes that have met, see `meet`.

    When a process is lost, all the others call what `before_exit` holds, for 10 seconds at most.
    Then process 0 prints a line that names it, and how to go on; if process 0 is lost, the
    first process of each other machine does, and the first one left of its own. All exit with
    `ProcessLostError.exit_code`.

    Attributes:
        place: that of this process.
        processes: machine and process number of each, in the order of ranks.
        engine_port: a port of process 0's machine that was free when all met, for the framework.
        before_exit: functions without arguments to call when another process is lost. They run in a
            thread of their own, as the main thread may wait for the other process.
        how_to_go_on: the command that continues the training, for the message; empty: none.
    """

    def __init__(self, place: Place, beat_s: float, silence_s: float, leave_s: float) -> None:
        self.place = place
        self.processes: list[tuple[str, int]] = []
        self.engine_port = 0
        self.before_exit: list[Callable[[], None]] = []
        self.how_to_go_on = ""
        self._beat_s, self._silence_s, self._leave_s = beat_s, silence_s, leave_s
        self._others: dict[int, Connection] = {}
        self._ending = False
        self._speaks = place.rank == 0
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live(started)), name="unrolled-meeting", daemon=True
        )
        self._thread.start()
        self._loop = started.result()

    # called by the training's thread

    def everyone(self, tree: Any) -> list[Any]:
        """Give a small tree, and return those of all processes in the order of ranks.

        Every process calls it, in the same order. After an error only `leave` makes sense.

        Raises:
            RunError: another process has left, or was lost.
            SettingError: JSON cannot hold the tree, or it takes more than a megabyte.
        """
        message = encode("tree", [tree], MOST_MESSAGE)
        trees: list[Any] = self._wait(self._exchange(decode(message[LENGTH:])[1]))
        return trees

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """Add up numbers over all processes, one by one; the result has the same bits in all.

        Every process calls it, in the same order, with as many numbers; errors as of `everyone`.
        """
        rows = self.everyone([float(number) for number in numbers])
        # in the order of ranks; not sum(), which compensates for rounding in some Pythons
        return [functools.reduce(operator.add, column) for column in zip(*rows, strict=True)]

    def leave(self, message: str | None = None) -> None:
        """End this process's part. Without a message all is well, else the others end, too.

        Process 0 waits for the goodbyes of the others, at most ``leave_s``. Only the first call
        does anything.
        """
        if self._thread.is_alive():
            self._wait(self._say_goodbye() if message is None else self._say_error(message))
        self._stop()

    def abort(self, message: str) -> NoReturn:
        """End all processes at once, as when one is lost: for what Python cannot end by itself."""
        self._loop.call_soon_threadsafe(self._end, message)
        while True:
            time.sleep(self._beat_s)

    def _wait(self, result: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the meeting's thread, and wait for its result."""
        future = asyncio.run_coroutine_threadsafe(result, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _stop(self) -> None:
        with suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    # run in the meeting's thread

    async def _live(self, started: "Future[asyncio.AbstractEventLoop]") -> None:
        self._over = asyncio.Event()
        started.set_result(asyncio.get_running_loop())
        await self._over.wait()
        self._ending = True
        await asyncio.gather(*(other.close() for other in self._others.values()))

    async def _arrive(self, about: dict[str, Any], limit_s: float) -> None:
        place = self.place
        message = encode("about", about, MOST_MESSAGE - 2**12)
        _, about = decode(message[LENGTH:])  # as the others will see it
        hello = Hello(place.rank, place.size, platform.node(), os.getpid(), about)
        come = wait_for_all if place.rank == 0 else join
        arrival: Arrival = await come(place, hello, limit_s)
        self.processes, self.engine_port = arrival.processes, arrival.engine_port
        self._others = arrival.connections
        self._tasks = [asyncio.create_task(self._listen(other)) for other in self._others.values()]
        self._tasks.append(asyncio.create_task(self._beat()))

    async def _beat(self) -> None:
        launcher = os.environ.get(LAUNCHER)
        while True:
            before = time.monotonic()
            await asyncio.sleep(self._beat_s)
            now = time.monotonic()
            for other in self._others.values():
                if other.left:
                    continue
                other.send("beat")
                # while this process was stopped, it could not hear them either
                other.heard += max(now - before - self._beat_s, 0)
                if now - other.heard > self._silence_s:
                    why = f"has been silent for {self._silence_s:g} s"
                    self._lose(
                        other, f"{why}: it is stopped, or its machine or the network is down"
                    )
            if launcher and str(os.getppid()) != launcher:
                launcher = None
                os.kill(os.getpid(), signal.SIGTERM)

    async def _listen(self, other: Connection) -> None:
        try:
            while True:
                message = decode(await other.read(MOST_MESSAGE * self.place.size))
                other.heard = time.monotonic()
                match message:
                    case "tree" | "trees", [*told]:
                        other.inbox.put_nowait(told)
                    case "goodbye", _:
                        other.left = True
                        other.inbox.put_nowait(RunError(f"{other.name} has left"))
                    case "error", str(why):
                        other.left = True
                        self._end(f"{other.name} has ended: {_one_line(why)}")
                    case "lost", str(why):
                        self._end(_one_line(why))
        except (OSError, EOFError):
            why = "has ended without a word: it was killed, or it crashed"
        except ValueError as error:
            why = f"sends what is no message: {error}"
        if not other.left:
            self._lose(other, why)

    def _lose(self, other: Connection, why: str) -> None:
        if self.place.rank:  # process 0 is lost: who is the first one here that is left?
            here = self.processes[self.place.rank][0]
            first = next(r for r, (host, _) in enumerate(self.processes) if r and host == here)
            self._speaks = self.place.rank == first
        self._end(f"{other.name} {why}")

    def _end(self, message: str) -> None:
        if self._ending:
            return
        self._ending = True
        for other in self._others.values():
            other.send("lost", message)
            other.inbox.put_nowait(RunError(message))
        self._exit(message)

    def _exit(self, message: str) -> None:
        """End this process from its second thread: nothing wakes the first from a native call."""

        def call_all() -> None:
            for callback in self.before_exit:
                with suppress(Exception):  # nobody is there to tell, and the next one must run
                    callback()

        def show() -> None:
            go_on = f"; go on with: {self.how_to_go_on}" if self.how_to_go_on else ""
            with suppress(OSError, ValueError):
                sys.stdout.flush()
            if self._speaks:
                with suppress(OSError):
                    os.write(2, f"error: {message}{go_on}\n".encode(errors="backslashreplace"))

        for function, limit_s in ((call_all, CALLBACKS_S), (show, PRINTING_S)):
            helper = threading.Thread(target=function, daemon=True)
            helper.start()
            helper.join(limit_s)
        os._exit(ProcessLostError.exit_code)

    async def _exchange(self, tree: list[Any]) -> list[Any]:
        if self.place.rank:
            self._others[0].send("tree", tree)
            told: list[Any] = await self._others[0].receive()
            return told
        trees = tree + [part for each in self._others.values() for part in await each.receive()]
        for each in self._others.values():
            each.send("trees", trees)
        return trees

    async def _say_goodbye(self) -> None:
        if self.place.rank == 0:
            end = time.monotonic() + self._leave_s
            while (late := [each for each in self._others.values() if not each.left]) and not (
                self._ending
            ):
                if time.monotonic() > end:
                    await self._say_error(
                        f"it waited {self._leave_s:g} s for {late[0].name} to end"
                    )
                    return
                await asyncio.sleep(PAUSE_S)
        self._ending = True
        for other in self._others.values():
            other.send("goodbye")

    async def _say_error(self, message: str) -> None:
        # An error here is often the echo of another process's end, which says more. And if all
        # processes fail alike, process 0 is first: its error is the one on the screen.
        await asyncio.sleep(2 * ECHO_S if self.place.rank else ECHO_S)
        if not self._ending:
            self._ending = True
            for other in self._others.values():
                other.send("error", _one_line(message))


def _one_line(message: str) -> str:
    return printable("; ".join(message.splitlines()))[:LONGEST_TEXT]
