"""Values by name go through a file unchanged, with their order and their ties."""

import json
import os
import pickle
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import save

from unrolled.errors import ParameterError
from unrolled.frameworks import is_installed, load
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
    with pytest.raises(
        ParameterError, match=r"a is of type F8_E8M0, .* save it as float32"
    ) as told:
        read(tmp_path / "file")
    assert "damaged" not in str(told.value)


def zipped(*names):
    def make(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"")

    return make


def folder_of(name):
    def make(path):
        path.mkdir()
        (path / name).touch()

    return make


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def beginning(head):
    return lambda path: path.write_bytes(head + bytes(300))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (zipped("a.npy"), r"numpy.savez. .*save_file\(dict\(numpy.load\('.*file'\)\)"),
        (zipped("a/data.pkl", "a/data/0"), r"torch.save. .*weights_only=True\)\), then param"),
        (zipped("a/data.pkl", "a/constants.pkl"), "TorchScript"),
        (zipped("config.json", "model.weights.h5"), r"Keras. .*keras.saving.load_model\('"),
        (zipped("other"), "a ZIP archive"),
        (beginning(b"PK\x03\x04"), "a damaged ZIP archive"),
        (lambda path: path.write_bytes(pickle.dumps(Trap(path.with_name("mark")))), "a pickle"),
        (beginning(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."), "a file of torch.save"),
        (beginning(b"\x89HDF\r\n\x1a\n"), r"an HDF5 file. .*model.load_weights\("),
        (beginning(b"\x12\x01"), r"a parameter file of MXNet. .*net.load_parameters\("),
        (beginning(b"\x93NUMPY"), "one array"),
        (beginning(b"\x81\xa6params"), r"msgpack file of Flax. .*msgpack_restore\("),
        (beginning(b"\x08\x08\x12"), "perhaps an ONNX file"),
        (beginning(b'{"weight_map"'), "a JSON file. Name the safetensors file beside it"),
        (beginning(b"version https://git-lfs.github.com"), "git lfs pull"),
        (folder_of("model.safetensors"), "Name the file in it: '.*file/model.safetensors'"),
        (folder_of("_METADATA"), "Orbax"),
        (lambda path: path.with_name("file.index").touch(), "a checkpoint of TensorFlow"),
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


@pytest.mark.skipif(not is_installed("torch"), reason="PyTorch writes the files")
class TestFilesOfSafetensorsOwnFunctions:
    def model(self):
        import torch

        model = torch.nn.ModuleDict(
            {"embed": torch.nn.Embedding(5, 4), "rnn": torch.nn.GRU(4, 4, bias=False)}
        )
        model["out"] = torch.nn.Linear(4, 5)
        model["out"].weight = model["embed"].weight
        return model, load("torch").parameters(model)

    @pytest.mark.parametrize("how", ["save_model", "without the tied one", "apart"])
    def test_what_is_tied_may_be_written_once(self, tmp_path, how):
        import safetensors.torch

        model, _ = self.model()
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if how == "save_model":  # which notes what it leaves out
            safetensors.torch.save_model(model, tmp_path / "file")
            assert len(read(tmp_path / "file")[1]) == 1
        elif how == "apart":
            safetensors.torch.save_file(state, tmp_path / "file")
        else:
            del state["out.weight"]
            safetensors.torch.save_file(state, tmp_path / "file")
        other, parameters = self.model()
        parameters.load(tmp_path / "file")
        for name, tensor in other.state_dict().items():
            np.testing.assert_array_equal(tensor, model.state_dict()[name])
        assert parameters["out.weight"].places == ("embed.weight", "out.weight")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda name: f"module.{name}", "begin with 'module.'.*save the model inside"),
            (lambda name: "W_hq" if name == "out.bias" else name, "model.import_parameters"),
        ],
    )
    def test_names_that_do_not_fit_come_with_the_way_on(self, tmp_path, change, told):
        model, parameters = self.model()
        values = {change(n): t.detach().numpy() for n, t in model.state_dict().items()}
        (tmp_path / "file").write_bytes(to_bytes(values))
        with pytest.raises(ParameterError, match=told):
            parameters.load(tmp_path / "file")

    def test_buffers_are_named(self, tmp_path):
        import torch

        model = torch.nn.BatchNorm1d(3)
        values = {name: t.numpy() for name, t in model.state_dict().items()}
        (tmp_path / "file").write_bytes(to_bytes(values))
        with pytest.raises(ParameterError, match=r"running_mean: un(.|\n)*load_state_dict"):
            load("torch").parameters(model).load(tmp_path / "file")


def with_header(path, size, content=b""):
    path.write_bytes(size.to_bytes(8, "little") + content)
    return path


def test_sizes_that_a_header_declares_are_checked_before_memory_is_taken(tmp_path):
    file = with_header(tmp_path / "file", 2**26)
    os.truncate(file, 2**27)
    with pytest.raises(ParameterError, match="its header has 67,108,864 bytes; at most 16,777,216"):
        read(file)
    os.truncate(file, 2**43)
    with_header(tmp_path / "small", 2**62, b"{}")
    for name, told in (("file", "."), ("small", "damaged or no safetensors file")):
        with pytest.raises(ParameterError, match=told):
            read(tmp_path / name)


def test_a_file_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(to_bytes({"a": np.ones(9)}))
    monkeypatch.setattr("unrolled.parameters.files.memory", lambda: 50)
    with pytest.raises(ParameterError, match=r"this machine has .* of memory; read it on a larger"):
        read(file)
    monkeypatch.setattr("unrolled.parameters.files.memory", lambda: None)
    assert read(file)[0]["a"].size == 9


def test_a_pipe_is_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ParameterError, match="it is a pipe or a device"):
        read(tmp_path / "pipe")


def test_many_names_in_the_metadata_take_no_time_each(tmp_path):
    count = 30_000
    names = {f"a{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(count)}
    metadata = {f"b{i}": f"a{i}" for i in range(count)}
    header = json.dumps({"__metadata__": metadata, **names}).encode()
    values, tied = read(with_header(tmp_path / "file", len(header), header))
    assert len(values) == len(tied) == count
