"""Write files whole or not at all, and flush them to the disk."""

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

UNSYNCED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
"""Errors of file systems that cannot flush a file."""


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all, and flush it to the disk.

    A link stays a link, to a file that is replaced. What is no file, ``/dev/stdout`` or a named
    pipe, is written to as it is. A process that is killed meanwhile may leave a file beside it,
    ``.<name>.<random>.unfinished``.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = path.resolve()
    unfinished = path.parent / f".{path.name}.{secrets.token_hex(4)}.unfinished"
    try:
        write_new(unfinished, content)  # two processes never write the same one
        unfinished.replace(path)  # after its content, lest a power cut leaves an empty file
    except BaseException:  # Ctrl-C, too
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # the file is there
        sync_directory(path.parent)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there yet, and flush it to the disk."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        sync(file.fileno())


def sync(file: int) -> None:
    """Flush an open file to the disk, if its file system can."""
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in UNSYNCED:
            raise


def sync_directory(path: Path) -> None:
    """Flush the names in a directory to the disk, where the system opens directories."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows does not
        return
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(directory)
    finally:
        os.close(directory)


def remove_unfinished(directory: Path) -> None:
    """Remove what killed processes have left in a directory; nobody else may write to it now."""
    with suppress(OSError):
        for each in directory.glob(".*.unfinished"):
            each.unlink()
