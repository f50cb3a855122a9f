"""The completeness mark of a checkpoint: sizes and SHA-256 of its files, which must fit it."""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from unrolled import __version__
from unrolled.checkpoints.contents import read_json
from unrolled.errors import RunError
from unrolled.untrusted import open_plain

FORMAT = 1
"""Number of the format of checkpoints. unrolled 0.1 reads 1."""

COMPLETE = "complete.json"
MOST_BYTES = 10**6
"""Size of a completeness mark that is read at all."""

FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.(safetensors|json)", re.ASCII)
"""Names of files, none of which leads out of the folder."""


class Mark(NamedTuple):
    """Content of a completeness mark: the step, its score, size and SHA-256 of each file."""

    step: int
    score: float | None
    files: dict[str, tuple[int, str]]


def to_mark(step: int, score: float | None, files: Mapping[str, bytes]) -> bytes:
    """The content of a completeness mark for files by name."""
    about = {
        "format": FORMAT,
        "unrolled": __version__,
        "step": step,
        "score": float(score) if score is not None and math.isfinite(score) else None,
        "files": {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
    return (json.dumps({**about, "sha256": _digest(about)}, indent=2) + "\n").encode()


def read_mark(folder: Path) -> Mark:
    """The completeness mark of a checkpoint; a `RunError` says what is wrong with it."""
    check_folder(folder)
    about = read_json(_read_file(folder, COMPLETE), f"'{folder}': {COMPLETE}")
    if type(about) is not dict or type(about.get("format")) is not int:
        _damaged(folder, f"{COMPLETE} names no format")
    if about["format"] != FORMAT:
        raise RunError(
            f"'{folder}' was written by unrolled {about.get('unrolled')!r:.20} in format "
            f"{about['format']!r:.20}; this is unrolled {__version__}, which reads format "
            f"{FORMAT}. Use the version that wrote it"
        )
    expected = about.pop("sha256", None)
    try:
        fits = expected == _digest(about)
    except RecursionError:
        fits = False
    if not fits:
        _damaged(folder, f"{COMPLETE} is not what was written")
    try:
        files = {
            name: (_exactly(int, each["size"]), _exactly(str, each["sha256"]))
            for name, each in _exactly(dict, about["files"]).items()
        }
        step = _exactly(int, about["step"])
        score = None if about["score"] is None else _exactly(float, about["score"])
    except (KeyError, TypeError) as error:
        _damaged(folder, f"{COMPLETE} lacks something: {error!r:.80}")
    if not all(FILE.fullmatch(name) and 0 <= size < 2**63 for name, (size, _) in files.items()):
        _damaged(folder, f"{COMPLETE} names files that no checkpoint has: {sorted(files)!r:.200}")
    if f"step-{step:06d}" not in (folder.name, folder.stem.removeprefix(".")):
        _damaged(folder, f"{COMPLETE} is of step {step!r:.20}; do not rename checkpoints")
    return Mark(step, score if score is not None and math.isfinite(score) else None, files)


def read_files(folder: Path, mark: Mark) -> dict[str, bytes]:
    """The files that a mark names, as they were written; a `RunError` says what is damaged."""
    files = {}
    for name, (size, digest) in mark.files.items():
        files[name] = content = _read_file(folder, name, size)
        if hashlib.sha256(content).hexdigest() != digest:
            _damaged(folder, f"{name} is {size:,} bytes long, but not those that were written")
    return files


def _read_file(folder: Path, name: str, size: int | None = None) -> bytes:
    """The content of a file, no link, of this size; None: that of a completeness mark."""
    try:
        with open(open_plain(folder / name, os.O_RDONLY), "rb") as file:
            found = os.fstat(file.fileno()).st_size  # of this file, even if another has its name
            if size is None and found > MOST_BYTES:
                _damaged(folder, f"{name} is {found:,} bytes long")
            if size is not None and found != size:
                _damaged(folder, f"{name} is {found:,} bytes long; {size:,} were written")
            return file.read(found)
    except FileNotFoundError:
        _damaged(folder, f"{name} is missing")
    except OSError as error:
        raise RunError(f"'{folder / name}' cannot be read: {error.strerror}") from error
    except MemoryError:
        raise RunError(f"'{folder / name}' does not fit into memory") from None


def check_folder(path: Path) -> None:
    """Make sure that a path is a folder and no link to one, or raise a `RunError`."""
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        raise RunError(f"'{path}' cannot be read: {error.strerror}") from error
    if stat.S_ISLNK(mode):
        raise RunError(
            f"'{path}' is a link, which is not followed; name the folder that it leads to"
        )
    if not stat.S_ISDIR(mode):
        raise RunError(f"'{path}' is no folder; name one that holds checkpoints")


def _damaged(folder: Path, what: str) -> NoReturn:
    raise RunError(f"'{folder}' is damaged: {what}")


def _digest(about: Mapping[str, Any]) -> str:
    """The SHA-256 of a mark without it, so that nothing in a mark can change unseen."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _exactly(kind: type[Any], value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    return value
