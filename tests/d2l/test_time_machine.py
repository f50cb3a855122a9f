"""The English edition's data module, on every framework."""

from typing import Any

import numpy as np
import pytest

from unrolled.data.text import time_machine
from unrolled.errors import SettingError, TextError

PUBLISHED = [21, 9, 6, 0, 21, 10, 14, 6, 0, 14]
"""The first ten ids of the text, as the edition prints them: "the time m"."""


def values(d2l: Any, batch: Any) -> list[np.ndarray]:
    return [d2l.backend.to_numpy(part) for part in batch]


def test_the_text_has_the_published_size_and_ids(d2l: Any) -> None:
    data = d2l.TimeMachine()  # no windows
    corpus, vocab = data.build(data._download())
    assert (len(corpus), len(vocab)) == (173428, 28)
    assert corpus[:10] == PUBLISHED
    assert vocab.idx_to_token[:4] == [" ", "<unk>", "a", "b"]
    assert vocab["?"] == vocab.unk == 1
    assert not hasattr(data, "X")


def test_a_given_vocabulary_is_used(d2l: Any) -> None:
    vocab = d2l.Vocab("time")
    assert d2l.TimeMachine().build("Time!", vocab) == ([*vocab[list("time")], 0], vocab)


def test_windows_begin_at_every_place_and_targets_are_one_ahead(d2l: Any) -> None:
    data = d2l.TimeMachine(batch_size=2, num_steps=4, num_train=6, num_val=3)
    corpus, _ = data.build(time_machine())
    X, y = values(d2l, (data.X, data.Y))
    assert X.tolist() == [corpus[i : i + 4] for i in range(9)]
    assert y.tolist() == [corpus[i + 1 : i + 5] for i in range(9)]
    assert np.issubdtype(X.dtype, np.integer)
    assert (data.batch_size, data.num_steps, data.num_train, data.num_val) == (2, 4, 6, 3)


def test_training_shuffles_the_first_windows_and_validation_reads_the_next(d2l: Any) -> None:
    data = d2l.TimeMachine(batch_size=4, num_steps=4, num_train=30, num_val=5)
    every, _ = values(d2l, (data.X, data.Y))
    train = [values(d2l, batch)[0] for batch in data.train_dataloader()]
    valid = [values(d2l, batch)[0] for batch in data.val_dataloader()]
    assert [len(X) for X in train] == [4] * 7 + [2]
    np.testing.assert_array_equal(np.concatenate(valid), every[30:])
    seen = np.concatenate(train)
    assert seen.tolist() != every[:30].tolist()
    assert sorted(seen.tolist()) == sorted(every[:30].tolist())


def test_a_reader_may_tokenize_otherwise(d2l: Any) -> None:
    class Words(d2l.TimeMachine):
        def _tokenize(self, text: str) -> list[str]:
            return text.split()

    data = Words(batch_size=2, num_steps=3, num_train=4, num_val=2)
    first = data.vocab.to_tokens(values(d2l, (data.X,))[0][0])
    assert first == ["the", "time", "machine"]


def test_a_reader_may_write_the_constructor_anew(d2l: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(d2l.TimeMachine, "__init__", d2l.TimeMachine.__init__)

    @d2l.add_to_class(d2l.TimeMachine)
    def __init__(self: Any, batch_size: int, num_steps: int, num_train: int = 9) -> None:  # noqa: N807
        super(d2l.TimeMachine, self).__init__()
        self.save_hyperparameters()

    data = d2l.TimeMachine(batch_size=2, num_steps=4)
    assert (data.batch_size, data.num_steps, data.num_train) == (2, 4, 9)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ({"batch_size": 0, "num_steps": 4}, SettingError, "batch_size is 0"),
        ({"batch_size": 4}, SettingError, "num_steps is 0"),
        ({"batch_size": 4, "num_steps": 4, "num_val": 10**6}, TextError, "num_val=1,000,000"),
    ],
)
def test_sizes_that_cannot_be_are_told(d2l: Any, sizes: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        d2l.TimeMachine(**sizes)
