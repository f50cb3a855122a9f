"""Open, read and parse files that somebody else may have made, with every limit in one place.

A run directory or a file of weights may come from the web. A file of it must be a regular one (a
named pipe or a device may never end), lie where it seems to lie (no link leads out of its
directory), and be no larger than what such a file ever needs.
"""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

MIB = 2**20

MOST_JSON = 16 * MIB
"""Bytes of a JSON file: ten times the vocabulary of all characters there are."""

MOST_CHARTS = 64 * MIB
"""Bytes of ``charts.json``, which holds heatmaps."""

MOST_LINE = 16 * MIB
"""Bytes of a line of a log: the record of 50,000 parameters."""

MOST_EPOCHS = 64 * MIB
"""Bytes of ``metrics.jsonl`` that are kept in memory: 300,000 epochs."""

MOST_GAP = 1024 * MIB
"""Bytes without an end of line after which a log holds no further lines."""

MOST_HEADER = 16 * MIB
"""Bytes of the header of a safetensors file: 100,000 arrays."""

MOST_DATA = 256 * MIB
"""Bytes of a data file that is read at once."""

MOST_PARAMETERS = 20_000
"""Parameters whose telemetry is kept: ten times those of a model of 100 layers."""

MOST_PARTS = 500
"""Models that a run has trained; the digit sums of all cells and lengths are 21."""

MOST_NESTED = 50
"""Levels of lists and objects in a JSON file."""

MOST_DIGITS = 300
"""Digits of a whole number in a JSON file: what a float can hold."""

LINK = "it is a link to '{}', outside its directory; put the file itself in its place"


def open_regular(path: str | Path, inside: str | Path | None = None) -> BinaryIO:
    """Open a regular file to read its bytes; no link may lead out of the directory ``inside``."""
    real = os.path.realpath(path)
    if inside is not None and not Path(real).is_relative_to(os.path.realpath(inside)):
        raise OSError(errno.EPERM, LINK.format(real), str(path))
    _check_regular(os.stat(path), path)  # to open a device may do something
    return os.fdopen(_opened(path, os.O_RDONLY), "rb")


def open_plain(path: Path, flags: int) -> int:
    """Open a regular file as `os.open` does, and follow no link; give its descriptor.

    Raises:
        OSError: it cannot be opened, is a link or no regular file; or it is to be written to, and
            has other names, hard links, under which others would see what is written.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path))
    file = _opened(path, flags | getattr(os, "O_NOFOLLOW", 0))
    if flags & (os.O_WRONLY | os.O_RDWR) and os.fstat(file).st_nlink > 1:
        os.close(file)
        raise OSError(errno.EMLINK, "it is a hard link, and would be written elsewhere, too")
    return file


def _opened(path: str | Path, flags: int) -> int:
    # should it be or become a named pipe, opening must not wait for its other end
    for name in ("O_NONBLOCK", "O_BINARY"):  # some systems lack some
        flags |= getattr(os, name, 0)
    file = os.open(path, flags, 0o666)
    try:
        _check_regular(os.fstat(file), path)
    except OSError:
        os.close(file)
        raise
    return file


def _check_regular(found: os.stat_result, path: str | Path) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device; a file is expected", str(path))


def read_bytes(path: str | Path, most: int = MOST_JSON, inside: str | Path | None = None) -> bytes:
    """The content of a regular file, or an `OSError` where it has more than so many bytes."""
    with open_regular(path, inside) as file:
        size = os.fstat(file.fileno()).st_size
        # more than was told is not read either, should the file grow meanwhile
        content = file.read(most + 1) if size <= most else b""
    if max(size, len(content)) > most:
        found = f"it has {max(size, len(content)):,} bytes; at most {most:,} are expected"
        raise OSError(errno.EFBIG, found, str(path))
    return content


def read_json(path: Path, most: int = MOST_JSON, strict: bool = False) -> Any:
    """The value of a JSON file; arguments and errors as of `read_bytes` and `parse_json`."""
    return parse_json(read_bytes(path, most, inside=path.parent), strict=strict)


def parse_json(data: bytes, nested: int = MOST_NESTED, strict: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        data: the text, in UTF-8, UTF-16 or UTF-32.
        nested: levels of lists and objects at most.
        strict: refuse what Python reads and the standard does not have: other encodings than
            UTF-8, NaN, infinity, and an object with one key twice.

    Raises:
        ValueError: it is no JSON, nested too deeply, or holds half a character or a number beyond
            every float.
    """
    try:
        text = data.decode("utf-8" if strict else json.detect_encoding(data))
        value = (STRICT if strict else DECODER).decode(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {nested} deep") from None
    # most lines of a log have fewer brackets than that, and need no search
    level = [value] if data.count(b"[") + data.count(b"{") > nested else []
    for _ in range(nested):
        level = [
            part
            for each in level
            if isinstance(each, (dict, list))
            for part in (each.values() if isinstance(each, dict) else each)
            if isinstance(part, (dict, list))
        ]
        if not level:
            break
    else:
        raise ValueError(f"it is nested more than {nested} deep")
    if b"\\u" in data:  # half a character is no text
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"it holds a number of {len(text):,} digits")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in value if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r:.40} is there twice")
    return value


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


DECODER = json.JSONDecoder(parse_int=_whole)
STRICT = json.JSONDecoder(parse_int=_whole, object_pairs_hook=_object, parse_constant=_no_number)


def memory() -> int | None:
    """Bytes of memory that this machine has; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
