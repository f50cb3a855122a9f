"""Make the directory of a new run and lock it, so that no other process makes its run there."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from unrolled.errors import RunError
from unrolled.locking import LOCK, check_unused, give_back, hold
from unrolled.runs.ending import CONFIG


def check_free(path: Path) -> None:
    """Raise a `RunError` if a run cannot be written to a path."""
    if path.is_dir():
        check_unused(path)
        if _holds_files(path):
            raise _taken(path)
    elif path.exists() and not path.is_dir():  # another process may have made it meanwhile
        raise RunError(f"'{path}' is a file; choose a directory for --out")
    parent = path
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(
            f"'{path}' cannot be made: '{parent}' is not a directory to write to; "
            "choose another --out"
        )


def claim(path: Path) -> list[Path]:
    """Make an empty directory and lock it; return the directories that were made, innermost first.

    A `RunError` says that it cannot be made, or that another process was faster.
    """
    made: list[Path] = []
    try:
        _make(path, made)
        hold(path)
        if _holds_files(path):  # of a run that has ended meanwhile
            give_back(path)
            raise _taken(path)
    except OSError as error:
        remove_empty(made)
        raise RunError(
            f"'{path}' cannot be made: {error.strerror}; give a directory that can be written "
            "to: --out DIRECTORY"
        ) from None
    except RunError:
        remove_empty(made)
        raise
    return made


def _make(path: Path, made: list[Path]) -> None:
    for each in (*reversed([parent for parent in path.parents if not parent.exists()]), path):
        try:
            each.mkdir()
        except FileExistsError:  # another process may have made it meanwhile
            if not each.is_dir():
                raise NotADirectoryError(0, f"'{each}' is not a directory") from None
        else:
            made.insert(0, each)


def remove_empty(directories: Sequence[Path]) -> None:
    """Remove directories, the innermost first, up to one that is not empty."""
    with suppress(OSError):  # not empty, or not there
        for directory in directories:
            directory.rmdir()


def _holds_files(path: Path) -> bool:
    """Whether there is more than a lock file, which another process may be about to lock."""
    return any(name != LOCK for name in os.listdir(path))


def _taken(path: Path) -> RunError:
    what = "a run" if (path / CONFIG).exists() else "other files"
    return RunError(f"'{path}' already holds {what}; choose another --out, or remove it")
