import csv

import pytest

from unrolled.errors import RunError
from unrolled.runs.csv_table import Table


def rows(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def written(file, rows, part=None):
    table = Table(file, part)
    for row in rows:
        table.add(row)
    table.close()
    return file


def test_a_table_grows_by_columns_and_goes_on_where_another_ended(tmp_path):
    file = written(
        tmp_path / "t.csv",
        [{"step": 1, "a": 0.5}, {"step": 2, "a": None, "b": 'with, "quotes"'}],
    )
    written(file, [{"step": 3, "b": 1}])
    assert rows(file) == [
        {"step": "1", "a": "0.5", "b": ""},
        {"step": "2", "a": "", "b": 'with, "quotes"'},
        {"step": "3", "a": "", "b": "1"},
    ]


STRAIGHT = [
    {"step": 1, "gap": None, "a": 0.5},
    {"step": 2, "gap": None, "a": 0.25},
    {"step": 3, "early": 1, "gap": None, "a": 0.125, "late": 4},
    {"step": 4, "gap": None, "a": 1.0},
]


@pytest.mark.parametrize("done", range(5))
def test_steps_that_are_taken_again_leave_the_same_bytes(tmp_path, done):
    straight = written(tmp_path / "straight.csv", STRAIGHT)
    file = written(tmp_path / "t.csv", STRAIGHT)
    table = Table(file)
    then = written(tmp_path / "then.csv", STRAIGHT[:done])
    table.known = then.read_text().split("\n")[0].split(",") if done else []
    table.begin(done + 1)
    table.begin(1)  # the second call does nothing
    kept = rows(file)
    assert [row["step"] for row in kept] == ["1", "2", "3", "4"][:done]
    for row in STRAIGHT[done:]:
        table.add(row)
    table.close()
    assert file.read_bytes() == straight.read_bytes()


def test_only_the_rows_of_its_own_part_are_dropped(tmp_path):
    file = tmp_path / "t.csv"
    for part in ("a", "b"):
        written(file, [{"part": part, "step": step} for step in (1, 2)], part)
    Table(file, "a").begin(2)
    assert [(row["part"], row["step"]) for row in rows(file)] == [
        ("a", "1"),
        ("b", "1"),
        ("b", "2"),
    ]


@pytest.mark.parametrize("torn", ["3,0.", "3", '3,"0.1\r', "x" * 2**18])
def test_a_row_that_was_being_written_when_its_process_died_goes(tmp_path, torn):
    file = written(tmp_path / "t.csv", [{"step": 1, "a": 1}, {"step": 2, "a": 2}])
    whole = file.read_text()
    file.write_text(whole + torn, newline="")
    written(file, [{"step": 3, "a": 3}])
    assert [row["step"] for row in rows(file)] == ["1", "2", "3"]


@pytest.mark.parametrize("content", [b"step\n\xff\n", b'step\n"' + b"x" * 200_000 + b"\n"])
def test_a_damaged_table_is_named_and_stays(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(RunError, match=r"t.csv' is damaged: .*; move it away"):
        Table(tmp_path / "t.csv").add({"step": 1})
    assert (tmp_path / "t.csv").read_bytes() == content
