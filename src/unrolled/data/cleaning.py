"""The cleaning of the published programs for texts of any length, a piece at a time.

It is the rule of `unrolled.data.text.clean_lines`, the lines joined. Only letters matter, so
it works on the bytes of UTF-8: all bytes of other than English letters are no letters.

What is kept is marked first; one call of `bytes.translate` then drops the rest and turns the
kept bytes into small letters, or at once into ids. To count them needs no dropping at all.
"""

import string
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from unrolled.data.vocabulary import count_characters

KINDS = bytes(ord(c if c in string.ascii_letters else " ") for c in map(chr, range(256))).lower()
"""For every byte what cleaning makes of it if it keeps it: the small letter, or a blank."""

DROPPED = b"\n"
"""In place of the bytes that cleaning does not keep; the end of a line is never kept."""


def marked_pieces(pieces: Iterable[str]) -> Iterator[bytes]:
    """The bytes of a text, with `DROPPED` for those that cleaning does not keep.

    It keeps all letters, and of every gap between letters the last byte, unless a line ends in
    it. Which gaps these are tells the addition of two large integers that have a bit for every
    byte, the first byte's the lowest: in a gap all bits are ones, so that one more, at the end
    of a line, carries into the letter behind the gap, however long that is.

    Args:
        pieces: the text, however it is cut.
    """
    before = b"\n"  # what the text so far ends with: the end of a line, another gap, or nothing
    for piece in pieces:
        data = before + piece.encode("utf-8", "replace")
        code = np.frombuffer(data, dtype=np.uint8)
        letters = bits((code | 0x20) - np.uint8(ord("a")) < 26)  # the bit that makes them small
        gaps = letters ^ ((1 << len(data)) - 1)
        behind_line_end = gaps + bits((code == ord("\n")) | (code == ord("\r")))
        behind_blank = (gaps << 1) & letters & ~behind_line_end
        keep = flags(letters | (behind_blank >> 1), len(data))  # of zeros and ones
        yield ((code ^ DROPPED[0]) * keep ^ DROPPED[0]).tobytes()
        gap = data[letters.bit_length() :]
        before = b"\n" if b"\n" in gap or b"\r" in gap else gap[:1]


def bits(where: npt.NDArray[np.bool_]) -> int:
    """Flags ``(N,)`` as the bits of an integer, the first as the lowest.

    Example:
        >>> bits(np.array([True, False, True, True]))
        13
    """
    return int.from_bytes(np.packbits(where, bitorder="little").tobytes(), "little")


def flags(number: int, count: int) -> npt.NDArray[np.uint8]:
    """The lowest bits of an integer as zeros and ones, ``(count,)``.

    Example:
        >>> flags(13, 5)
        array([1, 0, 1, 1, 0], dtype=uint8)
    """
    data = np.frombuffer(number.to_bytes((count + 7) // 8, "little"), dtype=np.uint8)
    return np.unpackbits(data, count=count, bitorder="little")


def clean_pieces(pieces: Iterable[str]) -> Iterator[str]:
    r"""The text cleaned, in pieces.

    Args:
        pieces: the text, however it is cut.

    Example:
        >>> "".join(clean_pieces(["The Time-Machine,", " 1898.\n\n  by H. G. Wells"]))
        'the time machineby h g wells'
    """
    for marked in marked_pieces(pieces):
        yield marked.translate(KINDS, DROPPED).decode("ascii")


def count_marked(pieces: Iterable[str]) -> dict[str, int]:
    r"""How often each character occurs in a cleaned text, in the order of first appearance.

    The bytes that cleaning drops are counted too, as `DROPPED`, with up to one more a piece.

    Args:
        pieces: the text, however it is cut.

    Example:
        >>> count_marked(["To -", " to\n"])
        {'\n': 5, 't': 2, 'o': 2, ' ': 1}
    """
    counts = Counter[str]()
    marked = (piece.decode("latin-1") for piece in marked_pieces(pieces))
    for character, count in count_characters(marked).items():
        dropped = character == DROPPED.decode()
        counts[character if dropped else chr(KINDS[ord(character)])] += count
    return dict(counts)
