"""Leave out each field of a checkpoint, or take that of a fresh training: it must be noticed."""

import copy
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from exact_resume import same
from torture.outcome import Options, Outcome
from torture.processes import CONTEXT, Ended, at, send
from torture.resumes import LAST
from torture.runs import PLANS, Attempt, Reference, content, differences
from unrolled.checkpoints import folder
from unrolled.checkpoints.contents import pack, unpack
from unrolled.errors import UnrolledError

STOPPED = [
    ("gru", "on_step", 17),  # the largest gradient of the epoch is that of step 16
    ("rnn", "on_fit_end", LAST),
    ("lstm-random", "on_step", 17),
    ("gradient-explosion", "on_step", 6),
    ("digit-sum", "on_step", 8),
]
"""Plans, and where their runs are killed: with lines in the logs that no checkpoint knows of."""

WHOLE = ("parameters", "buffers", "optimizer", "hidden_state", "last_good", "draws", "settings")
"""Fields that are left out or replaced as a whole."""

Place = tuple[str, ...]


def run(options: Options) -> Outcome:
    """Change the newest checkpoint of killed runs in every way, one at a time.

    Each change must be noticed in one of them: the last good weights, for one, matter only where
    the next step has no finite loss.
    """
    outcome = Outcome("fields left out, or taken from a fresh training")
    framework, seen = options.frameworks[0], Seen(outcome)
    for number, (name, event, step) in enumerate(STOPPED):
        reference = Reference(PLANS[name], framework, options.folder / f"{name}-{number}")
        attempt = reference.new("killed")
        fresh = {}
        if PLANS[name].experiment == "language-model":  # others need a checkpoint of this model
            attempt.start(patches=[(at, "on_fit_start", 0, send, signal.SIGTERM)])
            fresh = state_of(attempt)
            attempt.remove()
        attempt.start(patches=[(at, event, step, send, signal.SIGKILL)])
        try_all(seen, name, attempt, fresh)
    if "torch" in options.frameworks:
        drawing(seen, options.folder / "drawing")
    for what in seen.never():
        outcome.failed(f"{what}: nobody notices")
    outcome.figures = f"{outcome.cases} changes of fields"
    return outcome


class Seen:
    """Which changes were noticed anywhere."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.noticed: dict[str, bool] = {}

    def add(self, where: str, what: str, ended: Ended, wrong: list[str]) -> None:
        """Take a change whose run has ended, with what is wrong with it then."""
        right = ended.is_error or ended.code == 0
        self.outcome.check(right, f"{where}, {what}: {ended.code}, {ended.text[-600:]}")
        found = ended.is_error or (ended.code == 0 and bool(wrong))
        self.noticed[what] = self.noticed.get(what, False) or found

    def unchanged(self, where: str, ended: Ended, wrong: list[str]) -> None:
        """Take a run of which nothing was changed."""
        right = ended.code == 0 and not wrong
        self.outcome.check(right, f"{where}, unchanged: {wrong}, {ended.text[-600:]}")

    def never(self) -> list[str]:
        return [what for what, noticed in self.noticed.items() if not noticed]


def try_all(seen: Seen, name: str, attempt: Attempt, fresh: dict[str, Any]) -> None:
    """Change a checkpoint in every way and resume the run from it."""
    kept = attempt.path.with_name("kept")
    shutil.copytree(attempt.path, kept)
    state = state_of(attempt)
    seen.unchanged(name, attempt.resume(), attempt.wrong())
    for what, other in changes(state, fresh):
        shutil.rmtree(attempt.path)
        shutil.copytree(kept, attempt.path)
        put(attempt, other)
        seen.add(name, what, attempt.resume(), attempt.wrong())


def drawing(seen: Seen, place: Path) -> None:
    """The same of a training with draws, buffers and Adam, in a process for each."""

    def train(run: Path, **options: Any) -> Ended:
        process = CONTEXT.Process(target=drawn_training, args=(run, options), daemon=True)
        process.start()
        process.join()
        log = run.with_suffix(".log")
        return Ended(process.exitcode, log.read_text() if log.exists() else "")

    names = "straight", "killed", "kept", "early", "broken"
    straight, killed, kept, early, broken = (place / name for name in names)
    place.mkdir()
    train(straight)
    train(early, kill_after=3, seed=5)
    train(kept, kill_after=13)
    state, fresh = state_in(kept), state_in(early)
    train(broken, break_after=12)
    for what, other in [("unchanged", state), *changes(state, fresh)]:
        # the last good weights matter where the next step has none
        is_last_good = what.split()[0] == "last_good" or what.endswith("last_good")
        options = {"break_after": 12} if is_last_good else {}
        expected = content(broken if is_last_good else straight)
        shutil.rmtree(killed, ignore_errors=True)
        shutil.copytree(kept, killed)
        put_in(killed, other)
        ended = train(killed, resume=True, seed=7, **options)
        wrong = differences(expected, content(killed))
        if what == "unchanged":
            seen.unchanged("drawing", ended, wrong)
        else:
            seen.add("drawing", what, ended, wrong)


def drawn_training(run: Path, options: dict[str, Any]) -> None:
    """Train in this process, with errors as commands have them."""
    from torture import drawing_torch

    try:
        drawing_torch.train(run, **options)
    except UnrolledError as error:
        run.with_suffix(".log").write_text(f"error: {error}")
        sys.exit(2)
    except BaseException:
        run.with_suffix(".log").write_text(traceback.format_exc())
        raise


def noticed(ended: Ended, differs: Callable[[], bool]) -> bool:
    """Whether a change was refused, or the result is another."""
    return ended.is_error or (ended.code == 0 and differs())


def newest(run: Path) -> Path:
    """The newest checkpoint of the part of a run that was trained last."""
    marks = run.glob("checkpoints/**/step-*/complete.json")
    return max(marks, key=lambda mark: (mark.stat().st_mtime_ns, mark.parent.name)).parent


def state_of(attempt: Attempt) -> dict[str, Any]:
    """The state in the newest checkpoint."""
    return state_in(attempt.path)


def state_in(run: Path) -> dict[str, Any]:
    """The same of a run directory."""
    state, parameters = unpack(folder.read(newest(run)))
    return {**state, "parameters": parameters}


def put(attempt: Attempt, state: dict[str, Any]) -> None:
    """Replace the newest checkpoint by one of another state, with a right completeness mark."""
    put_in(attempt.path, state)


def put_in(run: Path, state: dict[str, Any]) -> None:
    """The same in a run directory."""
    path, state = newest(run), dict(state)
    parameters = state.pop("parameters", {})
    score = folder.read_mark(path).score
    folder.write(path.parent, int(path.name.partition("-")[2]), pack(state, parameters), score)


def changes(state: dict[str, Any], fresh: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each field left out, and each that a fresh training has otherwise."""
    for place in places(state):
        yield f"without {'.'.join(place)}", changed(state, place)
        new = at_place(fresh, place) if fresh else None
        if new is not None and not same(new[0], at_place(state, place)[0]):
            yield f"{'.'.join(place)} of a fresh training", changed(state, place, *new)


def places(state: dict[str, Any]) -> Iterator[Place]:
    """Fields, and their parts where they have names."""
    for name, value in state.items():
        yield (name,)
        if isinstance(value, dict) and name not in WHOLE:
            for part, inner in value.items():
                yield (name, part)
                if isinstance(inner, dict) and name == "listeners":
                    yield from ((name, part, each) for each in inner)


def at_place(tree: Any, place: Place) -> list[Any]:
    """The value there, in a list; an empty one if there is none."""
    for name in place:
        if not isinstance(tree, dict) or name not in tree:
            return []
        tree = tree[name]
    return [tree]


def changed(state: dict[str, Any], place: Place, *new: Any) -> dict[str, Any]:
    """A copy of the state without a field, or with another value."""
    state = copy.deepcopy(state)
    *outer, last = place
    inner = state
    for name in outer:
        inner = inner[name]
    if new:
        (inner[last],) = new
    else:
        del inner[last]
    return state
