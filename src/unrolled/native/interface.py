"""The structures of ``interface.h`` for Python, and the shapes of their arrays."""

import ctypes
from typing import Any

CELLS = {"rnn": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}
"""Cells in the order of the C constants, with their numbers of gates."""

PRECISIONS = ("float32", "float64", "bfloat16")

INSTRUCTIONS = ("portable", "avx2", "avx512", "avx512_bf16")

_four = ctypes.c_void_p * 4


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


def _shapes(names: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """The shape of each array by its field's name, from names by shape."""
    return {name: tuple(shape.split()) for shape, all in names.items() for name in all.split()}


class Recurrence(ctypes.Structure):
    """A recurrent layer over T steps, forward and backward."""

    _fields_ = [
        *_fields(ctypes.c_int32, "cell precision instructions threads openmp reserved"),
        *_fields(ctypes.c_int64, "T B H V"),
        ("inputs", _four),
        ("input_stride", ctypes.c_int64),
        ("ids", ctypes.c_void_p),
        ("biases", _four),
        ("W_h", _four),
        *_fields(ctypes.c_void_p, "b_hh h0 c0 outputs cells gates d_outputs d_h d_c"),
        *_fields(ctypes.c_void_p, "D dA dH d_h0 d_c0"),
        *_fields(_four, "dW_h dW_x db"),
        *_fields(ctypes.c_void_p, "db_hh workspace"),
    ]
    shapes = _shapes(
        {
            "T B H": "outputs cells d_outputs dH",
            "T B 4H": "gates",
            "T B GH": "inputs D dA",
            "B H": "h0 c0 d_h d_c d_h0 d_c0",
            "H H": "W_h dW_h",
            "V H": "looked_up dW_x",
            "T B": "ids",
            "H": "biases b_hh db db_hh",
        }
    )
    """``looked_up`` are the ``inputs`` where ids look their rows up."""
    sizes = ("cell", "T", "B", "H", "V", "input_stride")
    per_gate = ("dW_h", "dW_x", "db")


class Product(ctypes.Structure):
    """A matrix product with several right-hand sides."""

    _fields_ = [
        *_fields(ctypes.c_int32, "precision instructions threads openmp transpose_a"),
        *_fields(ctypes.c_int32, "transpose_b groups accumulate"),
        *_fields(ctypes.c_int64, "M N K"),
        ("A_first", ctypes.c_void_p),
        ("split", ctypes.c_int64),
        ("A", ctypes.c_void_p),
        ("A_stride", ctypes.c_int64),
        ("B", _four),
        ("B_stride", ctypes.c_int64),
        ("bias", ctypes.c_void_p),
        ("C", _four),
        ("C_stride", ctypes.c_int64),
        ("workspace", ctypes.c_void_p),
    ]
    shapes = _shapes({"A0 A1": "A", "B0 B1": "B", "N": "bias", "M N": "C"})
    sizes = (
        *("transpose_a", "transpose_b", "groups", "M", "N", "K"),
        *("A_stride", "B_stride", "C_stride"),
    )
    per_gate = ("C",)


class AffineGradients(ctypes.Structure):
    """The backward pass through an affine map."""

    _fields_ = [
        *_fields(ctypes.c_int32, "precision instructions threads openmp"),
        *_fields(ctypes.c_int64, "N D V"),
        *_fields(ctypes.c_void_p, "X W dY dX dW db workspace"),
    ]
    shapes = _shapes({"N D": "X dX", "D V": "W dW", "N V": "dY", "V": "db"})
    sizes = ("N", "D", "V")
    per_gate = ()


class Norms(ctypes.Structure):
    """L2 norms of arrays, or of differences of arrays."""

    _fields_ = [
        *_fields(ctypes.c_int32, "precision instructions threads openmp"),
        ("count", ctypes.c_int64),
        *_fields(ctypes.c_void_p, "a b sizes norms workspace"),
    ]


class LayerNumbers(ctypes.Structure):
    """What telemetry records of a recurrent layer."""

    _fields_ = [
        *_fields(ctypes.c_int32, "precision instructions threads openmp relu reserved"),
        *_fields(ctypes.c_int64, "T B H G"),
        ("limit", ctypes.c_double),
        *_fields(ctypes.c_void_p, "dH D after before first numbers workspace"),
    ]
    shapes = _shapes({"T B H": "dH after before", "T B GH": "D", "B H": "first", "3T+1": "numbers"})
    sizes = ("T", "B", "H", "G")


class LayerWeights(ctypes.Structure):
    """One layer of a language model."""

    _fields_ = [
        *_fields(_four, "W_x W_h biases"),
        ("b_hh", ctypes.c_void_p),
    ]
    shapes = _shapes({"D H": "W_x", "H H": "W_h", "H": "biases b_hh"})


class LanguageModel(ctypes.Structure):
    """A model that reads texts, id by id."""

    _fields_ = [
        *_fields(ctypes.c_int32, "cell precision instructions layers"),
        *_fields(ctypes.c_int64, "H V"),
        ("layer", ctypes.POINTER(LayerWeights)),
        *_fields(ctypes.c_void_p, "W_hq b_q packed"),
    ]
    shapes = _shapes({"H V": "W_hq", "V": "b_q"})


class Text(ctypes.Structure):
    """The next T ids of one text."""

    _fields_ = [
        ("model", ctypes.POINTER(LanguageModel)),
        *_fields(ctypes.c_int32, "threads openmp"),
        *_fields(ctypes.c_int64, "T given"),
        *_fields(ctypes.c_void_p, "ids uniform"),
        ("temperature", ctypes.c_double),
        *_fields(ctypes.c_void_p, "state logits workspace"),
    ]


STRUCTURES: dict[str, Any] = {
    "forward": Recurrence,
    "backward": Recurrence,
    "product": Product,
    "affine_backward": AffineGradients,
    "layer_numbers": LayerNumbers,
}
"""What `unrolled.native.calls.call` fills in, by the name of the function that takes it.

Each has beside its fields the ``shapes`` of its arrays, the names of its ``sizes``, and of the
written arrays those that there are ``per_gate``.
"""

FUNCTIONS: dict[type[ctypes.Structure], tuple[str, ...]] = {
    Recurrence: ("forward", "backward", "forward_workspace", "backward_workspace"),
    Product: ("product", "product_workspace"),
    AffineGradients: ("affine_backward", "affine_backward_workspace"),
    Norms: ("norms", "norms_workspace"),
    LayerNumbers: ("layer_numbers", "layer_numbers_workspace"),
    LayerWeights: (),
    LanguageModel: ("pack", "packed_bytes", "read_workspace", "read_threads"),
    Text: ("read",),
}
"""The structures, and the functions that take them."""


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Tell a loaded library's functions what they take and give."""
    for kind, names in FUNCTIONS.items():
        for name in names:
            function = getattr(library, f"unrolled_{name}")
            function.argtypes = [ctypes.POINTER(kind)]
            size = name.endswith(("workspace", "bytes"))
            function.restype = ctypes.c_int64 if size else ctypes.c_int32
    library.unrolled_message.argtypes = [ctypes.c_int32]
    library.unrolled_message.restype = ctypes.c_char_p
    library.unrolled_has_instructions.argtypes = [ctypes.c_int32]
    library.unrolled_interface_bytes.restype = ctypes.c_int64
    return library


def fits(library: ctypes.CDLL) -> bool:
    """Whether a library was built from the ``interface.h`` that this file describes."""
    return bool(library.unrolled_interface_bytes() == sum(map(ctypes.sizeof, FUNCTIONS)))
