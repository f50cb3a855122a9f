"""Characters per second of writing text, beside a textbook loop with the same weights.

``python benchmarks/generation.py``. All write in one process, in turn (A B C A B C ...);
the first round warms up. The ratios are taken round by round, so that what else happens
on the machine meets all alike. A text of ours includes what comes before its first character:
asking the model itself, and packing its weights.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from unrolled import torch as unrolled
from unrolled.bench.race import SETTLE_S
from unrolled.data.text import clean, time_machine
from unrolled.models.generation import choosers, generate_batch

PREFIX = "time traveller"
TEMPERATURE = 0.8

WARM_UP = 20
"""Characters that each writes before the clock starts: a pause empties the caches."""


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

    def ours(cell: str = "rnn", count: int = 1, draw: bool = False) -> Callable[[int], list[str]]:
        def write(length: int) -> list[str]:
            choose = choosers(count, 0, temperature=TEMPERATURE) if draw else None
            return generate_batch(
                unrolled.backend, models[cell], vocab, [PREFIX] * count, length, choose
            )

        return write

    writers: dict[str, tuple[int, Callable[[int], Any]]] = {
        "textbook loop, greedy": (1, lambda length: [textbook(params, vocab, length, False)]),
        "unrolled, greedy": (1, ours()),
        "textbook loop, drawn": (1, lambda length: [textbook(params, vocab, length, True)]),
        "unrolled, drawn": (1, ours(draw=True)),
        "unrolled, GRU, greedy": (1, ours("gru")),
        "unrolled, LSTM, greedy": (1, ours("lstm")),
        f"unrolled, {batch} texts, greedy": (batch, ours(count=batch)),
        f"unrolled, {batch} texts, drawn": (batch, ours(count=batch, draw=True)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in writers}
    texts = {}
    for round_ in range(arguments.rounds + 1):
        for name, (count, write) in writers.items():
            time.sleep(SETTLE_S)
            write(WARM_UP)
            started = time.perf_counter()
            texts[name] = write(length)
            if round_:
                seconds[name].append((time.perf_counter() - started) / count)
    same = texts["textbook loop, greedy"] == texts["unrolled, greedy"]
    print(
        f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, RNN unless named, ",
        end="",
    )
    print(f"H = {arguments.hiddens}, V = {len(vocab)}, {length} characters; greedy texts ", end="")
    print("equal" if same else "DIFFER")
    print(f"{'':<32}{'characters/s':>14}{'us each':>9}{'times the textbook loop':>32}")
    for name, taken in seconds.items():
        base = seconds[f"textbook loop, {'drawn' if 'drawn' in name else 'greedy'}"]
        ratios = sorted(b / t for b, t in zip(base, taken, strict=True))
        median, each = statistics.median(ratios), statistics.median(taken) / length
        print(f"{name:<32}{1 / each:>14,.0f}{each * 1e6:>9.1f}", end="")
        print(f"{median:>14.2f}   ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
