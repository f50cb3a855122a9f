import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import SettingError
from unrolled.processes.messages import LENGTH, Hello, decode, decode_hello, encode

HELLO = {"rank": 1, "size": 2, "host": "b", "process": 4711, "about": {"numpy": "2.3"}}

trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.text(), part),
    max_leaves=20,
)


@given(trees)
def test_a_message_arrives_as_it_was(tree):
    data = encode("tree", tree)
    assert int.from_bytes(data[:LENGTH], "big") == len(data) - LENGTH
    assert decode(data[LENGTH:]) == ("tree", tree)


@pytest.mark.parametrize("value", [{1, 2}, 10**400, "\ud800", {(1, 2): 3}, b"bytes"])
def test_what_json_cannot_hold_is_refused_where_it_is_given(value):
    with pytest.raises(SettingError, match="other processes cannot be told this tree: "):
        encode("tree", value)


def test_nothing_is_too_deep_for_an_answer():
    deep = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(SettingError, match="cannot be told"):
        encode("tree", deep)


def test_what_is_too_large_is_refused_where_it_is_given():
    with pytest.raises(SettingError, match=r"it has 1,0\d\d bytes; at most 1,000 are expected"):
        encode("tree", "a" * 1000, 1000)


@pytest.mark.parametrize("data", [b"", b"1", b"[]", b"{}", b'{"a":1,"b":2}', b"GET /", b"\xff"])
def test_what_is_no_message_is_a_value_error(data):
    with pytest.raises(ValueError):  # noqa: PT011  # partly in Python's words
        decode(data)


@pytest.mark.parametrize(
    "change",
    [{"rank": "1"}, {"rank": True}, {"rank": 1.0}, {"host": None}, {"about": []}, {"more": 1}],
)
def test_a_hello_is_of_the_right_types_or_none(change):
    assert decode_hello(encode("hello", HELLO)[LENGTH:]) == Hello(**HELLO)
    with pytest.raises(ValueError, match="it is no hello"):
        decode_hello(encode("hello", {**HELLO, **change})[LENGTH:])
    with pytest.raises(ValueError, match="it is no hello"):
        decode_hello(encode("tree", HELLO)[LENGTH:])


def test_a_host_cannot_write_to_the_terminal():
    assert str(Hello(1, 2, "a\x1b[2J", 3, {})) == r"process 1 of 2 (host a\x1b[2J, process 3)"
    assert len(str(Hello(1, 2, "a" * 9999, 3, {}))) < 200
