"""The Triton kernels: loops over all time steps of a recurrence, forward and back.

A program owns ``ROWS`` sequences. It computes their units in blocks of ``UNITS``, and where
there are several programs for the same sequences each takes every so many blocks. Those meet
after each step (``MEET``).

Arrays over time are those of `unrolled.functional.bptt`, with N hidden units. Of states they
have ``T + 1`` steps, as the state before the first step stands at their beginning:
``H (T + 1, B, N)``, ``C`` likewise, ``A (T, B, GATES * N)``, ``kept (T, B, KEPT * N)``.
"""

import triton
import triton.language as tl

from unrolled.kernels.triton.product import read, times, write


@triton.jit
def end_step(arrived, steps, MEET: tl.constexpr):
    """Wait until all that the next step reads is written.

    By the threads of this program, and with ``MEET`` by all programs of these sequences: they
    count in ``arrived`` how often they came here in all, ``steps`` times each.
    """
    tl.debug_barrier()
    if MEET:
        place, everyone = arrived + tl.program_id(0), steps * tl.num_programs(1)
        # release: what this program wrote is there before its arrival is; acquire: what others
        # wrote is seen by all that is read from here on
        count = tl.atomic_add(place, 1, sem="acq_rel") + 1
        while count < everyone:
            count = tl.atomic_add(place, 0, sem="acquire")
        tl.debug_barrier()


@triton.jit
def forward(
    A, W, b, H, C, kept, arrived, T, B, N,
    STEP: tl.constexpr, GATES: tl.constexpr, KEPT: tl.constexpr, HAS_CELLS: tl.constexpr,
    MEET: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, PARTS: tl.constexpr, SHARE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Fill ``H``, ``C`` and ``kept``."""
    sequences = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    in_batch = sequences < B
    for t in range(T):
        old, new = t * B + sequences, (t + 1) * B + sequences
        for start in range(tl.program_id(1) * UNITS, N, tl.num_programs(1) * UNITS):
            units = start + tl.arange(0, UNITS)
            in_layer = units < N
            inside = in_batch[:, None] & in_layer[None, :]
            inputs, products = (), ()
            for g in tl.static_range(GATES):
                gate = g * N + units
                inputs += (read(A, old, gate, inside, GATES * N),)
            H_old, C_old = read(H, old, units, inside, N), read(C, old, units, inside, N)
            bias = tl.load(b + units, mask=in_layer, other=0.0)[None, :]
            for g in tl.static_range(GATES):
                gate = g * N + units
                product = times(
                    H, old, in_batch, N, W, GATES * N, gate, 1, in_layer, PARTS, SHARE, PRECISION
                )
                products += (product,)
            H_new, C_new, keep = STEP(inputs, products, H_old, C_old, bias)
            write(H, new, units, inside, N, H_new)
            if HAS_CELLS:
                write(C, new, units, inside, N, C_new)
            for k in tl.static_range(KEPT):
                write(kept, old, k * N + units, inside, KEPT * N, keep[k])
        end_step(arrived, t + 1, MEET)


@triton.jit
def backward(
    dY, W, H_old, H, C_old, C, kept, dA, D, hidden, direct, arrived, T, B, N,
    STEP_BACK: tl.constexpr, GATES: tl.constexpr, KEPT: tl.constexpr, DIRECT: tl.constexpr,
    MEET: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, PARTS: tl.constexpr, SHARE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Fill ``dA``, ``D``, ``hidden`` and ``direct``, from the last step to the first.

    ``direct (T + 1, B, N)`` ends with what flows into the last state from outside. ``DIRECT``
    says which state it is about: ``"H"``, ``"C"``, or ``""`` for a cell without.
    """
    sequences = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    in_batch = sequences < B
    for steps_back in range(T):
        t = T - 1 - steps_back
        now, next = t * B + sequences, (t + 1) * B + sequences
        for start in range(tl.program_id(1) * UNITS, N, tl.num_programs(1) * UNITS):
            units = start + tl.arange(0, UNITS)
            in_layer = units < N
            inside = in_batch[:, None] & in_layer[None, :]
            dH = read(dY, now, units, inside, N)
            dC = dH
            if DIRECT == "H":
                dH += read(direct, next, units, inside, N)
            elif DIRECT == "C":
                dC = read(direct, next, units, inside, N)
            keep = ()
            for k in tl.static_range(KEPT):
                keep += (read(kept, now, k * N + units, inside, KEPT * N),)
            before, after = read(H_old, now, units, inside, N), read(H, now, units, inside, N)
            C_before, C_after = read(C_old, now, units, inside, N), read(C, now, units, inside, N)
            if t + 1 < T:  # D_{t+1} W^T: the strides of W exchanged
                dH += times(
                    D, next, in_batch, GATES * N,
                    W, 1, units, GATES * N, in_layer, PARTS, SHARE, PRECISION,
                )  # fmt: skip
            d_input, d_product, past = STEP_BACK(dH, dC, before, after, C_before, C_after, keep)
            for g in tl.static_range(GATES):
                write(D, now, g * N + units, inside, GATES * N, d_product[g])
                if DIRECT == "H":  # of other cells the two are the same
                    write(dA, now, g * N + units, inside, GATES * N, d_input[g])
            write(hidden, now, units, inside, N, dH)
            if DIRECT != "":
                write(direct, now, units, inside, N, past)
        end_step(arrived, steps_back + 1, MEET)
