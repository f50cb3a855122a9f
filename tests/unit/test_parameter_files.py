"""Values by name go through a file unchanged, with their order and their ties."""

import json
import pickle
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import save

from unrolled.errors import ParameterError
from unrolled.parameters import listed, read, to_bytes, untied

NAMES = st.text("abW_.0123", min_size=1, max_size=8)
VALUES = st.one_of(
    arrays(np.float32, array_shapes(max_dims=3, max_side=3)),
    arrays(np.float64, array_shapes(max_dims=2, max_side=3)),
)


@given(
    names=st.lists(NAMES, unique=True, max_size=6),
    pool=st.lists(VALUES, min_size=1),
    data=st.data(),
)
def test_values_order_and_ties_come_back(names, pool, data):
    # drawn from a small pool, so that names often share one array
    values = {name: data.draw(st.sampled_from(pool)) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.safetensors"
        path.write_bytes(to_bytes(values))
        assert to_bytes(values) == path.read_bytes()
        kept, tied = read(path)
    assert len(kept) == len({id(value) for value in values.values()})
    assert list(kept) == [p.name for p in listed(values)]
    found = untied(kept, tied)
    assert found.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
        shares = {other for other in names if values[other] is value}
        assert {other for other in names if found[other] is found[name]} == shares


def of_type(kind, values, numbers):
    """A safetensors file, by the format's definition, of an array ``a`` of any type."""
    content = values.tobytes()
    about = {"dtype": kind, "shape": [numbers], "data_offsets": [0, len(content)]}
    header = json.dumps({"a": about}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content


@pytest.mark.parametrize("known", [False, True])  # whether a package is there that knows it
def test_bfloat16_comes_as_the_float32_that_holds_its_numbers(tmp_path, known, monkeypatch):
    if known:
        pytest.importorskip("ml_dtypes")
    else:
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    exact = np.array([1.5, -2.0, 3e38, 1e-30], np.float32).view(np.uint32) & 0xFFFF0000
    (tmp_path / "file").write_bytes(of_type("BF16", (exact >> 16).astype(np.uint16), 4))
    found = read(tmp_path / "file")[0]["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), exact)


def test_a_type_that_nothing_here_knows_is_named(tmp_path):
    (tmp_path / "file").write_bytes(of_type("F8_E8M0", np.zeros(4, np.uint8), 4))
    with pytest.raises(ParameterError, match=r"a is of type F8_E8M0, .* save it as float32"):
        read(tmp_path / "file")


def npz(path):
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3))


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (npz, "a ZIP archive, as torch.save, numpy.savez"),
        (lambda path: path.write_bytes(pickle.dumps(Trap(path.with_name("mark")))), "a pickle"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50)), "an HDF5 file"),
        (lambda path: path.write_bytes(b"\x12\x01" + bytes(300)), "a parameter file of MXNet"),
        (lambda path: path.write_bytes(b"\xff" * 50), "damaged or no safetensors file"),
        (lambda path: path.write_bytes(b""), "damaged or no safetensors file"),
        (lambda path: path.write_bytes(to_bytes({"a": np.ones(9)})[:-1]), "damaged or no"),
        (lambda path: path.mkdir(), "cannot be read: Is a directory"),
        (lambda path: None, "does not exist"),
    ],
)
def test_files_of_other_programs_are_recognised_and_never_run(tmp_path, make, told):
    make(tmp_path / "file")
    with pytest.raises(ParameterError, match=told):
        read(tmp_path / "file")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "about",
    ["[1]", "5", "nonsense", '{"order": 5}', '{"tied": 3}', '{"tied": {"a": []}}', "[" * 10**5],
)
def test_metadata_of_another_shape_is_damage(tmp_path, about):
    (tmp_path / "file").write_bytes(save({"a": np.ones(2)}, metadata={"unrolled": about}))
    with pytest.raises(ParameterError, match="damaged or no safetensors file"):
        read(tmp_path / "file")
