"""One time step of each cell, forward and backward, in Triton's language.

The equations of `unrolled.functional.bptt`, in the same order and with the same letters; the
loops around them have done the products and the reading. Gates come as tuples of blocks:

    step(A, P, H, C, b) -> (H, C, kept)
    step_back(dH, dC, H_old, H, C_old, C, kept) -> (dA, D, direct)

``A`` is what the input contributes to each gate, ``P`` what the state contributes, ``b`` the
GRU's second candidate bias, ``C`` the LSTM's cell state; a cell leaves alone what it has not.
``direct`` is what flows into the state before without passing a product: of the GRU into
``H``, of the LSTM into ``C``.

The kernels of a GPU see functions and numbers that are known when they are translated as
*constants*: a loop takes its cell's step as one, so each cell gets a loop of its own.
"""

import triton
import triton.language as tl


@triton.jit
def tanh(x):
    """``2 sigmoid(2 x) - 1``: Triton has no tanh that runs on every device."""
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def rnn_step(A, P, H, C, b):
    """``H_t = tanh(A_t + P_t)``."""
    return tanh(A[0] + P[0]), C, ()


@triton.jit
def rnn_step_back(dH, dC, H_old, H, C_old, C, kept):
    """``tanh' = 1 - tanh^2``."""
    D = (dH * (1 - H * H),)
    return D, D, dH


@triton.jit
def relu_step(A, P, H, C, b):
    """``H_t = max(A_t + P_t, 0)``; NaN stays NaN, so that a divergence is noticed."""
    return tl.maximum(A[0] + P[0], 0.0, propagate_nan=tl.PropagateNan.ALL), C, ()


@triton.jit
def relu_step_back(dH, dC, H_old, H, C_old, C, kept):
    """``relu' = 1`` where the unit is above 0, else 0."""
    D = (tl.where(H > 0, dH, 0.0),)
    return D, D, dH


@triton.jit
def gru_step(A, P, H, C, b):
    """Gates Z, R; ``N = P_c + b``; candidate ``C = tanh(A_c + R N)``; ``Z H + (1 - Z) C``."""
    Z, R = tl.sigmoid(A[0] + P[0]), tl.sigmoid(A[1] + P[1])
    N = P[2] + b
    candidate = tanh(A[2] + R * N)
    return candidate + Z * (H - candidate), C, (Z, R, candidate, N)


@triton.jit
def gru_step_back(dH, dC, H_old, H, C_old, C, kept):
    """The chain rule through the three gates; N reaches the candidate through R only."""
    Z, R, candidate, N = kept
    dA_c = dH * (1 - Z) * (1 - candidate * candidate)
    dA_z = dH * (H_old - candidate) * Z * (1 - Z)
    dA_r = dA_c * N * R * (1 - R)
    return (dA_z, dA_r, dA_c), (dA_z, dA_r, dA_c * R), dH * Z


@triton.jit
def lstm_step(A, P, H, C, b):
    """Gates I, F, O, candidate G; ``C_t = F C + I G``; ``H_t = O tanh(C_t)``."""
    I, F = tl.sigmoid(A[0] + P[0]), tl.sigmoid(A[1] + P[1])  # noqa: E741
    O, G = tl.sigmoid(A[2] + P[2]), tanh(A[3] + P[3])  # noqa: E741
    C = F * C + I * G
    return O * tanh(C), C, (I, F, O, G)


@triton.jit
def lstm_step_back(dH, dC, H_old, H, C_old, C, kept):
    """Into ``C_t`` flow the gradient from ``C_{t+1}`` and the one through ``H_t``."""
    I, F, O, G = kept  # noqa: E741
    tanh_C = tanh(C)
    dC += dH * O * (1 - tanh_C * tanh_C)
    dI, dF = dC * G * I * (1 - I), dC * C_old * F * (1 - F)
    dO, dG = dH * tanh_C * O * (1 - O), dC * I * (1 - G * G)
    D = (dI, dF, dO, dG)
    return D, D, dC * F
