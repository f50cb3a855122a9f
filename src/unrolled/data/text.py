"""Read and clean texts; *The Time Machine*; split off the held-out part.

Cleaned as the published programs do, *The Time Machine* has 170,580 characters of 27 kinds.
"""

import codecs
import hashlib
import io
import re
import stat
import string
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from unrolled.data.cleaning import clean_pieces
from unrolled.data.encodings import encoding_of
from unrolled.data.shards import Corpus, Shards
from unrolled.data.vocabulary import PIECE, Ids, count_characters, pieces_of
from unrolled.errors import TextError

SomeCorpus = TypeVar("SomeCorpus", Ids, Shards, Corpus)

TIME_MACHINE_SHA1 = "090b5e7e70c295757f55df93cb0a180b9691891a"

NOT_TEXT = re.compile(rb"\0|\x1b\$")
"""Bytes that are valid UTF-8, and yet are UTF-16, ISO-2022 or no text."""

PIPED = re.compile(r"/dev/(stdin|fd/\d+)|/proc/(self|\d+)/fd/\d+")
"""Paths of what this program was started with."""

CLEANING_KEEPS_AT_LEAST = 0.2
"""Share of the non-blank characters that must be A-Z or a-z for cleaning to make sense."""


def read_text(path: str | Path) -> str:
    """The whole of a UTF-8 text file, its characters as they are (line ends too).

    Raises:
        TextError: missing, no regular file, not readable, not UTF-8, or empty.
    """
    text = "".join(read_pieces(path))
    check_not_empty(path, text)
    return text


def read_pieces(path: str | Path, size: int = PIECE) -> Iterator[str]:
    """The text of `read_text` a piece at a time, so that it may be larger than memory."""
    if not str(path):
        raise TextError("no text is named; name a UTF-8 text file")
    path = Path(path)
    decoder = codecs.getincrementaldecoder("utf-8")()
    read, at_start, data = 0, True, None
    with readable(path):
        check_readable(path)
        with path.open("rb", buffering=0) as file:
            while data != b"":
                start = read - len(decoder.getstate()[0])  # the piece before cut a character
                last, data = (data or b"")[-1:], file.read(size)
                odd = NOT_TEXT.search(last + data)
                wrong = [(read - len(last) + odd.start(), odd[0][0])] if odd else []
                read += len(data)
                try:
                    text = decoder.decode(data, final=not data)
                except UnicodeDecodeError as error:
                    wrong += [(start + error.start, error.object[error.start])]
                if wrong:
                    raise _not_utf8(path, *min(wrong))
                if text:
                    yield text.removeprefix("\ufeff") if at_start else text  # byte order mark
                    at_start = False


@contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Raise errors of the system that come from reading a text as a `TextError`."""
    try:
        yield
    except FileNotFoundError:
        raise TextError(f"text '{path}' does not exist; name a UTF-8 text file") from None
    except TextError:
        raise
    except OSError as error:
        raise TextError(f"text '{path}' cannot be read: {error.strerror}") from None
    except ValueError as error:  # a path that no system takes
        raise TextError(f"text {str(path)!r} cannot be read: {error}") from None


def check_readable(path: Path) -> None:
    """Make sure that a text is a regular file, or is piped in.

    Reading from anything else may never end: a device, a named pipe into which nobody writes.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise TextError(f"text '{path}' is a directory; name a UTF-8 text file in it")
    if not stat.S_ISREG(mode) and not (stat.S_ISFIFO(mode) and PIPED.fullmatch(str(path))):
        raise TextError(
            f"text '{path}' is no regular file; name one, or pipe the text in: "
            "COMMAND | unrolled run language-model --set text=/dev/stdin"
        )


def _not_utf8(path: Path, place: int, byte: int) -> TextError:
    """The error that a text is not UTF-8, with its encoding if that is certain."""
    name = encoding_of(path) if path.is_file() else None
    advice = (
        f"It seems to be {name}; convert it first: iconv -f {name} -t UTF-8 FILE > NEW"
        if name is not None
        else "Its encoding cannot be told from its bytes and must be known: find out how it was "
        "saved, and save it as UTF-8 (or the file is damaged, or no text)"
    )
    return TextError(f"text '{path}' is not UTF-8: byte {place} is 0x{byte:02x}. {advice}")


def check_not_empty(path: str | Path, characters: Iterable[str]) -> None:
    """Make sure that a file's text holds more than blanks."""
    if all(c.isspace() for c in characters):
        raise TextError(f"text '{path}' is empty; there is nothing to learn from")


def time_machine() -> str:
    """*The Time Machine* by H. G. Wells as the package carries it, 178,979 characters.

    Raises:
        TextError: the file in the installed package is not the published one.

    Example:
        >>> time_machine().splitlines()[0]
        'The Time Machine, by H. G. Wells [1898]'
    """
    data = Path(time_machine_path()).read_bytes()
    found = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    if found != TIME_MACHINE_SHA1:
        raise TextError(
            f"the packaged timemachine.txt is damaged: SHA-1 {found}, expected "
            f"{TIME_MACHINE_SHA1}; install unrolled again"
        )
    return data.decode("ascii")


def time_machine_path() -> str:
    """Where the package keeps *The Time Machine*."""
    return str(files("unrolled.data.corpora").joinpath("timemachine.txt"))


def clean_lines(text: str) -> list[str]:
    r"""The lines of a text, cleaned as the published programs do.

    Example:
        >>> clean_lines("The Time-Machine, 1898.\n\n  by H. G. Wells")
        ['the time machine', '', 'by h g wells']
    """
    return [small_letters(line).strip() for line in io.StringIO(text, newline=None)]


def small_letters(text: str) -> str:
    """A text in small letters, with one blank for every run of other characters than those."""
    return re.sub("[^A-Za-z]+", " ", text).lower()


def clean(text: str) -> str:
    r"""A text cleaned and its lines joined without a separator.

    Raises:
        TextError: nearly all characters differ from what cleaning keeps, so that
            nothing but blanks would be left.

    Example:
        >>> clean("I\n\nThe Time Traveller")
        'ithe time traveller'
    """
    check_cleanable(count_characters(pieces_of(text)))
    return "".join(clean_pieces(pieces_of(text)))


def check_cleanable(counts: Mapping[str, int]) -> None:
    """Make sure that a text is one for this cleaning."""
    letters = sum(counts.get(letter, 0) for letter in string.ascii_letters)
    others = sum(n for c, n in counts.items() if not c.isspace()) - letters
    if letters < CLEANING_KEEPS_AT_LEAST * (letters + others):
        raise TextError(
            f"cleaning keeps the letters A-Z only, and {others:,} of the text's "
            f"{letters + others:,} non-blank characters are others: little but blanks would be "
            "left. Train on the characters as they are: --set clean=false"
        )


def split_heldout(
    corpus: SomeCorpus, max_tokens: int | None = None
) -> tuple[SomeCorpus, SomeCorpus]:
    """The part to train on, and the last tenth, which training never sees; views of the corpus.

    Train on so many tokens from the start at most; None, 0 or less means all but the last tenth.
    """
    border = len(corpus) - len(corpus) // 10
    length = max_tokens if max_tokens is not None and max_tokens > 0 else border
    return corpus[: min(border, length)], corpus[border:]
