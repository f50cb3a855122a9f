from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import ParameterError, SettingError
from unrolled.experiments.settings import describe, parse, saved, setting


@dataclass(frozen=True)
class Example:
    flag: bool = setting(True, "a flag")
    count: int | None = setting(None, "a count", least=1, most=10**9, shown="as many as there are")
    rate: float = setting(0.1, "a rate", above=0)
    kind: str = setting("a", "a kind", choices=("a", "b"))


@given(st.booleans(), st.integers(1, 10**9), st.floats(1e-9, 1e9))
def test_values_come_back_as_written(flag, count, rate):
    assert parse(
        Example, [f"flag={flag}", f"count={count}", f"rate={rate!r}", "kind=b"]
    ) == Example(flag, count, rate, "b")


@pytest.mark.parametrize("text", ["10,000", "10_000", " 10000 "])
def test_thousands_may_be_separated(text):
    assert parse(Example, [f"count={text}"]).count == 10000


def test_none_is_none_where_allowed():
    assert parse(Example, ["count=none"]).count is None
    with pytest.raises(SettingError, match="not a number"):
        parse(Example, ["rate=none"])


@pytest.mark.parametrize("text", ["true", "Yes", "ON", "1"])
def test_many_words_are_true(text):
    assert parse(Example, [f"flag={text}"]).flag is True


def test_values_may_hold_equal_signs():
    @dataclass(frozen=True)
    class Text:
        text: str = setting("", "a text")

    assert parse(Text, ["text=a=b"]).text == "a=b"


def test_every_mistake_is_in_one_error():
    with pytest.raises(SettingError) as error:
        parse(Example, ["count=1000000001", "rate=0", "kind=c", "flg=1"])
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert lines[0] == "count=1000000001: it must be at most 1,000,000,000"


def test_descriptions_show_how_to_write_the_default():
    assert describe(Example)[0] == ("flag", "true", "a flag")
    assert describe(Example)[1][1] == "as many as there are"


@dataclass(frozen=True)
class Several:
    counts: tuple[int, ...] = setting((1, 2), "counts", least=1)
    kinds: tuple[str, ...] = setting(("a",), "kinds", choices=("a", "b"))


@given(st.lists(st.integers(1, 10**6), min_size=1, unique=True))
def test_several_values_come_back_in_their_order(counts):
    text = " , ".join(map(str, counts))
    assert parse(Several, [f"counts={text}"]).counts == tuple(counts)


def test_range_and_choices_hold_for_each_of_several_values():
    assert parse(Several, ["kinds=b,a"]).kinds == ("b", "a")
    for assignment, told in (
        ("counts=3,0", "at least 1"),
        ("counts=1,,2", "'' is not a whole number"),
        ("counts=2,2", "stands there twice"),
        ("kinds=a,c", "'c' is unknown"),
        ("kinds=", "'' is unknown"),
    ):
        with pytest.raises(SettingError, match=told):
            parse(Several, [assignment])
    assert describe(Several)[0] == ("counts", "1,2", "counts")


@dataclass(frozen=True)
class Sized(Example):
    sizes: tuple[int, ...] = setting((1,), "sizes", least=1)


def test_settings_come_back_from_json():
    config = {"settings": {"flag": False, "count": None, "rate": 2, "sizes": [3, 4]}}
    assert saved(Sized, config) == Sized(False, None, 2, sizes=(3, 4))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (None, "NoneType, no object"),
        ({"flag": 1}, "flag is 1; expected bool"),
        ({"count": "8"}, "count is '8'; expected int or none"),
        ({"count": True}, "count is True"),
        ({"count": 2.5}, "count is 2.5"),
        ({"count": 0}, "count is 0: it must be at least 1"),
        ({"kind": "c"}, "kind is 'c'.*there are: a, b"),
        ({"sizes": 3}, "sizes is 3"),
        ({"sizes": [3, "4"]}, "sizes is '4'"),
        ({"other": 1}, "'other'"),
    ],
)
def test_what_a_damaged_file_says_is_no_setting(settings, told):
    with pytest.raises(ParameterError, match=f"config.json does not hold.*{told}"):
        saved(Sized, {"settings": settings})


@pytest.mark.parametrize("number", ["9" * 31, "9" * 4000, "-" + "9" * 300])
def test_numbers_beyond_every_array_are_refused_in_a_short_message(number):
    with pytest.raises(SettingError, match="at most 30 digits") as error:
        parse(Example, [f"count={number}"])
    assert len(str(error.value)) < 200
    with pytest.raises(ParameterError, match="at most 30 digits"):
        saved(Example, {"settings": {"count": int(number[:200])}})
