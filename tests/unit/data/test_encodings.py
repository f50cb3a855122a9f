"""Proposed encodings lead to the text, or there is none; texts are told by those who wrote them."""

import os

import pytest

from unrolled.data.encodings import BOMS, ENCODINGS, encoding_of

FRENCH = "Où êtes-vous allés cet été ? À la plage, près de la forêt."
GERMAN = "Schöne Grüße aus München, die Straße ist heiß."
ENGLISH = "She said “it’s fine” — and left…"
CZECH = "Příliš žluťoučký kůň úpěl ďábelské ódy."
RUSSIAN = "Все счастливые семьи похожи друг на друга."
CHINESE = "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？"
TRADITIONAL = "學而時習之，不亦說乎？"
JAPANESE = "春はあけぼの、やうやう白くなりゆく。"
KOREAN = "모든 인간은 태어날 때부터 자유로우며 존엄하다."
PAIRS = {
    FRENCH: "cp1252 latin-1 mac_roman cp850",
    GERMAN: "cp1252 latin-1",
    ENGLISH: "cp1252",
    CZECH: "cp1250 iso8859-2",
    RUSSIAN: "cp1251 koi8-r cp866 iso8859-5",
    CHINESE: "gb18030",
    TRADITIONAL: "big5",
    JAPANESE: "shift_jis euc-jp iso2022_jp",
    KOREAN: "euc-kr",
}
WIDE = "utf-16 utf-16-le utf-16-be utf-32 utf-32-le utf-32-be"
CASES = [(text, each) for text, own in PAIRS.items() for each in f"{own} {WIDE}".split()]
PLAIN = "Nothing special in this line, but that it comes first.\n"


@pytest.fixture
def told(tmp_path):
    """What is proposed for bytes, by Python's name for it; None if nothing is."""

    def told(data):
        (tmp_path / "text").write_bytes(data)
        name = encoding_of(tmp_path / "text")
        return ENCODINGS[name][0] if name in ENCODINGS else name

    return told


@pytest.mark.parametrize(("text", "encoding"), CASES)
@pytest.mark.parametrize("shape", ["{}", "{}\n", "late"])
def test_what_is_proposed_gives_the_text(told, text, encoding, shape):
    text = PLAIN * 3000 + text + "\n" if shape == "late" else shape.format(text)
    data = text.encode(encoding)
    assert data.decode(told(data)) == text


@pytest.mark.parametrize(
    "data",
    [
        "déjà".encode("latin-1"),  # or déjŕ, in Slovak
        "Però la verità".encode("cp1252")[:5],
        "ПРИВЕТ".encode("cp1251"),  # or опхбер, in KOI8-R
        "opérateur".encode("cp037"),  # of mainframes
        bytes(range(256)) * 10,
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\0\0\1\0\x08\2",
        b"caf\0e\n" * 100,
        f"{RUSSIAN}\n".encode() * 20 + b"\xff and then more",
        f"{CHINESE}\n".encode()[:-2],
        f"{FRENCH}\n".encode("cp1252") * 3000 + b"\x81",  # which cp1252 does not have
        f"{JAPANESE}\n".encode("shift_jis") + f"{RUSSIAN}\n".encode("koi8-r"),
    ],
)
def test_what_is_not_certain_is_not_proposed(told, data):
    assert told(data) is None


@pytest.mark.parametrize("repeated", [1, 500])
def test_repetition_is_no_evidence(told, repeated):
    assert told("déjà vu\n".encode("latin-1") * repeated) is None


def test_every_encoding_is_one_that_python_knows():
    for name in [codec for codec, *_ in ENCODINGS.values()] + [*BOMS.values()]:
        assert "a".encode(name).decode(name) == "a"


def test_a_file_of_terabytes_is_not_read_to_its_end(tmp_path):
    file = tmp_path / "file"
    file.write_bytes("größer als früher".encode("cp1252"))
    os.truncate(file, 2**40)
    assert encoding_of(file) is None
