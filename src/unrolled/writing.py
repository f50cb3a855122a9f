"""Write files whole or not at all."""

from contextlib import suppress
from pathlib import Path


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all.

    A link stays a link, to a file that is replaced. What is no file, ``/dev/stdout`` or a named
    pipe, is written to as it is.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = path.resolve()
    unfinished = path.parent / f".{path.name}.unfinished"
    try:
        # what is there may be a link or a pipe that somebody else has put there
        unfinished.unlink(missing_ok=True)
        with unfinished.open("xb") as file:
            file.write(content)
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
