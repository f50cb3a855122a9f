"""Nearly valid files, logs, settings and command lines: all are answered, by an error at worst.

``UNROLLED_EXAMPLES=10000`` tries so many of each group; `run_fuzzers.py` goes on where this ends,
led by the code that an input reaches.
"""

import copy
import json
import os
import warnings

import click
import command_line
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import TARGETS, no_hang, packed, safetensors, whole_run

from installed import INSTALLED
from unrolled import cli
from unrolled.experiments import EXPERIMENTS, load
from unrolled.experiments.settings import describe

EXAMPLES = int(os.environ.get("UNROLLED_EXAMPLES", "150"))

trying = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def answered(name, data):
    """A target answers these bytes in time, without a warning."""
    with no_hang(), warnings.catch_warnings():
        warnings.simplefilter("error")
        TARGETS[name](data)


# values

ODD = ['"><script>x()', 10**19, -(10**19), 2**53, 10**290, 10**400, -1, 0, 0.5, 1e308, -1e-320,
       float("nan"), float("inf"), float("-inf"), "", "\ud800", "\0", "../../etc/passwd", "a" * 300,
       "<script>", "é\u202e", [], {}, [[]], {"": None}, True, None]  # fmt: skip

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(ODD)
)
values = st.recursive(
    scalars,
    lambda part: (
        st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=5), part, max_size=4)
    ),
    max_leaves=8,
)


def places(value):
    """Every part of a JSON value, as what holds it and where."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@st.composite
def changed(draw, value):
    """A JSON value with one to three of its parts replaced, left out, renamed or doubled."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        every = list(places(value))
        if not every:
            return draw(values)
        holder, key = draw(st.sampled_from(every))
        _, other = draw(st.sampled_from(every))
        how = draw(st.sampled_from(("replace", "replace", "leave out", "move", "double")))
        if how == "replace":
            holder[key] = copy.deepcopy(draw(values))
        elif how == "leave out":
            del holder[key]
        elif how == "move" and isinstance(holder, dict):
            holder[str(other)] = holder.pop(key)
        elif isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
    return value


@st.composite
def damaged(draw, data):
    """Bytes cut, or with some of them others."""
    data = bytearray(data)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 8))
        data[at : at + length] = draw(st.binary(max_size=8))
    return bytes(data[: draw(st.none() | st.integers(0, len(data)))])


def damaged_or_not(texts):
    """Texts as bytes, every fourth damaged."""
    whole = texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
    return st.one_of(whole, whole, whole, whole.flatmap(damaged))


def json_file(name):
    """A file of a run, nearly as it should be."""
    value = json.loads((whole_run() / name).read_bytes())
    return damaged_or_not((changed(value) | values).map(json.dumps))


@st.composite
def lines(draw, name):
    """A log, nearly as it should be."""
    found = [json.loads(line) for line in (whole_run() / name).read_bytes().splitlines()]
    some = draw(st.lists(st.sampled_from(found).flatmap(changed), min_size=1, max_size=6))
    found = draw(st.permutations([*found, *some]))
    return "\n".join(map(json.dumps, found))


@st.composite
def weights(draw):
    """A safetensors file, nearly as it should be."""
    data = (whole_run() / "model.safetensors").read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    small = {
        "a": {
            "dtype": draw(st.sampled_from(("F32", "BF16", "I64", "BOOL", "F8_E4M3", "C64", "F4")))
        },
        "__metadata__": {
            "unrolled": json.dumps(draw(changed({"order": ["a"], "tied": {"b": "a"}})))
        },
    }
    small["a"] |= {"shape": [2, 1], "data_offsets": [0, draw(st.sampled_from((1, 2, 4, 8, 16)))]}
    kind = draw(st.sampled_from(("small", "changed small", "changed")))
    if kind == "small":
        return safetensors(small, bytes(small["a"]["data_offsets"][1]))
    return safetensors(draw(changed(header if kind == "changed" else small)), data[end:])


# groups


@trying
@given(st.data())
def test_configuration(data):
    name = data.draw(st.sampled_from(
        ("config", "environment", "summary", "notes", "charts", "vocabulary")
    ))  # fmt: skip
    content = data.draw(json_file(f"{name}.json"))
    answered(f"run_{name}", content)
    if name == "config":
        answered("config", content)


@trying
@given(weights().flatmap(lambda data: st.just(data) | damaged(data)))
def test_headers(data):
    for name in ("parameters", "run_model", "other_files"):
        answered(name, data)


@trying
@given(st.data())
def test_logs(data):
    name = data.draw(st.sampled_from(("metrics", "telemetry")))
    content = data.draw(damaged_or_not(lines(f"{name}.jsonl")))
    answered(f"run_{name}", content)
    answered("run_without_end", content)
    answered("telemetry", content)


@trying
@given(st.data())
def test_texts_and_tables(data):
    name = data.draw(st.sampled_from(("text_file", "encoding", "digit_sums", "csv", "other_files")))
    seeds = st.sampled_from(TARGETS[name].seeds())
    answered(name, data.draw(seeds.flatmap(damaged) | st.binary()))


@trying
@given(st.data())
def test_shards(data):
    index = json.loads(TARGETS["shard_index"].seeds()[0])
    content = json.dumps(data.draw(changed(index))).encode()
    answered("shard_index", data.draw(st.just(content) | damaged(content)))


@trying
@given(st.data())
def test_checkpoints(data):
    state = json.loads(packed()["state.json"])
    content = json.dumps(data.draw(changed(state))).encode()
    answered("checkpoint_state", data.draw(st.just(content) | damaged(content)))
    name = data.draw(st.sampled_from(("checkpoint_mark", "checkpoint_arrays")))
    answered(name, data.draw(st.sampled_from(TARGETS[name].seeds()).flatmap(damaged)))


@trying
@given(damaged_or_not((changed(json.loads(TARGETS["hello"].seeds()[0])) | values).map(json.dumps)))
def test_hellos(data):
    answered("hello", data)


# what is typed

numbers = (
    st.integers(-2, 5) | st.integers() | st.floats() | st.sampled_from([10**30, 10**4000, 2**31])
)
plain = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), max_size=12)
words = st.sampled_from([
    "true", "none", "rnn", "lstm", "srn,gru", "10,20", "1,000", "1_0", " 3 ", "٣", "1e5", "0x10",
    "nan", "-inf", "", "-", "--", "..", ".", "zero", "drawn", "value", "\udcff", "=", "fast",
    "bfloat16", "%s", "{}",
]) | plain | numbers.map(str)  # fmt: skip
SETTINGS = [name for each in EXPERIMENTS for name, _, _ in describe(load(each).Settings)]
assigned = st.tuples(st.sampled_from(SETTINGS) | plain, words).map("=".join) | words


@trying
@given(st.lists(assigned, max_size=4))
def test_settings(lines):
    answered("assignments", "\n".join(lines).encode("utf-8", "surrogateescape"))


def given_for(parameter):
    """What may be typed for an argument or an option."""
    if parameter.name in ("run", "runs"):
        return st.sampled_from([str(whole_run()), ".", "nowhere"]) | plain
    if parameter.name == "out":
        return st.sampled_from([".", "new", "new/er", str(whole_run())]) | plain
    known = {
        "experiment": list(EXPERIMENTS),
        "framework": [*INSTALLED],
        "log": ["csv", "tensorboard"],
        "cells": ["rnn", "gru", "lstm"],
        "only": ["unrolled", "nn"],
    }.get(parameter.name or "")
    if parameter.name == "assignments":
        return assigned
    return st.sampled_from(known) | words if known else words


@st.composite
def command_lines(draw):
    """A command with some of its options, and sometimes others."""
    name = draw(st.sampled_from(list(cli.cli.commands)))
    arguments = [name]
    for parameter in cli.cli.commands[name].params:
        needed = isinstance(parameter, click.Argument) or parameter.required
        for _ in range(draw(st.sampled_from((1, 1, 1, 0, 2) if needed else (0, 0, 1, 2)))):
            is_flag = getattr(parameter, "is_flag", False)
            option = [] if isinstance(parameter, click.Argument) else [parameter.opts[0]]
            arguments += option + ([] if is_flag else [draw(given_for(parameter))])
    more = draw(st.lists(words | st.sampled_from(["--help", "--version", "--nothing"]), max_size=1))
    return draw(st.sampled_from([arguments + more, arguments, arguments, more]))


@pytest.fixture(scope="module", autouse=True)
def loaded():
    """The framework, which takes longer to load than an answer may."""
    command_line.frameworks.load(command_line.FRAMEWORK)
    command_line.frameworks.load(command_line.FRAMEWORK, "unrolled.nndl")


@trying
@given(command_lines())
def test_command_lines(arguments):
    arguments = [argument.replace("\0", "") for argument in arguments]
    code, output = command_line.run(arguments)
    assert code in (0, 2), output
    assert "Traceback" not in output
