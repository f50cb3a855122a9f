"""Trees of state: what goes in comes out, bit for bit, and nothing else gets in."""

import json
import math
import struct
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unrolled.checkpoints.tree import MOST_DEPTH, flatten, unflatten
from unrolled.errors import RunError, SettingError

FIXED = settings(derandomize=True, database=None, deadline=None, max_examples=150)
"""The same examples at every run, whatever the machine's speed."""

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]


def assert_same(left, right):
    """Equal in type, dtype, shape, order and bits."""
    assert type(left) is type(right)
    if isinstance(left, (np.ndarray, np.generic)):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert left.tobytes() == right.tobytes()
    elif isinstance(left, dict):
        assert [(type(key), key) for key in left] == [(type(key), key) for key in right]
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, float):
        assert struct.pack("d", left) == struct.pack("d", right)
    else:
        assert left == right


def round_trip(tree):
    """Through JSON, as on a disk."""
    value, arrays = flatten(tree)
    text = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    return unflatten(json.loads(text), arrays)


@st.composite
def arrays(draw):
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    size = math.prod(shape)
    if dtype.kind == "b":
        content = bytes(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))
    else:
        content = draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
    array = np.frombuffer(content, dtype).reshape(shape)
    return draw(st.sampled_from([array, np.asfortranarray(array).reshape(shape), array.T]))


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["$array", "", "a.b", "__metadata__", "\ud800\udc00", "\udc80"])
    | arrays()
    | arrays().filter(lambda array: array.size).map(lambda array: array.flat[0])
)
KEYS = st.text(max_size=3) | st.integers(-5, 2**70) | st.sampled_from(["$int", "\ud800", "a.b"])
TREES = st.recursive(
    LEAVES,
    lambda part: (
        st.lists(part, max_size=4)
        | st.lists(part, max_size=4).map(tuple)
        | st.dictionaries(KEYS, part, max_size=4)
    ),
    max_leaves=12,
)


NUMBERS = (
    *(-0.0, math.nan, -math.nan, math.inf, -math.inf, 5e-324, 1e22, 0.1, 1.0, 2**63, -(2**63)),
    *(True, 1, 10**5000, -(10**5000), struct.unpack("d", b"\x01\0\0\0\0\0\xf8\x7f")[0]),
)


@FIXED
@given(TREES)
@example({"a": NUMBERS})
def test_a_tree_comes_back_bit_for_bit(tree):
    assert_same(round_trip(tree), tree)


def test_an_array_that_is_there_twice_is_kept_once_and_comes_back_as_one():
    array = np.arange(3.0)
    value, arrays = flatten({"a": array, "b": [array], "c": +array})
    assert sorted(arrays) == ["a", "c"]
    tree = unflatten(value, arrays)
    assert tree["b"][0] is tree["a"]
    assert tree["c"] is not tree["a"]


def test_arrays_are_named_by_their_place_and_no_name_is_given_twice():
    one, two, three, four, five = (np.full(2, value) for value in range(5))
    tree = {"a": {"b": one}, "a.b": two, "__metadata__": three, 1: four, "1": five}
    value, arrays = flatten(tree)
    assert list(arrays) == ["a.b", "a.b~2", "__metadata__~2", "1", "1~2"]
    assert_same(unflatten(value, arrays), tree)
    assert_same(round_trip({10**5000: one, "\ud800": two}), {10**5000: one, "\ud800": two})
    assert list(flatten({"optimizer": {"state": {0: {"exp_avg": one}}}})[1]) == [
        "optimizer.state.0.exp_avg"
    ]
    assert list(flatten(one)[1]) == ["state"]


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_small_floats_of_ml_dtypes_keep_every_bit_pattern(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = np.dtype(getattr(ml_dtypes, name))
    bits = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    array = bits.view(dtype)  # NaNs of every kind among them
    tree = {"a": array.reshape(16, -1), "b": array[::3], "c": array[7:8].reshape(()), "d": array[0]}
    assert_same(round_trip(tree), tree)
    assert all(array.dtype.kind == "u" for array in flatten(tree)[1].values())


def test_without_ml_dtypes_bfloat16_is_refused(monkeypatch):
    value, arrays = {"a": {"$array": ["a", "bfloat16"]}}, {"a": np.zeros(2, np.uint16)}
    dtype = np.dtype

    def unknown(name):
        if name == "bfloat16":
            raise TypeError("data type 'bfloat16' not understood")
        return dtype(name)

    monkeypatch.setattr(np, "dtype", unknown)
    with pytest.raises(RunError, match=r"'a' of the state is of type bfloat16.*ml_dtypes"):
        unflatten(value, arrays)


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        pytest.param(object(), "of type object", id="object"),
        ({1}, "of type set"),
        (b"abc", "of type bytes"),
        (OrderedDict(), "of type OrderedDict"),
        (Pair(1, 2), "of type Pair"),
        (1j, "of type complex"),
        (np.ma.array([1.0]), "of type MaskedArray"),
        (np.array(["a"]), "of type ndarray of type <U1"),
        (np.array([None]), "of type ndarray of type object"),
        (np.zeros(1, "f4,i2"), "of type ndarray of type"),
        (np.zeros(1, "V2"), "of type ndarray of type"),
        (np.zeros(1, "M8[s]"), "of type ndarray of type datetime64"),
        (np.zeros(1, np.longdouble), "of type ndarray of type"),
        (np.zeros(1, ">f4" if np.little_endian else "<f4"), "of another byte order"),
        (np.str_("a"), "of type str_ of type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_kept_is_named_with_its_place(part, message):
    with pytest.raises(SettingError) as caught:
        flatten({"optimizer": {"state": {0: [1, {"exp_avg": part}]}}})
    assert "'optimizer.state.0.1.exp_avg' is " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("key", [None, True, 1.0, (1,), np.int64(1), b"a"], ids=repr)
def test_keys_are_str_or_int(key):
    with pytest.raises(SettingError, match=r"a key of 'a' is .*use str or int"):
        flatten({"a": {key: 1}})


def test_trees_are_kept_to_a_depth_and_no_deeper():
    tree, deep = [], []
    for level in range(MOST_DEPTH):
        tree = {5: tree} if level % 2 else (tree,)
    assert_same(round_trip(tree), tree)
    deep.append(deep)
    with pytest.raises(SettingError, match="does it contain itself"):
        flatten({"a": deep})
    value = []
    for _ in range(10**5):
        value = [value]
    with pytest.raises(RunError, match="levels deep"):
        unflatten(value, {})
    value = "a"
    for _ in range(10**5):
        value = {"$dict": [[value, 1]]}
    with pytest.raises(RunError):
        unflatten(value, {})


STORED = {"a": np.zeros(3, np.float32), "s": np.zeros((), np.uint16), "n": np.zeros((2, 2))}


@pytest.mark.parametrize(
    "value",
    [
        {"$array": "a"},
        {"$array": ["a"]},
        {"$array": ["a", 1]},
        {"$array": ["b", "float32"]},
        {"$array": ["a", "float64"]},
        {"$array": ["a", "object"]},
        {"$array": ["a", "O"]},
        {"$array": ["a", "bfloat16"]},
        {"$array": ["a", "complex64"]},
        {"$array": ["s", "complex64"]},
        {"$scalar": ["a", "float32"]},
        {"$tuple": 1},
        {"$tuple": {"a": 1}},
        {"$tuple": [], "a": 1},
        {"$dict": {}},
        {"$dict": [1]},
        {"$dict": [[1, 2, 3]]},
        {"$dict": [[1, 2], [1, 3]]},
        {"$dict": [[[], 2]]},
        {"$dict": [[True, 2]]},
        {"$dict": [[{"$int": "0x" + "f" * 5000}, 2]] * 2},
        {"$int": 1},
        {"$int": "0x"},
        {"$int": "12"},
        {"$int": "0x1_0"},
        {"$int": "0x-1"},
        {"$float": "nan"},
        {"$float": "7ff0"},
        {"$float": "-7ff000000000000"},
        {"$float": " 7ff000000000000"},
        {"$str": "zz"},
        {"$str": "ff"},
        {"$str": "fff"},
        {"$str": None},
        {"$set": []},
        {"$": 1},
        {1: 2},
        math.nan,
        math.inf,
        b"a",
        pytest.param(object(), id="object"),
        (1, 2),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_damaged_state_is_a_run_error(value):
    with pytest.raises(RunError, match=r"the state is damaged: 'x\.0\b"):
        unflatten({"x": [value]}, STORED)


def test_arrays_that_nothing_names_are_a_run_error():
    with pytest.raises(RunError, match="nothing in it names the array 'a' and 2 more"):
        unflatten({"x": 1}, STORED)
