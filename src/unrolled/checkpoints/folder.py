"""Write, verify, list and prune folders of checkpoints; a crash at any moment leaves whole ones.

A checkpoint is a folder ``step-000123`` of files. It is written under another name, flushed to the
disk and renamed; ``complete.json``, the completeness mark, has the size and SHA-256 of each file.

While a folder replaces one of the same step, the old one is ``.step-000123.replaced``: it counts as
long as the new one is not there. ``.step-000123.unfinished`` never counts; `write` removes it.
"""

import errno
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from os.path import lexists
from pathlib import Path

from unrolled.checkpoints.mark import COMPLETE, check_folder, read_files, read_mark, to_mark
from unrolled.errors import RunError
from unrolled.writing import sync_directory, write_new

STEP = re.compile(r"step-([0-9]{6,18})", re.ASCII)
LEFT = re.compile(r"\.(step-[0-9]{6,18})\.(unfinished|replaced)", re.ASCII)
"""Names that a write may leave behind when it is killed."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers for a full disk, or a full share of a user."""

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def write(
    directory: Path, step: int, files: Mapping[str, bytes], score: float | None = None
) -> Path:
    """Write a checkpoint whole or not at all, and give its folder. One of that step is replaced.

    The lower the score, the better is the checkpoint; NaN is never the best.
    """
    final = directory / f"step-{step:06d}"
    unfinished, replaced = _aside(final, "unfinished"), _aside(final, "replaced")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        check_folder(directory)  # nobody could read what is written through a link
        _clean(directory)
    except OSError as error:
        raise _unwritten(final, error) from error
    try:
        unfinished.mkdir()
        for name, content in files.items():
            write_new(unfinished / name, content)
        write_new(unfinished / COMPLETE, to_mark(step, score, files))
        sync_directory(unfinished)
        if lexists(replaced):  # it counts, as the new one is damaged
            _remove(final)
        elif lexists(final):
            os.rename(final, replaced)
        os.rename(unfinished, final)
        sync_directory(directory)
    except BaseException as error:  # Ctrl-C, too
        with suppress(OSError):
            _put_back(replaced, final)
            _remove(unfinished)
        if isinstance(error, OSError):
            raise _unwritten(final, error) from error
        raise
    with suppress(OSError):  # the next write tries again
        _remove(replaced)
    return final


def read(path: Path) -> dict[str, bytes]:
    """The files of a checkpoint by name, as they were written; a `RunError` says what is wrong.

    Memory is taken for files of the expected size only.
    """
    check_folder(path.parent)
    return read_files(path, read_mark(path))


def steps(directory: Path) -> list[int]:
    """The steps that a directory has checkpoints of, by their names, in order."""
    return sorted(_folders(directory))


def newest(directory: Path) -> tuple[tuple[int, dict[str, bytes]] | None, list[str]]:
    """Step and files of the newest whole checkpoint, or None; what is wrong with later ones."""
    problems: list[str] = []
    folders = _folders(directory)
    for step in sorted(folders, reverse=True):
        for path in folders[step]:
            try:
                return (step, read(path)), problems
            except RunError as error:
                problems.append(str(error))
    return None, problems


def prune(directory: Path, keep: int) -> list[int]:
    """Remove checkpoints except the last ones and the best; the steps that were removed.

    The best has the lowest score; of equal ones it is the later. Damaged ones do not count; those
    that are older than what is kept go, too, and so does what killed processes have left.
    """
    with suppress(OSError, RunError):  # the next write tries again
        check_folder(directory)
        _clean(directory)
    folders = _folders(directory)
    marks = {}
    for step in sorted(folders):
        with suppress(RunError):
            marks[step] = read_mark(folders[step][0])
    scores = {step: mark.score for step, mark in marks.items() if mark.score is not None}
    best = min(scores, key=lambda step: (scores[step], -step), default=None)
    last = list(marks)[-keep:]
    removed = [step for step in sorted(folders) if last and step < last[0] and step != best]
    for step in removed:
        for path in folders[step]:
            try:
                unfinished = _aside(directory / f"step-{step:06d}", "unfinished")
                _remove(unfinished)
                os.rename(path, unfinished)  # never half a checkpoint under its name
                _remove(unfinished)
            except OSError as error:
                raise RunError(
                    f"'{path}' cannot be removed: {error.strerror}; remove it by hand"
                ) from error
    return removed


def _aside(final: Path, why: str) -> Path:
    return final.parent / f".{final.name}.{why}"


def _folders(directory: Path) -> dict[int, list[Path]]:
    """The folders of each step; of two the new one comes first."""
    found: dict[int, list[Path]] = {}
    try:
        names = sorted(os.listdir(directory), reverse=True)  # step-... before .step-...
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RunError(f"'{directory}' cannot be read: {error.strerror}") from error
    for name in names:
        left = LEFT.fullmatch(name)
        match = STEP.fullmatch(left[1] if left and left[2] == "replaced" else name)
        if match and match[0] == f"step-{int(match[1]):06d}":
            found.setdefault(int(match[1]), []).append(directory / name)
    return found


def _clean(directory: Path) -> None:
    """Finish what writes and prunes that were killed have left behind."""
    for name in sorted(os.listdir(directory)):
        if left := LEFT.fullmatch(name):
            with suppress(RunError):  # the new one is damaged: the old one counts
                if left[2] == "replaced":
                    _put_back(directory / name, directory / left[1])
                    read(directory / left[1])
                _remove(directory / name)


def _put_back(replaced: Path, final: Path) -> None:
    if lexists(replaced) and not lexists(final):
        os.rename(replaced, final)


def _remove(path: Path) -> None:
    """Remove a folder, or the link or file that has its name, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _unwritten(path: Path, error: OSError) -> RunError:
    try:
        there = steps(path.parent)
    except RunError:
        there = []
    kept = f"The checkpoint of step {there[-1]:,} is intact" if there else "There is no earlier one"
    if error.errno in FULL:
        advice = "Free some space, or keep fewer checkpoints: keep=1"
    elif error.errno in REFUSED:
        advice = f"See that you may write to '{path.parent}'"
    else:
        advice = "See that the disk works"
    return RunError(
        f"the checkpoint '{path}' cannot be written: {error.strerror or error}. {kept}. {advice}"
    )
