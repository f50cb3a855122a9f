"""Characters per second of writing text, beside a textbook loop with the same weights.

``python benchmarks/generation.py``. All write in turns as in ``unrolled bench``; given are the
median ratio and the middle half. A text of ours includes what comes before its first character:
asking the model itself, and packing its weights.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from unrolled import torch as unrolled
from unrolled.bench.race import Entrant, Race, repeated, run
from unrolled.bench.results import result
from unrolled.data.text import clean, time_machine
from unrolled.models.generation import choosers, generate_batch

PREFIX = "time traveller"
TEMPERATURE = 0.8

SECONDS = 60.0
"""Length of all turns of greedy texts, and of drawn ones."""


def textbook(params: list[torch.Tensor], vocab: unrolled.Vocab, length: int, draw: bool) -> str:
    """The loop as textbooks have it: one-hot inputs, a tensor for every character."""
    W_xh, W_hh, b_h, W_hq, b_q = params

    def net(X: torch.Tensor, state: tuple[torch.Tensor]) -> tuple[torch.Tensor, Any]:
        (H,) = state
        outputs = []
        for X_t in nn.functional.one_hot(X.T, len(vocab)).type(torch.float32):
            H = torch.tanh(torch.mm(X_t, W_xh) + torch.mm(H, W_hh) + b_h)
            outputs.append(torch.mm(H, W_hq) + b_q)
        return torch.cat(outputs, dim=0), (H,)

    state = (torch.zeros(1, len(W_hh)),)
    ids = [vocab[PREFIX[0]]]
    for character in PREFIX[1:]:
        _, state = net(torch.tensor([ids[-1]]).reshape(1, 1), state)
        ids.append(vocab[character])
    for _ in range(length):
        Y, state = net(torch.tensor([ids[-1]]).reshape(1, 1), state)
        if draw:
            choice = torch.multinomial(torch.softmax(Y / TEMPERATURE, dim=1), 1)
        else:
            choice = Y.argmax(dim=1)
        ids.append(int(choice.reshape(1)))
    return "".join(vocab.idx_to_token[i] for i in ids)


def trained(cell: str, num_hiddens: int, vocab: unrolled.Vocab, epochs: int) -> Any:
    """A model that knows a little of the book: its logits are no ties."""
    model = unrolled.LanguageModel(len(vocab), num_hiddens, cell)
    data = unrolled.TextData(clean(time_machine()), 32, 35, max_tokens=10000, seed=0)
    unrolled.Trainer(epochs, gradient_clip_val=1).fit(model, data)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hiddens", type=int, default=512)
    parser.add_argument("--length", type=int, default=500, help="characters to write")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=32, help="texts at a time, in the last lines")
    parser.add_argument("--epochs", type=int, default=20, help="of training before")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    length, batch = arguments.length, arguments.batch
    vocab = unrolled.Vocab(clean(time_machine()))
    models = {
        cell: trained(cell, arguments.hiddens, vocab, arguments.epochs)
        for cell in ("rnn", "gru", "lstm")
    }
    params = [*models["rnn"].parameters()]

    def ours(cell: str = "rnn", count: int = 1, draw: bool = False) -> list[str]:
        choose = choosers(count, 0, temperature=TEMPERATURE) if draw else None
        prefixes = [PREFIX] * count
        return generate_batch(unrolled.backend, models[cell], vocab, prefixes, length, choose)

    same = textbook(params, vocab, length, False) == ours()[0]
    threads = torch.get_num_threads()
    print(f"PyTorch {torch.__version__}, {threads} threads, RNN unless named, ", end="")
    print(f"H = {arguments.hiddens}, V = {len(vocab)}, {length} characters; greedy texts ", end="")
    print("equal" if same else "DIFFER")
    print(f"{'':<32}{'characters/s':>14}{'us each':>9}{'times the textbook loop':>32}")
    for draw in (False, True):
        writers: dict[str, tuple[int, Callable[[], object]]] = {
            "textbook loop": (1, partial(textbook, params, vocab, length, draw)),
            "unrolled": (1, partial(ours, draw=draw)),
            "unrolled, GRU": (1, partial(ours, "gru", draw=draw)),
            "unrolled, LSTM": (1, partial(ours, "lstm", draw=draw)),
            f"unrolled, {batch} texts": (batch, partial(ours, count=batch, draw=draw)),
        }
        entrants = [
            Entrant(
                name, f"{name}, {'drawn' if draw else 'greedy'}", partial(repeated, write), count
            )
            for name, (count, write) in writers.items()
        ]
        race = Race("writing", {}, entrants)
        run(race, arguments.rounds, SECONDS)
        table = result(race)
        assert table is not None
        for row in table.rows:
            count, _ = writers[row.name]
            each, ratio = row.ms * 1e3 / count / length, row.ratio
            print(f"{row.title:<32}{1e6 / each:>14,.0f}{each:>9.1f}", end="")
            print(f"{count / ratio.median:>14.2f}", end="")
            print(f"   ({count / ratio.high:.2f} to {count / ratio.low:.2f})")


if __name__ == "__main__":
    main()
