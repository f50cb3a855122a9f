"""The Triton kernels give the numbers of the written-out formulas, and NVIDIA's GPUs can run them.

Without a GPU they run in Triton's interpreter.
"""

import os
import subprocess
import sys

import pytest

from gpu import DEVICE, passage, there_and_back, torch
from unrolled.backends import torch as backend
from unrolled.backends.torch import xp
from unrolled.functional import bptt
from unrolled.functional.recurrent import CELLS, RELU_RNN
from unrolled.kernels import recur

pytest.importorskip("triton")

from unrolled.kernels.triton.torch import BLOCKS, Triton

# a second block of everything, hardly filled
CUT = (2, BLOCKS.rows + 1, max(BLOCKS.units, BLOCKS.parts * BLOCKS.share) + 1)
SIZES = [(1, 1, 1), (3, 2, 5), CUT]

cells = pytest.mark.parametrize("cell", bptt.GATES)


@cells
@pytest.mark.parametrize("sizes", SIZES)
def test_they_compute_what_the_formulas_compute(cell, sizes):
    arrays = passage(cell, sizes)
    found = there_and_back(Triton(), cell, *arrays)
    for ours, expected in zip(found, there_and_back(bptt, cell, *arrays), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", [*CELLS.values(), RELU_RNN], ids=lambda cell: cell.engine)
def test_within_a_recurrence_they_give_all_gradients_of_the_reference(cell):
    T, B, D, H = 4, 3, 2, 5
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator).to(DEVICE).requires_grad_()

    X, weights = draw(T, B, D), [draw(*shape) for shape in cell.shapes(D, H).values()]
    state = tuple(draw(B, H) for _ in range(cell.num_states))
    weigh = draw(B, T, H).detach().transpose(0, 1)  # a gradient that is not contiguous
    results = []
    for outputs, last in (
        cell.forward(xp, X, state, *weights),
        recur(backend, cell, X, state, weights, "triton"),
    ):
        loss = (outputs * weigh).sum() + sum((part**2).sum() for part in last)
        results.append((outputs, *torch.autograd.grad(loss, (X, *state, *weights))))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@cells
def test_without_a_way_back_they_keep_the_states_only(cell):
    A, state, W_h, biases, _, _ = passage(cell, (3, 2, 5))
    last, tape = Triton(keep=False).forward(xp, cell, A, state, W_h, *biases)
    expected, expected_tape = bptt.forward(xp, cell, A, state, W_h, *biases)
    torch.testing.assert_close((*last, *tape.new), (*expected, *expected_tape.new))
    assert sum(part.numel() for part in tape.kept) == 0


@cells
def test_what_is_not_a_number_is_not_lost(cell):
    A, state, W_h, biases, _, _ = passage(cell, (2, 2, 3))
    A[0, 1, 0] = float("nan")
    outputs = Triton().forward(xp, cell, A, state, W_h, *biases)[1].new[0]
    assert outputs[0, 1, 0].isnan()
    assert outputs[1, 1].isnan().all()  # through the product
    assert outputs[:, 0].isfinite().all()


def test_other_types_are_refused():
    A, state, W_h, _, _, _ = passage("rnn", (1, 1, 1), torch.float64)
    with pytest.raises(TypeError, match=r"take torch\.float32, these tensors are torch\.float64"):
        Triton().forward(xp, "rnn", A.float(), state, W_h.float())


TRANSLATE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from unrolled.functional.bptt import GATES
from unrolled.kernels.triton import loops
from unrolled.kernels.triton.torch import BLOCKS, KERNELS

for cell, k in KERNELS.items():
    common = {"GATES": len(GATES[cell]), "KEPT": k.kept}
    blocks = BLOCKS._asdict()
    options = {"num_warps": blocks.pop("warps"), "num_stages": blocks.pop("stages")}
    common |= {name.upper(): size for name, size in blocks.items()}
    there = common | {"STEP": k.step, "HAS_CELLS": cell == "lstm"}
    back = common | {"STEP_BACK": k.step_back, "DIRECT": k.direct}
    for loop, constants in (loops.forward, there), (loops.backward, back):
        names, sizes = loop.arg_names, ("T", "B", "N")
        ones = dict.fromkeys([n for n in sizes if n in names], 1)  # Triton makes a 1 a constant
        cases = {"PRECISION": "tf32", "MEET": True}, {"PRECISION": "tf32x3", "MEET": False} | ones
        for case in cases:
            known = constants | case
            types = dict.fromkeys(sizes, "i32") | dict.fromkeys(known, "constexpr")
            types |= {"arrived": "*i32"}
            signature = {name: types.get(name, "*fp32") for name in names}
            places = {(names.index(name),): value for name, value in known.items()}
            source = ASTSource(loop, signature, places)
            target = GPUTarget("cuda", 80, 32)
            code = triton.compile(source, target=target, options=options).asm["ptx"]
            # the matrix units multiply; of a single step, MEET false, nothing flows back further
            assert ("mma.sync" in code) == (loop is loops.forward or case["MEET"])
            assert ("atom" in code) == case["MEET"]
            # a GPU's maximum of a number and NaN is the number, unless told otherwise
            assert ("max.NaN" in code) == (loop is loops.forward and cell == "rnn_relu")
        print(cell, loop.__name__)
"""


def test_the_compiler_translates_them_for_nvidia_without_a_gpu(tmp_path):
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", TRANSLATE],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    expected = [f"{cell} {way}" for cell in bptt.GATES for way in ("forward", "backward")]
    assert done.stdout.splitlines() == expected
