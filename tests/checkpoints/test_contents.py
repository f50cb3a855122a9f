"""A tree and a model as files, and back; what the files of another make of them."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from unrolled.checkpoints.contents import MODEL, STATE, TRAINING, pack, unpack
from unrolled.errors import RunError
from unrolled.parameters import read, untied

W = np.arange(6, dtype=np.float32).reshape(2, 3)
TREE = {"step": 3, "Adam": {0: (W.T, np.float64(0.5), -0.0)}, "flags": np.array([True, False])}


def test_a_tree_and_a_model_come_back():
    tree, model = unpack(pack(TREE, {"b": W, "a": np.zeros(0), "c": np.array(2, np.int64)}))
    assert repr(tree) == repr(TREE)
    assert list(model) == ["b", "a", "c"]
    np.testing.assert_array_equal(model["b"], W)
    assert model["a"].shape == (0,)
    assert model["c"].shape == ()
    for array in (*model.values(), tree["Adam"][0][0], tree["flags"]):
        array[...] = 1  # can be written to


def test_the_model_is_a_file_that_other_programs_read(tmp_path):
    files = pack(TREE, {"out": W, "in": W, "b": W[0]})
    assert sorted(load(files[MODEL])) == ["b", "out"]
    (tmp_path / MODEL).write_bytes(files[MODEL])
    values = untied(*read(tmp_path / MODEL))
    assert values["in"] is values["out"]
    model = unpack(files)[1]
    assert model["in"] is model["out"]


def test_equal_contents_have_equal_bytes():
    copied = {
        "step": 3,
        "Adam": {0: (W.T.copy(), np.float64(0.5), -0.0)},
        "flags": TREE["flags"].copy(),
    }
    assert pack(TREE, {"a": W}) == pack(copied, {"a": np.asfortranarray(W)})


def header(text, content=b""):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return len(text).to_bytes(8, "little") + text + content


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (TRAINING, b""),
        (TRAINING, (2**63).to_bytes(8, "little") + b"{}"),
        (TRAINING, header({"a": ENTRY | {"dtype": "BF16", "data_offsets": [0, 2]}}, b"12")),
        (TRAINING, header({"a": ENTRY | {"dtype": "X"}}, b"1234")),
        (TRAINING, header({"a": ENTRY | {"shape": [2**40, 2**40]}}, b"1234")),
        (TRAINING, save({"other": W})),
        (MODEL, save({"other": W})),
        (STATE, b""),
        (STATE, b"\xff"),
        (STATE, b"NaN"),
        (STATE, b'\xef\xbb\xbf{"model": {}, "state": 1}'),
        (STATE, b'{"model": {}, "state": -Infinity}'),
        (STATE, b'{"model": {}, "state": 1e999}'),
        (STATE, b'{"model": {}, "state": 1, "state": 1}'),
        (STATE, b'{"model": {}, "state": ' + b"1" * 5000 + b"}"),
        (STATE, b'{"model": {}, "state": ' + b"[" * 10**5 + b"]" * 10**5 + b"}"),
        (STATE, b'{"model": {}, "state": 1, "more": 1}'),
        (STATE, b'{"model": [], "state": 1}'),
        (STATE, b'{"model": {"a": 1}, "state": 1}'),
        (STATE, b"[]"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_damaged_files_are_a_run_error(name, content):
    files = pack(1, {}) | {name: content}
    with pytest.raises(RunError, match="damaged"):
        unpack(files)


@pytest.mark.parametrize("name", [MODEL, TRAINING, STATE])
def test_a_missing_file_is_a_run_error(name):
    files = pack(TREE, {"a": W})
    del files[name]
    with pytest.raises(RunError, match=f"{name} is missing"):
        unpack(files)
