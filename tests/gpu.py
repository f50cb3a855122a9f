"""Where kernels for GPUs are tested: on a GPU if there is one, else on the CPU.

There Triton's kernels run in its interpreter (conftest.py).
"""

import pytest

torch = pytest.importorskip("torch")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def passage(cell, sizes, dtype=torch.float32):
    """What the passes through time of a cell take: A, state, W_h, biases, dY, d_last."""
    from unrolled.functional.bptt import GATES

    (T, B, H), G = sizes, len(GATES[cell])
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator).to(DEVICE, dtype)

    def draw_state():
        return tuple(draw(B, H) for _ in range(2 if cell == "lstm" else 1))

    biases = (draw(H),) if cell == "gru" else ()
    A, state, W_h = draw(T, B, G * H), draw_state(), draw(H, G * H) * H**-0.5
    return A, state, W_h, biases, draw(T, B, H), draw_state()


def there_and_back(passes, cell, A, state, W_h, biases, dY, d_last):
    """Outputs, last state and all gradients of the passes."""
    from unrolled.backends.torch import xp

    last, tape = passes.forward(xp, cell, A, state, W_h, *biases)
    g = passes.backward(xp, cell, tape, W_h, dY, d_last)
    return tape.new[0], *last, g.inputs, g.recurrent, g.hidden, *g.state
