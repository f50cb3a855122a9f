import hashlib
import os
import re
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.data import text as text_module
from unrolled.data.text import (
    clean,
    clean_lines,
    read_pieces,
    read_text,
    split_heldout,
    time_machine,
)
from unrolled.errors import TextError

PUBLISHED_SHA1 = "090b5e7e70c295757f55df93cb0a180b9691891a"


@pytest.fixture
def write(tmp_path):
    def write(data):
        path = tmp_path / "mine.txt"
        path.write_bytes(data)
        return path

    return write


def test_the_packaged_book_is_the_published_file():
    data = files("unrolled.data.corpora").joinpath("timemachine.txt").read_bytes()
    assert hashlib.sha1(data).hexdigest() == PUBLISHED_SHA1
    assert len(data) == 178_979
    assert time_machine().encode("ascii") == data


def test_a_changed_book_is_an_error_that_names_both_sums(monkeypatch):
    monkeypatch.setattr(text_module, "TIME_MACHINE_SHA1", "0" * 40)
    with pytest.raises(TextError, match=rf"damaged.*{PUBLISHED_SHA1}.*{'0' * 40}.*install"):
        time_machine()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_joined_without_a_separator(end):
    assert clean(f"I{end}{end} The Traveller{end}said") == "ithe travellersaid"


@given(st.lists(st.text("aBz ,-1é\t", max_size=12), max_size=6))
def test_cleaned_lines_follow_the_published_rule(lines):
    expected = []
    for line in lines:
        words, word = [], ""
        for character in line + ".":
            if character in "aBz":
                word += character
            elif word:
                words.append(word)
                word = ""
        expected.append(" ".join(words).lower())
    assert clean_lines("".join(line + "\n" for line in lines)) == expected


@pytest.mark.parametrize("text", ["Привет, мир", "12345 67890", "ab中文中文中文中文中", "1" * 1234])
def test_cleaning_that_would_leave_blanks_is_an_error_that_names_the_way_out(text):
    others = len(re.findall(r"[^\sA-Za-z]", text))
    with pytest.raises(TextError, match=r"letters A-Z only") as caught:
        clean(text)
    assert f"{others:,} of the text's {len(text.replace(' ', '')):,} non-blank" in str(caught.value)
    assert "--set clean=false" in str(caught.value)


@pytest.mark.parametrize("text", ["ab中文中文中文中文", "1,234 apples", "hi\n\n   \n"])
def test_cleaning_takes_text_with_a_fifth_of_letters(text):
    assert clean(text).strip()


def test_what_cannot_be_opened_is_an_error_that_says_why(tmp_path, write):
    for path, said in (
        (tmp_path / "nowhere.txt", r"nowhere\.txt' does not exist"),
        (tmp_path, f"'{re.escape(str(tmp_path))}' is a directory"),
        (write(b"abc") / "deeper.txt", "cannot be read"),
        ("a\0b", "cannot be read"),
    ):
        with pytest.raises(TextError, match=said):
            read_text(path)
    assert read_text(str(tmp_path / "mine.txt")) == "abc"  # a path may be a string


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n ", b"\xef\xbb\xbf", "\u3000\u00a0".encode()])
def test_an_empty_or_blank_text_is_an_error(write, data):
    with pytest.raises(TextError, match=r"mine\.txt' is empty"):
        read_text(write(data))


@pytest.mark.parametrize(
    ("data", "place", "words"),
    [
        ("café".encode("latin-1"), 3, "must be known"),
        ("Où êtes-vous allés cet été, près de là ?".encode("latin-1"), 1, "iconv -f CP1252"),
        ("ab".encode("utf-16"), 0, "iconv -f UTF-16"),
        ("hello\n".encode("utf-16-le"), 1, "iconv -f UTF-16LE"),
        ("それは猫である。".encode("iso2022_jp"), 0, "iconv -f ISO-2022-JP"),
        (b"hello\0world", 5, "must be known"),
        (b"abc\xc3", 3, "must be known"),
        (b"\x80", 0, "must be known"),
        (b"\xef\xbb\xbfab\xff", 5, "must be known"),  # counted from the start of the file
    ],
)
def test_a_text_in_another_encoding_is_an_error_that_names_the_byte(write, data, place, words):
    with pytest.raises(TextError, match=rf"not UTF-8: byte {place} is 0x.*{words}"):
        read_text(write(data))


@given(st.integers(0, 200), st.none() | st.integers(1, 250) | st.sampled_from([0, -1]))
def test_the_last_tenth_is_held_out_and_never_trained_on(count, max_tokens):
    corpus = np.arange(count)
    train, heldout = split_heldout(corpus, max_tokens)
    tenth = count // 10
    rest = count - tenth
    np.testing.assert_array_equal(heldout, corpus[rest:])
    np.testing.assert_array_equal(
        train, corpus[: max_tokens if max_tokens and max_tokens > 0 else rest][:rest]
    )


@pytest.mark.parametrize("blank", ["\f", "\x1c", "\u2028", "\v"])
def test_only_line_ends_end_lines(blank):
    assert clean(f"ab{blank}cd") == "ab cd"


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\x1b")),
    st.integers(1, 9),
)
def test_pieces_of_a_file_make_up_its_text(tmp_path_factory, text, size):
    path = tmp_path_factory.getbasetemp() / "pieces.txt"
    for mark in ("", "\ufeff"):  # a byte order mark is no part of the text
        path.write_bytes((mark + text).encode("utf-8"))
        pieces = list(read_pieces(path, size))
        assert "".join(pieces) == (mark + text).removeprefix("\ufeff")
        assert all(len(piece.encode("utf-8")) <= size + 3 for piece in pieces)


@given(st.binary(max_size=30), st.text("aé中😀", max_size=9), st.integers(1, 9))
def test_the_wrong_byte_is_the_same_however_the_file_is_cut(tmp_path_factory, data, text, size):
    data = text.encode("utf-8") + data
    path = tmp_path_factory.getbasetemp() / "wrong.txt"
    path.write_bytes(data)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = error.start
    else:
        place = len(data)
    odd = re.search(rb"\0|\x1b\$", data)
    place = min(place, odd.start()) if odd else place
    if place < len(data):
        with pytest.raises(TextError, match=f"byte {place} is 0x{data[place]:02x}"):
            list(read_pieces(path, size))
    else:
        assert "".join(read_pieces(path, size)) == data.decode("utf-8").removeprefix("\ufeff")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_regular_file_is_refused_unless_it_is_piped_in(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", "/dev/null", tmp_path / "pipe"):
        with pytest.raises(TextError, match=r"no regular file.*text=/dev/stdin"):
            read_text(path)
    reader, writer = os.pipe()
    os.write(writer, b"piped in")
    os.close(writer)
    assert read_text(f"/dev/fd/{reader}") == "piped in"
    os.close(reader)
