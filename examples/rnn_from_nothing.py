"""A recurrent network that writes text, in NumPy, with nothing of this library.

    python examples/rnn_from_nothing.py [text.txt] [epochs]

This file is the complete algorithm: text, vocabulary, minibatches, forward pass, gradients,
clipping, updates, generated text. Everything that the library adds is speed, other cells, other
frameworks and a look inside. A test compares the two.

Shape letters: B sequences in a minibatch, T time steps, V tokens in the vocabulary, H hidden units.
"""

import re
import sys
from pathlib import Path

import numpy as np

BATCH_SIZE, NUM_STEPS, NUM_HIDDENS = 32, 35, 128
LEARNING_RATE, CLIP_NORM = 1.0, 1.0
TIME_MACHINE = Path(__file__).parents[1] / "src/unrolled/data/corpora/timemachine.txt"


# 1. Text to numbers


def read_text(path, max_characters=10_000):
    """Read the letters of a text, lower-case, everything else as one blank."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    cleaned = (re.sub("[^A-Za-z]+", " ", line).strip().lower() for line in lines)
    return "".join(cleaned)[:max_characters]


def minibatches(ids, rng):
    """Cut ids into B streams; yield inputs and targets (B, T), one character apart.

    Each minibatch goes on where the one before ended, so the hidden state can be carried over.
    The first id is drawn, so that no two epochs see the same windows.
    """
    offset = int(rng.integers(0, NUM_STEPS + 1))
    length = (len(ids) - offset - 1) // BATCH_SIZE
    inputs = ids[offset : offset + BATCH_SIZE * length].reshape(BATCH_SIZE, length)
    targets = ids[offset + 1 : offset + 1 + BATCH_SIZE * length].reshape(BATCH_SIZE, length)
    for t in range(0, length - NUM_STEPS + 1, NUM_STEPS):
        yield inputs[:, t : t + NUM_STEPS], targets[:, t : t + NUM_STEPS]


# 2. The model


def initial_parameters(V, H, rng):
    """Draw small weights; biases are zero."""
    return {
        "W_xh": rng.normal(0, 0.01, (V, H)),
        "W_hh": rng.normal(0, 0.01, (H, H)),
        "b_h": np.zeros(H),
        "W_hq": rng.normal(0, 0.01, (H, V)),
        "b_q": np.zeros(V),
    }


def forward(p, X, H):
    """Read ids X (B, T) from the hidden state H (B, H) on.

    Returns the logits (T, B, V) of the next character at every step, and all hidden states
    (T + 1, B, H), the first one included.
    """
    states = [H]
    for x in X.T:  # the ids of one time step, (B,); a row of W_xh is a one-hot vector's product
        H = np.tanh(p["W_xh"][x] + H @ p["W_hh"] + p["b_h"])  # (B, H)
        states.append(H)
    states = np.stack(states)  # (T + 1, B, H)
    return states[1:] @ p["W_hq"] + p["b_q"], states


def loss_and_gradients(p, X, Y, H):
    """Return the mean cross-entropy, its gradients, and the last hidden state.

    Backpropagation through time: the chain rule, from the last step to the first.
    """
    logits, states = forward(p, X, H)
    T, B, _ = logits.shape
    steps, rows = np.arange(T)[:, None], np.arange(B)
    logits = logits - logits.max(-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))  # (T, B, V)
    loss = -log_p[steps, rows, Y.T].mean()

    d_logits = np.exp(log_p)  # the derivative of cross-entropy: softmax minus one-hot target
    d_logits[steps, rows, Y.T] -= 1
    d_logits /= T * B
    g = {name: np.zeros_like(value) for name, value in p.items()}
    g["W_hq"] = np.einsum("tbh,tbv->hv", states[1:], d_logits)
    g["b_q"] = d_logits.sum((0, 1))
    d_later = np.zeros_like(H)  # what step t + 1 says about the state of step t, (B, H)
    for t in reversed(range(T)):
        d_state = d_logits[t] @ p["W_hq"].T + d_later  # (B, H)
        d_sum = d_state * (1 - states[t + 1] ** 2)  # tanh' = 1 - tanh^2
        np.add.at(g["W_xh"], X[:, t], d_sum)
        g["W_hh"] += states[t].T @ d_sum
        g["b_h"] += d_sum.sum(0)
        d_later = d_sum @ p["W_hh"].T  # once per step: this is why gradients vanish or explode
    return loss, g, states[-1]


# 3. Training


def clip(gradients, theta):
    """Scale all gradients together so that their norm is at most theta; return it as it was."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    return {name: g / max(1.0, norm / theta) for name, g in gradients.items()}, norm


def train_epoch(p, ids, rng):
    """Update the parameters in place, minibatch by minibatch; return loss and gradient norms."""
    H = np.zeros((BATCH_SIZE, len(p["W_hh"])))
    losses, norms = [], []
    for X, Y in minibatches(ids, rng):
        loss, gradients, H = loss_and_gradients(p, X, Y, H)  # H is a number now: no older graph
        gradients, norm = clip(gradients, CLIP_NORM)
        for name in p:
            p[name] -= LEARNING_RATE * gradients[name]
        losses.append(loss)
        norms.append(norm)
    return np.mean(losses), norms


# 4. Writing


def generate(p, ids, length):
    """Read ids, then write the likeliest next one again and again."""
    H, text = np.zeros((1, len(p["W_hh"]))), list(ids)
    read = np.array([text])  # (1, T)
    for _ in range(length):
        logits, states = forward(p, read, H)
        text.append(int(logits[-1, 0].argmax()))
        read, H = np.array([text[-1:]]), states[-1]
    return text


def main(path=TIME_MACHINE, epochs=200):
    text = read_text(path)
    characters = sorted(set(text))
    ids = np.array([characters.index(c) for c in text])
    rng = np.random.default_rng(0)
    p = initial_parameters(len(characters), NUM_HIDDENS, rng)
    print(f"{len(ids)} characters, {len(characters)} different ones")
    for epoch in range(1, int(epochs) + 1):
        loss, norms = train_epoch(p, ids, rng)
        if epoch % 20 == 0 or epoch == int(epochs):
            written = "".join(characters[i] for i in generate(p, ids[:15], 50))
            print(f"epoch {epoch}: perplexity {np.exp(loss):.2f}, largest norm {max(norms):.2f}")
            print(f"  {written}")


if __name__ == "__main__":
    main(*sys.argv[1:])
