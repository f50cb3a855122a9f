"""Fuzz targets: for everything that parses a file or a text of others, a function of its bytes.

A target takes an `UnrolledError` for an answer. Whatever else comes out of it is a finding, and so
is an answer that takes longer than `LONGEST_S`. To add a parser, write a function of bytes and mark
it with ``@target(SEEDS)``: `run_fuzzers.py` and `test_properties.py` find it.
"""

import atexit
import functools
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "report"))
import made_runs

from unrolled.checkpoints import contents, mark
from unrolled.data import (
    digit_sum,
    encodings,
    shard_files,
    text,
    text_cache,
    text_files,
    vocabulary,
)
from unrolled.errors import ParameterError, UnrolledError
from unrolled.experiments import EXPERIMENTS, language_model, settings
from unrolled.experiments import load as load_experiment
from unrolled.locking import LEFT
from unrolled.parameters import as_text, listed, read, to_bytes, untied
from unrolled.parameters.other_files import what_else
from unrolled.processes import messages
from unrolled.processes.arrival import compared
from unrolled.report import page, trackers
from unrolled.report.reading import read_runs
from unrolled.report.spec import Axis, Chart, Heatmap, Mark, Series, Shade
from unrolled.runs.ending import last_step, no_end
from unrolled.telemetry.diagnose import as_text as diagnosis_text
from unrolled.telemetry.diagnose import diagnose, diagnose_run
from unrolled.telemetry.reading import read_telemetry
from unrolled.untrusted import parse_json

LONGEST_S = 5
"""Seconds after which an answer is a finding."""

TARGETS: dict[str, "Target"] = {}


@dataclass(frozen=True)
class Target:
    """A parser, and valid inputs to begin with."""

    parse: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]

    def __call__(self, data: bytes) -> None:
        with suppress(UnrolledError):
            self.parse(data)


def target(seeds: Callable[[], Sequence[bytes]]) -> Callable[..., Callable[[bytes], None]]:
    """Put a function of bytes among the targets, under its own name."""

    def mark(parse: Callable[[bytes], None]) -> Callable[[bytes], None]:
        TARGETS[parse.__name__] = Target(parse, seeds)
        return parse

    return mark


@contextmanager
def no_hang() -> Iterator[None]:
    """Raise a TimeoutError in what takes longer than `LONGEST_S`."""

    def stop(signum, frame):
        raise TimeoutError(f"no answer in {LONGEST_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@functools.cache
def folder() -> Path:
    """A temporary folder of this process, in memory where the system has one there."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="unrolled-fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def written(data: bytes, name: str = "file") -> Path:
    """A file with this content."""
    path = folder() / name
    path.write_bytes(data)
    return path


# run directories


@functools.cache
def whole_run() -> Path:
    """A small language model's run with every file that a run can have."""
    path = made_runs.language_model(folder() / "run", epochs=2, steps_per_epoch=2, num_steps=4)
    line = Series("a", [1, 2], [1.0, None], [0.5, 0.5], [2.0, 2.0])
    axes = Axis("step", "log", (0, None), True), Axis("loss")
    chart = Chart("c", "C", *axes, [line], [Mark("x", 1, "m")], "how", "", [Shade(1, 2, "s")])
    cells = [[0.1, 0.2], [0.3, None]]
    heat = Heatmap("h", "H", *axes, Axis("z"), [1, 2], [1, 2], cells, overlays=[line])
    (path / "charts.json").write_text(json.dumps([chart.as_dict(), heat.as_dict()]))
    (path / "notes.json").write_text(json.dumps({"loss": "was not given"}))
    return path


def diagnosis(run: Path) -> None:
    diagnosis_text(diagnose_run(run), str(run))


@functools.cache
def other_run() -> Path:
    """A run to compare with."""
    return made_runs.language_model(folder() / "other", epochs=2, steps_per_epoch=2, num_steps=4)


def comparison(run: Path) -> None:
    report(run, other_run())


def report(*paths: Path) -> None:
    runs = read_runs(paths)
    drawn, only = page.pictures(runs)
    text = page.render(runs, drawn, only)
    text.encode("utf-8", "backslashreplace")
    assert "<script>x" not in text


def load(run: Path) -> None:
    """What `sample`, `convert`, `export` and `params` do before a framework is needed."""
    directory, config = language_model.open_run(run)
    values = directory.load_model()
    as_text([parameter.as_dict() for parameter in listed(values)])
    found = directory.read_json("vocabulary.json")
    with directory.telling_damage():
        language_model.checked(config, values, found)


def of_run(name: str, *commands: Callable[[Path], None]) -> None:
    """A target for a file of a run: the commands that read it, whatever the one before says."""

    def parse(data: bytes) -> None:
        file = whole_run() / name
        kept = file.read_bytes()
        file.write_bytes(data)
        try:
            for command in commands:
                with suppress(UnrolledError):
                    command(file.parent)
        finally:
            file.write_bytes(kept)

    parse.__name__ = f"run_{name.partition('.')[0]}"
    target(lambda: [(whole_run() / name).read_bytes()])(parse)


# a report holds the diagnosis, and that of one run is a part of a comparison
of_run("config.json", comparison, load)
of_run("environment.json", report)
of_run("summary.json", comparison)
of_run("notes.json", diagnosis)
of_run("charts.json", comparison)
of_run("vocabulary.json", load)
of_run("metrics.jsonl", diagnosis, report)
of_run("telemetry.jsonl", report)
of_run("model.safetensors", load)


@target(lambda: [LEFT, b""])
def run_without_end(data: bytes) -> None:
    """Bytes as the lock, and as the end of a log."""
    path = folder() / "unfinished"
    path.mkdir(exist_ok=True)
    for name, content in (("running.lock", data), ("config.json", b"{}"), ("metrics.jsonl", data)):
        (path / name).write_bytes(content)
    no_end(path)
    last_step(path)


@target(lambda: [(whole_run() / "telemetry.jsonl").read_bytes()])
def telemetry(data: bytes) -> None:
    """Lines of telemetry, to their diagnosis."""
    records, _ = read_telemetry(written(data, "telemetry.jsonl"))
    diagnose(records)


@target(lambda: [(whole_run() / "config.json").read_bytes()])
def config(data: bytes) -> None:
    """``config.json`` as the settings of every experiment."""
    try:
        value = parse_json(data)
    except ValueError:
        return
    for name in EXPERIMENTS:
        with suppress(UnrolledError):
            settings.saved(load_experiment(name).Settings, value if isinstance(value, dict) else {})


@target(lambda: [b"step,loss\n1,0.5\n2,0.25\n"])
def csv(data: bytes) -> None:
    """A table of a tracker that is gone on with."""
    table = trackers.Table(written(data, "table.csv"))
    try:
        table.add({"step": 3, "other": 1.0})
    finally:
        table.close()


# parameters


def weights() -> list[bytes]:
    shared = np.ones((2, 3), np.float32)
    return [
        to_bytes({"a": shared, "b": shared, "c.d": np.arange(4, dtype=np.float16)}),
        to_bytes({}),
        (whole_run() / "model.safetensors").read_bytes(),
        safetensors({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors({"x": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, bytes(2)),
    ]


def safetensors(header: object, content: bytes = b"") -> bytes:
    """A file with this header."""
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + content


@target(weights)
def parameters(data: bytes) -> None:
    """A safetensors file, to its listing."""
    as_text([each.as_dict() for each in listed(untied(*read(written(data))))])


def archives() -> list[bytes]:
    path = folder() / "archive.npz"
    np.savez(path, a=np.ones(2))
    return [path.read_bytes(), b"\x89HDF", b"\x93NUMPY", b"{}", b"\x81\xa1a\x01", b"GGUF"]


@target(archives)
def other_files(data: bytes) -> None:
    """A file of another program, which is only recognised."""
    what_else(written(data))
    with suppress(ParameterError):
        read(written(data))


# texts and data


def texts() -> list[bytes]:
    words = "Über den Fluß — it was so\r\n\nпривет мир, как дела сегодня у вас "
    codecs = ("utf-8", "utf-16", "utf-32", "utf-16-be")
    return [words.encode(codec) for codec in codecs] + [
        "größer als früher, schön und gemütlich".encode("cp1252"),
        "привет мир, как дела сегодня".encode("koi8-r"),
        "日本語の文章です。私は学生です".encode("shift_jis"),
        "日本語の文章です".encode("iso-2022-jp"),
    ]


@target(texts)
def text_file(data: bytes) -> None:
    """A text to train on, read whole and in pieces of 7 bytes, and its vocabulary."""
    path = written(data)
    with suppress(UnrolledError):
        "".join(text.read_pieces(path, 7))
    found = text.read_text(path)
    vocab = vocabulary.Vocab(found)
    assert "".join(vocab.to_tokens(vocab.encode(found))) == found
    _, ids = text_cache.vocabulary_and_ids(text_files.TextFiles(path))
    assert ids.tolist() == vocab.encode(found).tolist()
    text.clean(found)


@functools.cache
def shards() -> tuple[Path, bytes]:
    """A folder of two shards, and its index."""
    path = folder() / "shards"
    path.mkdir()
    pieces = [np.array([1, 2, 1], np.uint8), np.array([2, 3], np.uint8)]
    with patch.object(shard_files, "MOST_IDS", 3):
        shard_files.write_shards(path, pieces, {"a": 2, "b": 2, "c": 1}, {"clean": False})
    return path, (path / shard_files.INDEX).read_bytes()


@target(lambda: [shards()[1]])
def shard_index(data: bytes) -> None:
    """The index of a folder of shards: what it gives can be read, and are ids of its vocabulary."""
    path, _ = shards()
    (path / shard_files.INDEX).write_bytes(data)
    found = shard_files.open_shards(path)
    if found is not None:
        counts, ids = found
        assert len(ids) == sum(counts.values())
        assert len(np.asarray(ids)) == len(ids)


@target(texts)
def encoding(data: bytes) -> None:
    """The encoding of a text, in which it must decode."""
    name = encodings.encoding_of(written(data))
    if name is not None:
        codec = encodings.ENCODINGS[name][0] if name in encodings.ENCODINGS else name
        data.decode(codec)


@target(lambda: [b"1 2 3 4\t3\n5 5 0 1\t10\n"])
def digit_sums(data: bytes) -> None:
    """A data file of digit sums."""
    for sequence, label in digit_sum.load_data(written(data)):
        assert len(sequence) >= 3
        assert 0 <= label < digit_sum.NUM_CLASSES


# what is typed


@target(lambda: [b"lr=0.5\nmax_epochs=3", b"cells=srn,lstm\nlengths=10,20", b"text=none\nclean=no"])
def assignments(data: bytes) -> None:
    """Settings as they are typed, one a line, for every experiment."""
    lines = data.decode(errors="surrogateescape").split("\n")
    for name in EXPERIMENTS:
        with suppress(UnrolledError):
            settings.parse(load_experiment(name).Settings, lines)


# checkpoints


@functools.cache
def packed() -> dict[str, bytes]:
    """The files of a small checkpoint."""
    tree = {
        "step": 3,
        "lr": (0.1, float("nan")),
        "odd": (2**70, "\ud800"),
        "moments": {0: np.zeros(2), 1: np.float32(1)},
    }
    return contents.pack(tree, {"W": np.ones((2, 3), np.float32)})


@target(lambda: [mark.to_mark(1, 0.5, packed())])
def checkpoint_mark(data: bytes) -> None:
    """The completeness mark of a checkpoint's folder, and the files that it names."""
    path = folder() / "step-000001"
    path.mkdir(exist_ok=True)
    (path / mark.COMPLETE).write_bytes(data)
    mark.read_files(path, mark.read_mark(path))


@target(lambda: [packed()[contents.STATE]])
def checkpoint_state(data: bytes) -> None:
    """The JSON of a checkpoint, beside arrays that are as they were written."""
    found = contents.unpack({**packed(), contents.STATE: data})
    assert contents.pack(*contents.unpack(contents.pack(*found))) == contents.pack(*found)


@target(lambda: [packed()[contents.TRAINING], packed()[contents.MODEL]])
def checkpoint_arrays(data: bytes) -> None:
    """The arrays of a checkpoint, in the place of either file."""
    for name in (contents.TRAINING, contents.MODEL):
        with suppress(UnrolledError):
            contents.unpack({**packed(), name: data})


# messages of other processes


def hellos() -> list[bytes]:
    hello = {"rank": 1, "size": 2, "host": "b", "process": 4711, "about": {"numpy": "2.4"}}
    return [messages.encode("hello", hello)[messages.LENGTH :]]


@target(hellos)
def hello(data: bytes) -> None:
    """What somebody says first at the port where processes meet, to what all are told of it."""
    try:
        other = messages.decode_hello(data)
    except ValueError:
        return
    ours = messages.decode_hello(hellos()[0])
    assert "\x1b" not in str(other)
    for line in compared(ours, other):
        assert line.isprintable()
