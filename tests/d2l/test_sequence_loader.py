"""The older editions' loader of a text carries the text's ids and its vocabulary."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from unrolled.d2l.text import load_corpus_time_machine, read_time_machine, tokenize
from unrolled.data.vocabulary import Vocab


@pytest.mark.parametrize("use_random_iter", [False, True])
def test_loader_and_function_give_the_same_with_corpus_and_vocabulary(
    d2l: Any, use_random_iter: bool
) -> None:
    loader = d2l.SeqDataLoader(8, 6, use_random_iter, 500, seed=1)
    other, vocab = d2l.load_data_time_machine(8, 6, use_random_iter, 500, seed=1)
    corpus, truth = load_corpus_time_machine(500)
    for data in (loader, other):
        assert data.corpus.tolist() == corpus.tolist()
        assert data.vocab.idx_to_token == truth.idx_to_token
    assert vocab is other.vocab
    for batch, again in zip(loader, other, strict=True):
        for part, same in zip(batch, again, strict=True):
            assert d2l.numpy(part).tolist() == d2l.numpy(same).tolist()
    X, Y = next(iter(loader))
    assert d2l.numpy(X)[:, 1:].tolist() == d2l.numpy(Y)[:, :-1].tolist()


def test_the_book_has_the_published_lines():
    lines = read_time_machine()
    assert len(lines) == 3221
    assert lines[0] == "the time machine by h g wells"
    assert lines[10] == "twinkled and his usually pale face was flushed and animated the"


def test_the_corpus_is_the_cleaned_book_with_ids_by_frequency():
    corpus, vocab = load_corpus_time_machine()
    assert corpus.shape == (170_580,)
    assert set(vocab.idx_to_token) == {"<unk>", *" abcdefghijklmnopqrstuvwxyz"}
    assert vocab.idx_to_token[:10] == ["<unk>", " ", "e", "t", "a", "i", "n", "o", "s", "h"]
    counts = np.bincount(corpus)
    assert len(counts) == len(vocab) == 28
    assert counts[0] == 0 < counts[1:].min()
    assert (np.diff(counts[1:]) <= 0).all()
    assert "".join(vocab.to_tokens(corpus)) == "".join(read_time_machine())


@pytest.mark.parametrize("max_tokens", [1, 10_000, 0, -1, 10**9])
def test_max_tokens_takes_the_start_with_the_vocabulary_of_the_whole(max_tokens):
    whole, vocab = load_corpus_time_machine()
    corpus, same_vocab = load_corpus_time_machine(max_tokens)
    np.testing.assert_array_equal(corpus, whole[:max_tokens] if max_tokens > 0 else whole)
    assert same_vocab.idx_to_token == vocab.idx_to_token


def test_the_books_words_pairs_and_triples_have_the_published_frequencies():
    lines = tokenize(read_time_machine())
    words = [word for line in lines for word in line]
    published = [("the", 2261), ("i", 1267), ("and", 1245), ("of", 1155), ("a", 816)]
    for tokens in (words, lines):
        assert Vocab(tokens).token_freqs[:5] == published
    pairs = Vocab(list(pairwise(words)))
    assert pairs.token_freqs[:3] == [
        (("of", "the"), 309),
        (("in", "the"), 169),
        (("i", "had"), 130),
    ]
    triples = Vocab(list(zip(words[:-2], words[1:-1], words[2:], strict=True)))
    assert triples.token_freqs[:2] == [
        (("the", "time", "traveller"), 59),
        (("the", "time", "machine"), 30),
    ]
    assert len(Vocab()) == len(Vocab(None, reserved_tokens=None)) == 1


def test_tokenize_splits_into_characters_or_words():
    lines = ["the time", "", " a "]
    assert tokenize(lines, "char") == [list("the time"), [], [" ", "a", " "]]
    assert tokenize(lines) == tokenize(lines, "word") == [["the", "time"], [], ["a"]]


def test_another_kind_of_token_is_an_error():
    with pytest.raises(ValueError, match=r"'syllable'.*'char' or 'word'"):
        tokenize(["a"], "syllable")
