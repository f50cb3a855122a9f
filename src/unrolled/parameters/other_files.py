"""Recognise parameter files of other programs, and say how to convert them.

Nothing of them is read but names inside an archive: no pickle is opened.
"""

import os
from pathlib import Path
from typing import BinaryIO

from unrolled.untrusted import MIB, open_regular

SAVE = "parameters({}).save('new.safetensors')"

TORCH = (
    "a file of torch.save. In PyTorch: model.load_state_dict(torch.load('{path}', "
    f"weights_only=True)), then {SAVE.format('model')}"
)
KERAS = "In Keras: {call}, then " + SAVE.format("model")

KINDS: list[tuple[bytes, str]] = [
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", TORCH),  # before PyTorch 1.6
    (
        b"\x80",
        "a pickle, which can hold code and is not opened here. The program that wrote it can save "
        "its arrays by safetensors.numpy.save_file(arrays, 'new.safetensors')",
    ),
    (b"\x89HDF", "an HDF5 file. " + KERAS.format(call="model.load_weights('{path}')")),
    (
        b"\x12\x01\0\0\0\0\0\0",
        f"a parameter file of MXNet. In MXNet: net.load_parameters('{{path}}'), then "
        f"{SAVE.format('net')}",
    ),
    (
        b"\x93NUMPY",
        "one array of numpy.save, without a name. Give it one: "
        "safetensors.numpy.save_file({{NAME: numpy.load('{path}')}}, 'new.safetensors')",
    ),
    (b"GGUF", "a GGUF file. Convert it to safetensors by the program that wrote it"),
    (b"version https://git-lfs", "a pointer of Git LFS. Fetch the file itself: git lfs pull"),
    (b"{", "a JSON file. Name the safetensors file beside it, or each of its parts in turn"),
    (b"<", "a page of the web or XML. Download the file itself"),
    (b"\x08", "perhaps an ONNX file, whose initializers onnx.numpy_helper.to_array makes arrays"),
]
"""By first bytes: what such a file is, and what to do with it."""

IN_ARCHIVE = [
    ("constants.pkl", "a TorchScript file. In PyTorch: torch.jit.load('{path}').state_dict()"),
    ("data.pkl", TORCH),
    (
        "model.weights.h5",
        "a file of Keras. " + KERAS.format(call="model = keras.saving.load_model('{path}')"),
    ),
    (
        ".npy",
        "a file of numpy.savez. Save its arrays anew: "
        "safetensors.numpy.save_file(dict(numpy.load('{path}')), 'new.safetensors')",
    ),
]
"""By how a name in a ZIP archive ends."""

IN_DIRECTORY = [
    ("model.safetensors", "a directory. Name the file in it: '{path}/model.safetensors'"),
    ("saved_model.pb", "a SavedModel of TensorFlow. Load it there, then " + SAVE.format("model")),
    (
        "_METADATA",
        "a checkpoint of Orbax. In JAX: params = orbax.checkpoint.StandardCheckpointer()"
        f".restore('{{path}}'), then {SAVE.format('params')}",
    ),
]
"""By what a directory holds."""

MSGPACK = (
    "perhaps a msgpack file of Flax. In JAX: params = flax.serialization.msgpack_restore("
    f"open('{{path}}', 'rb').read()), then {SAVE.format('params')}"
)


def what_else(path: Path) -> str | None:
    """What a path is that is no safetensors file, and what to do; None if nothing is known."""
    found = _found(path)
    return found and found.format(path=path)


def _found(path: Path) -> str | None:
    if path.is_dir():
        return _first(IN_DIRECTORY, [entry.name for entry in path.iterdir()])
    if not path.exists():
        checkpoint = path.with_name(path.name + ".index").exists()
        call = "model.load_weights or tf.train.Checkpoint"
        return f"a checkpoint of TensorFlow. {KERAS.format(call=call)}" if checkpoint else None
    with open_regular(path) as file:
        head = file.read(32)
        if head.startswith(b"PK"):
            return _archive(file)
    kind = next((kind for start, kind in KINDS if head.startswith(start)), None)
    is_map = head[:1] in (*(bytes([0x80 + n]) for n in range(1, 16)), b"\xde", b"\xdf")
    return MSGPACK if kind is None and is_map else kind


def _archive(file: BinaryIO) -> str:
    """Say what a ZIP archive is, by the names in its directory at the end of the file.

    The standard library's reader would take memory for whatever sizes a damaged one declares.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - MIB))
    directory = file.read(MIB)
    entries = [entry for entry in directory.split(b"PK\1\2")[1:] if len(entry) >= 42]
    if b"PK\5\6" not in directory:
        return "a damaged ZIP archive. Save or download it again"
    # of each entry 42 bytes of sizes and dates stand before its name, among them its length
    lengths = [int.from_bytes(entry[24:26], "little") for entry in entries]
    names = [e[42 : 42 + n].decode(errors="replace") for e, n in zip(entries, lengths, strict=True)]
    return _first(IN_ARCHIVE, names) or "a ZIP archive. Name a safetensors file"


def _first(kinds: list[tuple[str, str]], names: list[str]) -> str | None:
    return next((kind for end, kind in kinds if any(name.endswith(end) for name in names)), None)
