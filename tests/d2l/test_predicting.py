"""The books' predictions take the vocabularies that the books print, and what these do not know."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from parity.reference import LanguageModel
from unrolled.errors import TextError

LINES = [list("the time"), list("a mat at tea")]


class FirstVocab:
    """As the Chinese and first English editions print it, in short."""

    def __init__(self, lines: list[list[str]]) -> None:
        counter = Counter(token for line in lines for token in line)
        self.idx_to_token = ["<unk>", *(token for token, _ in counter.most_common())]
        self.token_to_idx = {token: i for i, token in enumerate(self.idx_to_token)}

    def __len__(self) -> int:
        return len(self.idx_to_token)

    def __getitem__(self, tokens: Any) -> Any:
        if not isinstance(tokens, (list, tuple)):
            return self.token_to_idx.get(tokens, 0)
        return [self.__getitem__(token) for token in tokens]


class SecondVocab(FirstVocab):
    """As the second English edition prints it: in the order of the alphabet."""

    def __init__(self, lines: list[list[str]]) -> None:
        self.idx_to_token = sorted({"<unk>", *(token for line in lines for token in line)})
        self.token_to_idx = {token: i for i, token in enumerate(self.idx_to_token)}

    def __getitem__(self, tokens: Any) -> Any:
        if not isinstance(tokens, (list, tuple)):
            return self.token_to_idx.get(tokens, self.token_to_idx["<unk>"])
        return [self.__getitem__(token) for token in tokens]


def trained(d2l: Any, vocab: Any, ids: list[int], num_epochs: int = 1) -> Any:
    data = d2l.seq_data_iter_sequential(ids * 20, 2, 5)
    net = d2l.RNNModelScratch(len(vocab), 8)
    return d2l.train_ch8(net, list(data), vocab, 0.5, num_epochs, d2l.try_gpu())


def by_hand(net: Any, ids: list[int], num_preds: int) -> list[int]:
    """The likeliest continuation, by NumPy."""
    values = net.export_parameters()
    reference = LanguageModel("rnn", 1, len(values["b_q"]), len(values["b_h"]))
    new = reference.continuation(values, np.array(ids), num_preds)
    return [*ids, *(token for token, _ in new)]


@pytest.mark.parametrize("Vocab", [FirstVocab, SecondVocab])
def test_a_vocabulary_as_printed_serves_and_unknown_tokens_are_written_so(
    d2l: Any, Vocab: Any, capsys: Any
) -> None:
    vocab = Vocab(LINES)
    net = trained(d2l, vocab, vocab[[c for line in LINES for c in line]], num_epochs=10)
    printed = [line for line in capsys.readouterr().out.splitlines() if "sec" not in line]
    for prefix in ("the", "time traveller", "Time!", ["t", "tea", "e"]):
        text = d2l.predict_ch8(prefix, 6, net, vocab, d2l.try_gpu())
        ids = by_hand(net, vocab[list(prefix)], 6)
        assert text == "".join(vocab.idx_to_token[i] for i in ids)
    # r, v and l are unknown: at epoch 10 and at the end it goes on all the same
    assert [line[:31] for line in printed[:2]] == ["time t<unk>a<unk>e<unk><unk>e<u"] * 2
    with pytest.raises(TextError, match="the prefix is empty"):
        d2l.predict_ch8([], 6, net, vocab, d2l.try_gpu())


def test_a_language_model_of_words_goes_on_from_a_list_of_words(d2l: Any) -> None:
    words = ["the", "time", "traveller", "smiled", "and", "the", "time", "went", "on"]
    vocab = d2l.Vocab(words)
    net = trained(d2l, vocab, vocab[words])
    text = d2l.predict_ch8(["the", "machine"], 3, net, vocab, d2l.try_gpu())
    ids = by_hand(net, [vocab["the"], 0], 3)
    assert text == "the<unk>" + "".join(vocab.to_tokens(ids[2:]))


@pytest.mark.parametrize("Vocab", [FirstVocab, SecondVocab])
def test_models_of_the_second_edition_predict_with_it_too(d2l: Any, Vocab: Any) -> None:
    vocab = Vocab(LINES)
    V = len(vocab)
    model = d2l.RNNLMScratch(d2l.RNNScratch(V, 8), vocab_size=V)
    if d2l.backend.name == "jax":
        model = model.initialize(np.zeros((1, 2), int))
        where = d2l.backend.nested(d2l.backend.parameters(model))
    else:
        where = d2l.try_gpu()
    text = model.predict("Time", 3, vocab, where)
    assert text == model.predict(list("Time"), 3, vocab, where)
    assert text.startswith("<unk>ime")
