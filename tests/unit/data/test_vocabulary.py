from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.data import vocabulary
from unrolled.data.vocabulary import (
    Vocab,
    code_points,
    count_characters,
    indices,
    pieces_of,
    smallest_type,
)

texts = st.text("abcdé中😀 \n", max_size=40)
any_text = st.text(st.characters())  # surrogates and the last plane too


@given(texts)
def test_an_alphabetical_vocabulary_is_sorted_and_knows_its_unknown_token(text):
    vocab = Vocab(text, alphabetical=True)
    assert vocab.idx_to_token == sorted({"<unk>", *text})
    assert vocab["?"] == vocab.unk == vocab.idx_to_token.index("<unk>")
    assert vocab.encode(text + "?").tolist() == [*vocab[list(text)], vocab.unk]
    assert vocab.token_freqs == Vocab(text).token_freqs


@given(texts)
def test_tokens_stand_by_falling_frequency_then_by_first_appearance(text):
    vocab = Vocab(text)
    expected = sorted(set(text), key=lambda c: (-text.count(c), text.index(c)))
    assert vocab.idx_to_token == ["<unk>", *expected]
    assert (vocab.unk, len(vocab)) == (0, 1 + len(expected))
    assert vocab.token_freqs == [(c, text.count(c)) for c in expected]
    assert vocab.token_to_idx == {t: i for i, t in enumerate(vocab.idx_to_token)}


@pytest.mark.parametrize(
    "tokens",
    ["abcab", list("abcab"), tuple("abcab"), [[], ["a", "b"], [], ["c", "a", "b"]], iter("abcab")],
    ids=["text", "list", "tuple", "lines", "iterator"],
)
def test_tokens_may_come_as_text_list_or_lines(tokens):
    assert Vocab(tokens).idx_to_token == ["<unk>", "a", "b", "c"]


def test_a_tuple_is_one_token():
    vocab = Vocab([("a", "b"), ("b", "a"), ("a", "b")])
    assert vocab.token_freqs == [(("a", "b"), 2), (("b", "a"), 1)]
    assert vocab.to_tokens([0, 1]) == ["<unk>", ("a", "b")]


@given(texts, st.integers(0, 6))
def test_rarer_tokens_than_min_freq_count_as_unknown(text, min_freq):
    vocab = Vocab(text, min_freq=min_freq)
    counts = Counter(text)
    assert set(vocab.idx_to_token[1:]) == {c for c in text if counts[c] >= min_freq}
    assert all(vocab[c] == 0 for c in text if counts[c] < min_freq)
    assert dict(vocab.token_freqs) == counts


def test_special_tokens_and_vocabularies_of_words_and_of_nothing():
    vocab = Vocab("aab", reserved_tokens=["<pad>", "<bos>"])
    assert vocab.idx_to_token == ["<unk>", "<pad>", "<bos>", "a", "b"]
    vocab = Vocab(["a", "<pad>", "a", "<pad>", "<pad>", "<unk>"], reserved_tokens=["<pad>"])
    assert vocab.idx_to_token == ["<unk>", "<pad>", "a"]  # one place, if it occurs
    assert vocab["a"] == 2
    assert Vocab(["time", "a", "time"]).encode("a time").tolist() == [2, 0, 0, 0, 0, 0]
    for nothing in ("", [], [[]], ()):
        assert Vocab(nothing).idx_to_token == ["<unk>"]


def test_ids_keep_the_nesting_of_their_tokens():
    vocab = Vocab("aab")
    assert vocab["a"] == 1
    assert vocab[["a", "?", "b"]] == [1, 0, 2]
    assert vocab[["a", ["b", ("a",)]]] == [1, [2, [1]]]


@pytest.mark.parametrize(
    "ids", [[2, 0, 1], (2, 0, 1), np.array([2, 0, 1]), np.array([2, 0, 1], dtype=np.int32)]
)
def test_ids_become_tokens_again(ids):
    assert Vocab("aab").to_tokens(ids) == ["b", "<unk>", "a"]
    assert Vocab("aab").to_tokens(ids[0]) == "b"
    assert Vocab("aab").to_tokens(np.array(1)) == "a"
    with pytest.raises(IndexError):
        Vocab("aab").to_tokens(3)


@given(any_text, any_text)
def test_encode_equals_looking_up_every_character(known, text):
    vocab = Vocab(known)
    ids = vocab.encode(text + known)
    assert ids.dtype == np.int64
    assert ids.tolist() == vocab[list(text + known)]


@given(texts, texts)
def test_unknown_characters_are_listed_once_in_order(known, text):
    expected = []
    for c in text:
        if c not in known and c not in expected:
            expected.append(c)
    assert Vocab(known).unknown(text) == expected


@given(texts, st.integers(0, 3))
def test_a_vocabulary_comes_back_from_its_list(text, min_freq):
    vocab = Vocab(text, min_freq=min_freq, reserved_tokens=["<pad>"])
    again = Vocab.from_list(vocab.idx_to_token)
    assert again.idx_to_token == vocab.idx_to_token
    assert again.token_to_idx == vocab.token_to_idx
    assert again.encode(text).tolist() == vocab.encode(text).tolist()


@given(st.lists(any_text))
def test_characters_are_counted_however_the_text_is_cut(pieces):
    text = "".join(pieces)
    assert list(count_characters(pieces).items()) == list(Counter(text).items())  # order too


@given(any_text, st.integers(0, 3))
def test_a_vocabulary_may_be_made_of_counts(text, min_freq):
    of_text, of_counts = (Vocab(t, min_freq) for t in (text, count_characters([text])))
    assert of_counts.idx_to_token == of_text.idx_to_token
    assert of_counts.token_freqs == of_text.token_freqs


@given(any_text)
def test_code_points_are_those_of_the_characters(text):
    assert code_points(text).tolist() == [ord(c) for c in text]


@pytest.mark.parametrize("text", ["hello world", "a中é😀 " * 3, ""])
def test_long_texts_are_worked_on_in_pieces(monkeypatch, text):
    vocab, ids = Vocab(text), Vocab(text).encode(text)
    monkeypatch.setattr(vocabulary, "PIECE", 4)
    assert [len(piece) for piece in pieces_of("hello wor")] == [4, 4, 1]
    assert Vocab(text).token_freqs == vocab.token_freqs
    np.testing.assert_array_equal(vocab.encode(text), ids)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_ids_have_the_type_that_is_asked_for(dtype):
    ids = Vocab("hello").encode("hélo中o\U0010ffff", dtype)
    assert ids.dtype == dtype
    assert ids.tolist() == [2, 0, 1, 4, 0, 4, 0]


@pytest.mark.parametrize("count", [0, 1, 2, 256, 257, 65536, 65537, 2**32])
def test_the_largest_number_fits_the_smallest_type(count):
    info = np.iinfo(smallest_type(count))
    assert info.max >= count - 1
    assert info.bits == 8 or np.iinfo(f"uint{info.bits // 2}").max < count - 1


def test_indices_are_64_bits_and_not_copied_without_need():
    assert indices(np.arange(3, dtype=np.uint8)).dtype == np.int64
    ids = np.arange(3)
    assert indices(ids) is ids
