"""`clean_pieces`: clean a text of any length piece by piece, as the published programs do by lines.

It works on the bytes of UTF-8, as those of all other letters are no English letters either.
"""

from collections.abc import Iterable, Iterator

KINDS = bytes(
    ord(c.lower()) if c.isascii() and c.isalpha() else ord("\n" if c in "\r\n" else " ")
    for c in map(chr, range(256))
)
"""For every byte the small letter, the end of a line, or a blank."""


def clean_pieces(pieces: Iterable[str]) -> Iterator[str]:
    """The text cleaned, in pieces."""
    gap = b"\n"  # what the text so far ends with; it begins like a line
    for piece in pieces:
        data = gap + piece.encode("utf-8", "replace").translate(KINDS)
        text = data.strip()
        start = data.index(text[:1]) if text else 0
        blank = shortened(data[:start]).strip(b"\n")
        gap = shortened(data[start + len(text) :])
        lines = (b" ".join(line.split()) for line in text.split(b"\n"))
        yield (blank + b"".join(lines)).decode("ascii")


def shortened(gap: bytes) -> bytes:
    """A gap between letters as one byte: the end of a line if there is one in it, else a blank."""
    return b"\n" if b"\n" in gap else gap[:1]
