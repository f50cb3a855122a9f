import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import SettingError
from unrolled.processes.place import Place, free_port, place_from_environment

THREE = {
    "RANK": "2",
    "WORLD_SIZE": "3",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "fd00::1",
    "MASTER_PORT": "29500",
}


def test_a_place_is_what_torchrun_sets():
    assert place_from_environment(THREE) == Place(2, 3, 1, "fd00::1", 29500)


@pytest.mark.parametrize(
    "alone", [{}, {"MASTER_PORT": "1"}, {"WORLD_SIZE": "1"}, {**THREE, "WORLD_SIZE": "1"}]
)
def test_one_process_has_no_place(alone):
    assert place_from_environment(alone) is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("RANK", "3", "RANK is '3'; it must be a whole number from 0 to 2"),
        ("RANK", "-1", "RANK is '-1'; it must be a whole number from 0 to 2"),
        ("RANK", None, "RANK is not set; it must be a whole number from 0 to 2"),
        ("WORLD_SIZE", "0", "WORLD_SIZE is '0'; it must be a whole number from 1 to 1048576"),
        ("WORLD_SIZE", None, "WORLD_SIZE is not set; it must be a whole number from 1 to 1048576"),
        ("LOCAL_RANK", "3", "LOCAL_RANK is '3'; it must be a whole number from 0 to 2"),
        ("MASTER_PORT", "0", "MASTER_PORT is '0'; it must be a whole number from 1 to 65534"),
        ("MASTER_PORT", "65535", "is '65535'; it must be a whole number from 1 to 65534"),
        ("MASTER_PORT", "1_000", "MASTER_PORT is '1_000'"),
        ("MASTER_PORT", "9" * 5000, "MASTER_PORT is '999"),
        ("MASTER_PORT", "٣", "MASTER_PORT is '٣'"),
        ("MASTER_ADDR", " ", "MASTER_ADDR is not set; it must be the name or address"),
        ("MASTER_ADDR", None, "MASTER_ADDR is not set"),
    ],
)
def test_nonsense_is_named(name, value, expected):
    given = {**THREE, name: value}
    if value is None:
        del given[name]
    with pytest.raises(SettingError) as error:
        place_from_environment(given)
    assert expected in str(error.value)
    assert len(str(error.value)) < 200


def test_all_mistakes_are_named_at_once():
    with pytest.raises(SettingError) as error:
        place_from_environment({"RANK": "x"})
    names = [line.split()[0] for line in str(error.value).splitlines()]
    assert names == ["WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"]


@given(st.dictionaries(st.sampled_from([*THREE]), st.text(max_size=6) | st.integers().map(str)))
def test_any_environment_is_answered(environment):
    try:
        place = place_from_environment(environment)
    except SettingError:
        return
    assert place is None or 0 <= place.rank < place.size


def test_free_ports_are_free():
    port = free_port(following=2, host="127.0.0.1")
    opened = [socket.create_server(("127.0.0.1", port + each)) for each in range(3)]
    for each in opened:
        each.close()
