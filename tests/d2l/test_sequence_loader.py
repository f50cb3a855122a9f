"""The older editions' loader of a text carries the text's ids and its vocabulary."""

from typing import Any

import pytest

from installed import INSTALLED
from unrolled.data.text import load_corpus_time_machine
from unrolled.frameworks import load

on_each = pytest.mark.parametrize(
    "d2l", [load(name, "unrolled.d2l") for name in INSTALLED], ids=INSTALLED
)


@on_each
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
