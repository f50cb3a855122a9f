"""`vocabulary_and_ids` of a text; those of a large one are encoded once and kept in a cache."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from unrolled.data.shard_files import FORMAT, INDEX, open_shards, remove_shards, write_shards
from unrolled.data.shards import Corpus, Shards
from unrolled.data.text_files import TextFiles
from unrolled.data.vocabulary import Ids, Vocab, smallest_type
from unrolled.errors import InUseError, RunError, TextError
from unrolled.locking import hold, owner, release, state
from unrolled.output import printable

KEPT_FROM = 100_000_000
"""Bytes from which the ids of a single file are kept: to encode fewer takes a second."""

PAUSE_S = 0.2
"""Between two looks at whether another process has encoded the text."""


def vocabulary_and_ids(text: str | TextFiles) -> tuple[Vocab, Corpus]:
    """The vocabulary of a text and its ids.

    The ids of several files, or of one of 100 MB or more, are written once to a folder of the
    cache: as `Shards`. Of several processes one encodes, the others wait for it. A text whose files
    have another size or time of change is another text.

    Raises:
        TextError: the text cannot be read, or the cache not be written.
    """
    if isinstance(text, str):
        vocab = Vocab(text)
        return vocab, vocab.encode(text, smallest_type(len(vocab)))
    if len(text.files) == 1 and text.size < KEPT_FROM:
        vocab = Vocab(text.counts)
        return vocab, np.concatenate([*_encoded_pieces(text, vocab)])
    folder = cache() / "texts" / key(text)
    found = open_shards(folder)
    while found is None:
        if _hold_or_wait(folder, text):
            try:
                found = open_shards(folder) or _encode(folder, text)
            finally:
                release(folder)
        else:
            found = open_shards(folder)
    counts, ids = found
    return Vocab(counts), ids


def _encoded_pieces(text: TextFiles, vocab: Vocab) -> Iterator[Ids]:
    """The ids of a text in pieces, of the smallest type."""
    return map(vocab.encoder(smallest_type(len(vocab))), text.pieces("encoding the text"))


def cache() -> Path:
    """Where what can be made again is kept: ``UNROLLED_CACHE``, else as the system has it."""
    chosen = os.environ.get("UNROLLED_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "unrolled"


def key(text: TextFiles) -> str:
    """A name for what decides about the ids of a text."""
    digest = hashlib.sha256(f"{FORMAT} {text.clean}".encode())
    for file in text.files:
        path = os.fsencode(os.path.realpath(file.path))
        digest.update(b"%d %s %d %d\n" % (len(path), path, file.size, file.mtime_ns))
    return digest.hexdigest()[:32]


def _hold_or_wait(folder: Path, text: TextFiles) -> bool:
    """Lock a folder, which is made; or wait until another process, which has locked it, ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritten(folder, str(error.strerror)) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritten(folder, "you may not write to it")
    try:
        hold(folder)
    except InUseError:
        what = f"waiting for {owner(folder) or 'another process'}, which encodes the text"
        for _ in text.going_through(what, _while_locked(folder), None):
            pass
        return False
    return True


def _while_locked(folder: Path) -> Iterator[None]:
    while state(folder) == "running":
        time.sleep(PAUSE_S)
        yield


def _encode(folder: Path, text: TextFiles) -> tuple[dict[str, int], Shards]:
    about = {
        "text": [printable(os.path.abspath(path)) for path in text.paths],
        "clean": text.clean,
        "files": len(text.files),
        "bytes": text.size,
    }
    _remove_left(folder.parent)
    try:
        write_shards(folder, _encoded_pieces(text, Vocab(text.counts)), text.counts, about)
    except OSError as error:
        raise _unwritten(folder, str(error.strerror)) from None
    found = open_shards(folder)
    if found is None:
        raise _unwritten(folder, "what was written there is not what is read")
    return found


def _remove_left(texts: Path) -> None:
    """Remove the shards that killed processes have left; their folders stay, and are empty."""
    for folder in texts.iterdir():
        if state(folder) not in ("killed", "left"):
            continue
        with suppress(RunError, OSError):  # somebody else does it
            hold(folder)
            try:
                if not (folder / INDEX).exists():
                    remove_shards(folder)
            finally:
                release(folder)


def _unwritten(folder: Path, why: str) -> TextError:
    return TextError(
        f"the ids of the text cannot be kept in '{folder}': {why}. Name a folder that you may "
        "write to and that has room for as many bytes as the text has: "
        "UNROLLED_CACHE=FOLDER unrolled ..."
    )
