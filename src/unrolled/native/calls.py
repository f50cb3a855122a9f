"""Call the native kernels on NumPy arrays and PyTorch tensors; record calls for XLA.

``interface.h`` says of every array what it holds and what it is when left out; the types and
shapes are in ``interface.py``. Where gates have arrays of their own, sequences of G are given.
"""

import ctypes
import math
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from unrolled.errors import did_you_mean
from unrolled.native.interface import CELLS, PRECISIONS, STRUCTURES, Norms
from unrolled.native.loading import in_use, loaded


def forward(
    cell: str,
    inputs: Any | Sequence[Any],
    W_h: Sequence[Any],
    outputs: Any,
    *,
    ids: Any = None,
    precision: str = "",
    threads: int = 1,
    **arrays: Any,
) -> None:
    """Carry a cell over all steps.

    Args:
        cell: ``"rnn"``, ``"rnn_relu"``, ``"gru"`` (reset after the product) or ``"lstm"``.
        inputs: what the input contributes, ``X_t W_x``: one array ``(T, B, G H)``, or with
            ``ids`` the weights ``W_x`` themselves, G arrays ``(V, H)``, whose rows are
            looked up inside the step.
        W_h: G arrays ``(H, H)``.
        outputs: written, hidden states ``(T, B, H)``.
        ids: ``(T, B)``, int64.
        precision: that of the arrays by default; ``"bfloat16"`` takes float32 arrays and
            multiplies in bfloat16 with sums in float32.
        threads: from 1 up.
        arrays: ``biases``, ``b_hh``, ``h0``, ``c0``, and what is written beside the outputs:
            ``cells``, which the LSTM needs, and ``gates``, which `backward` needs.

    Raises:
        ValueError: an array of another shape or type, not contiguous, or an id out of range.
    """
    table = None if ids is None else inputs
    sizes = recurrence_sizes(cell, outputs.shape, W_h, table)
    arrays |= {"inputs": inputs} if table is None else {"looked_up": table, "ids": ids}
    reads = {"W_h": W_h, "outputs": outputs, **arrays}
    call("forward", outputs, sizes, reads, precision=precision, threads=threads)


def backward(
    cell: str,
    W_h: Sequence[Any],
    outputs: Any,
    D: Any,
    *,
    dW_x: Sequence[Any] = (),
    ids: Any = None,
    precision: str = "",
    threads: int = 1,
    **arrays: Any,
) -> None:
    """Gradients through time, given those of a loss with respect to the outputs.

    Args:
        cell, W_h, outputs: as given to and written by `forward`.
        D: written, ``(T, B, G H)``, gradient at the recurrent product ``H_{t-1} W_h`` of each
            step. For the LSTM it may be the array ``gates`` itself, which is then gone.
        dW_x: written if given, G arrays ``(V, H)``, of the rows that were looked up.
        ids: ``(T, B)``, int64, what `forward` looked up; needed for ``dW_x``.
        precision, threads: as given to `forward`.
        arrays: ``h0``, ``c0``, ``cells``, ``gates`` as for `forward`; the gradients ``d_outputs``,
            ``d_h`` and ``d_c`` of the last states; and what is written if given: ``dA``, which
            the GRU needs, ``dH``, ``d_h0``, ``d_c0``, ``dW_h``, ``db``, ``db_hh``.

    Raises:
        ValueError: as `forward`.
    """
    sizes = recurrence_sizes(cell, outputs.shape, W_h, dW_x)
    if dW_x:
        arrays |= {"dW_x": dW_x, "ids": ids}
    reads = {"W_h": W_h, "outputs": outputs, "D": D, **arrays}
    call("backward", outputs, sizes, reads, precision=precision, threads=threads)


def recurrence_sizes(
    cell: str, shape: Sequence[int], W_h: Sequence[Any], table: Sequence[Any] | None = None
) -> dict[str, int]:
    """The sizes of a `call`'s arrays."""
    if cell not in CELLS:
        raise ValueError(f"unknown cell '{cell}': {did_you_mean(cell, CELLS)}")
    (T, B, H), G = shape, CELLS[cell]
    if len(W_h) != G:
        raise ValueError(f"{cell} has {G} recurrent weights, not {len(W_h)}")
    number, V = [*CELLS].index(cell), table[0].shape[0] if table else 0
    sizes = {"cell": number, "T": T, "B": B, "H": H, "V": V}
    return sizes | {"G": G, "4H": 4 * H, "GH": G * H, "input_stride": H if table else G * H}


def product(
    A: Any,
    B: Any,
    C: Any,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: Any = None,
    accumulate: bool = False,
    precision: str = "",
    threads: int = 1,
) -> None:
    """Matrix product ``C = A B``, ``C = A B + bias``, or with ``accumulate`` ``C += A B``.

    Example:
        >>> import numpy as np
        >>> from unrolled.native import available
        >>> A, B, C = np.eye(3) * 2, np.ones((3, 4)), np.empty((3, 4))
        >>> if available()[0]:
        ...     product(A, B, C)
        ... else:
        ...     C[:] = A @ B
        >>> C[0]
        array([2., 2., 2., 2.])
    """
    sizes = product_sizes(A.shape, B.shape, transpose_a, transpose_b)
    reads = {"A": A, "B": [B], "bias": bias, "C": [C]}
    call("product", C, sizes, reads, precision=precision, threads=threads, accumulate=accumulate)


def product_sizes(
    A: Sequence[int], B: Sequence[int], transpose_a: bool = False, transpose_b: bool = False
) -> dict[str, int]:
    """The sizes of a `call`'s arrays, from the shapes of A and B as they are given."""
    K, M = A if transpose_a else (A[1], A[0])
    N = B[0] if transpose_b else B[1]
    return {
        "M": M,
        "N": N,
        "K": K,
        "G": 1,
        "groups": 1,
        "transpose_a": transpose_a,
        "transpose_b": transpose_b,
        "A_stride": A[1],
        "B_stride": B[1],
        "C_stride": N,
        "A0": K if transpose_a else M,
        "A1": M if transpose_a else K,
        "B0": N if transpose_b else K,
        "B1": K if transpose_b else N,
    }


def norms(arrays: Sequence[Any], out: Any, minus: Sequence[Any] = (), *, threads: int = 1) -> None:
    """L2 norms of arrays, or of differences ``||a - b||``; squares summed in float64."""
    like, count = arrays[0] if arrays else out, len(arrays)
    type = name_of(like.dtype)
    addresses, others, sizes = array("Q"), array("Q"), array("q")
    for x in arrays:
        addresses.append(address(x, x.shape, type))
        sizes.append(math.prod(x.shape))
    for x, y in zip(arrays, minus, strict=True) if minus else ():
        others.append(address(y, x.shape, type))
    structure = Norms(
        precision=precision_of("", type),
        instructions=in_use(),
        threads=threads,
        openmp=is_tensor(like),
        count=count,
        a=addresses.buffer_info()[0],
        b=others.buffer_info()[0] if minus else None,
        sizes=sizes.buffer_info()[0],
        norms=address(out, (count,), "float64"),
    )
    run("norms", structure)


def layer_numbers(
    dH: Any,
    D: Any,
    after: Any,
    out: Any,
    *,
    limit: float,
    relu: bool = False,
    before: Any = None,
    first: Any = None,
    threads: int = 1,
) -> None:
    """The numbers of `unrolled.telemetry.through_time.layer_numbers`.

    Args:
        dH: total gradient of every hidden state, ``(T, B, H)``.
        D: gradient at the recurrent products, ``(T, B, G H)``.
        after: hidden states, ``(T, B, H)``.
        out: written, ``(3 T + 1,)``.
        limit: a unit is saturated if ``|h|`` is above it; a ReLU's is unless ``h`` is.
        relu: whether the units are ReLU's.
        before: hidden states before every step, ``(T, B, H)``; by default ``first``, followed
            by all of ``after`` but the last.
        first: the state before the first step, ``(B, H)``; zeros by default.
        threads: as in `unrolled.native.forward`.

    Raises:
        ValueError: an array of another shape or type, or not contiguous.
    """
    (T, B, H), G = after.shape, D.shape[-1] // after.shape[-1]
    sizes = {"T": T, "B": B, "H": H, "G": G, "GH": G * H, "3T+1": 3 * T + 1}
    reads = {"dH": dH, "D": D, "after": after, "before": before, "first": first, "numbers": out}
    call("layer_numbers", after, sizes, reads, threads=threads, limit=limit, relu=relu)


@cache
def name_of(dtype: Any) -> str:
    """The name of a type, which NumPy and PyTorch spell alike: ``"float32"``, ``"int64"``."""
    return str(dtype).removeprefix("torch.")


def precision_of(asked: str, type: str) -> int:
    """The number of a call's precision: that of its arrays, or bfloat16 for float32 arrays."""
    if type not in ("float32", "float64") or (asked == "bfloat16" and type != "float32"):
        raise ValueError(
            f"arrays of {type} for precision '{asked or type}': give float32 or float64"
        )
    return PRECISIONS.index("bfloat16" if asked == "bfloat16" else type)


def call(
    function: str,
    like: Any,
    sizes: Mapping[str, int],
    reads: Mapping[str, Any],
    writes: Sequence[str] = (),
    empty: Callable[[tuple[int, ...], Any], Any] | None = None,
    *,
    threads: int = 1,
    precision: str = "",
    **fields: Any,
) -> dict[str, Any]:
    """Call a function of the library.

    Args:
        function: its name, ``"forward"``.
        like: an array of the type that all must have.
        sizes: by the names of the structure's fields and the letters of its ``shapes``.
        reads: arrays by the names of fields, sequences where there is one for each gate; also
            those that are written to.
        writes: fields for which to make arrays, by ``empty(shape, like)``.
        threads, precision: see `forward`.
        fields: further ones of the structure.

    Returns:
        The arrays made, by the names of ``writes``.
    """
    kind, type = STRUCTURES[function], name_of(like.dtype)
    structure = kind(
        precision=precision_of(precision, type),
        instructions=in_use(),
        threads=threads,
        openmp=is_tensor(like),
        **fields,
    )
    for name in kind.sizes:
        setattr(structure, name, sizes[name])
    fill(structure, type, sizes, reads)
    made: dict[str, Any] = {}
    for name, shape in shapes(function, sizes, writes).items():
        assert empty is not None
        if isinstance(shape, list):
            made[name], pointers = [], getattr(structure, name)
            for g, each in enumerate(shape):
                part = empty(each, like)
                made[name].append(part)
                pointers[g] = start_of(part)
        else:
            made[name] = empty(shape, like)
            setattr(structure, name, start_of(made[name]))
    run(function, structure)
    return made


def is_tensor(array: Any) -> bool:
    """Return whether an array is PyTorch's, not NumPy's."""
    return hasattr(array, "data_ptr")


def start_of(array: Any) -> int:
    """Return the address of an array's first number."""
    start: int = array.data_ptr() if is_tensor(array) else array.__array_interface__["data"][0]
    return start


def shapes(
    function: str, sizes: Mapping[str, int], names: Sequence[str]
) -> dict[str, tuple[int, ...] | list[tuple[int, ...]]]:
    """The shapes of a function's arrays, lists where there is one for each gate.

    Example:
        >>> shapes("backward", {"T": 3, "B": 2, "H": 5, "GH": 15, "G": 3}, ["D", "db"])
        {'D': (3, 2, 15), 'db': [(5,), (5,), (5,)]}
    """
    kind = STRUCTURES[function]
    found: dict[str, tuple[int, ...] | list[tuple[int, ...]]] = {}
    for name in names:
        shape = tuple(map(sizes.__getitem__, kind.shapes[name]))
        found[name] = [shape] * sizes["G"] if name in kind.per_gate else shape
    return found


def address(array: Any, shape: tuple[int, ...], type: str) -> int:
    """Return where an array's numbers start; check its shape, type and strides."""
    tensor = hasattr(array, "data_ptr")
    contiguous = array.is_contiguous() if tensor else array.flags.c_contiguous
    if array.shape != shape or name_of(array.dtype) != type or not contiguous:
        layout = "" if contiguous else ", not contiguous"
        raise ValueError(
            f"expected a contiguous array {tuple(shape)} of {type}, "
            f"got {tuple(array.shape)} of {name_of(array.dtype)}{layout}"
        )
    place: int = array.data_ptr() if tensor else array.__array_interface__["data"][0]
    return place


def fill(structure: Any, type: str, sizes: Mapping[str, int], arrays: Mapping[str, Any]) -> None:
    """Write the addresses of arrays into a structure; arguments as of `call`."""
    for name, given in arrays.items():
        if given is None:
            continue
        shape = tuple(map(sizes.__getitem__, structure.shapes[name]))
        if name == "inputs":  # the gates side by side: where each begins
            first, gate = address(given, shape, type), sizes["H"] * given.dtype.itemsize
            for g in range(sizes["G"]):
                structure.inputs[g] = first + g * gate
        elif isinstance(given, (list, tuple)):
            pointers = structure.inputs if name == "looked_up" else getattr(structure, name)
            for g, part in enumerate(given):
                pointers[g] = None if part is None else address(part, shape, type)
        else:
            setattr(structure, name, address(given, shape, "int64" if name == "ids" else type))


Call = tuple[str, Any, int]
"""A call of the library: its name, its structure, and bytes of scratch memory."""

_recorded: ContextVar[list[Call] | None] = ContextVar("recorded", default=None)


@contextmanager
def recording() -> Iterator[list[Call]]:
    """Collect the calls made inside it in a list instead of making them."""
    calls: list[Call] = []
    token = _recorded.set(calls)
    try:
        yield calls
    finally:
        _recorded.reset(token)


_scratch = threading.local()
"""Scratch memory of each thread. It is kept: new pages at every call would cost more than some
of the products."""


def run(function: str, structure: Any) -> None:
    """Call a function of the library, with the scratch memory that another one says it needs."""
    if structure.threads < 1:
        raise ValueError(f"threads={structure.threads}: at least 1 is needed")
    library, name, argument = loaded(), f"unrolled_{function}", ctypes.byref(structure)
    bytes = getattr(library, f"{name}_workspace")(argument)
    recorded = _recorded.get()
    if recorded is not None and bytes >= 0:
        recorded.append((name, structure, bytes))
        return
    if bytes > 0:  # below 0 there is none for such sizes, and the function says what is wrong
        if bytes > getattr(_scratch, "bytes", 0):
            _scratch.memory, _scratch.bytes = ctypes.create_string_buffer(bytes), bytes
        structure.workspace = ctypes.addressof(_scratch.memory)
    check(getattr(library, name)(argument))


def check(error: int) -> None:
    """Raise the error that a function of the library returned, if it did."""
    if error:
        raise ValueError(loaded().unrolled_message(error).decode())
