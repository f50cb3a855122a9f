"""``unrolled bench``: what it shows, keeps and refuses. Nothing here depends on how fast it is."""

import json
import os

import pytest

from installed import FRAMEWORK
from unrolled.bench import competitors, limit, plan, race, threads
from unrolled.bench.competitors import COMPETITORS, Competitor
from unrolled.bench.task import Task, grouped
from unrolled.errors import SettingError
from unrolled.frameworks import FRAMEWORKS, is_installed

TINY = ("--cell", "rnn", "--hiddens", 4, "--batch-size", 2, "--num-steps", 3)
QUICK = (*TINY, "--rounds", 2, "--seconds", 0)
ABSENT = next(name for name in FRAMEWORKS if name != FRAMEWORK)
IT_LEFT = f"{FRAMEWORKS[ABSENT]} is not installed"


def idle(task):
    """A competitor that has nothing to do."""
    return lambda batches: lambda: sum(float(X.sum()) for X, _ in batches) * 0.0


@pytest.fixture
def field(monkeypatch):
    """Two idle competitors and one that is absent; nobody else."""
    entries = (
        Competitor("first", "the first", "does nothing", FRAMEWORK, idle),
        Competitor("second", "the second", "nothing, too", FRAMEWORK, idle),
        Competitor("gone", "gone", "not here", ABSENT, idle),
    )
    field = {competitor.name: competitor for competitor in entries}
    monkeypatch.setattr(competitors, "COMPETITORS", field)
    monkeypatch.setattr(competitors, "is_installed", lambda name: name != ABSENT)
    monkeypatch.setattr(limit, "is_installed", lambda name: False)
    monkeypatch.setattr(race, "SETTLE_S", 0.0)
    monkeypatch.setattr(race, "WARM_S", 0.0)
    return field


def test_the_table_and_the_file(unrolled, field, tmp_path):
    done = unrolled("bench", *QUICK, "--json", "speed.json")
    assert done.code == 0
    assert "RNN, H = 4 (B = 2, T = 3, V = 28;" in done.out
    assert f"absent: gone: {IT_LEFT}" in done.out
    assert f"threads: {threads.available()}" in done.out
    kept = json.loads((tmp_path / "speed.json").read_text())
    (table,) = kept["results"]
    assert [row["name"] for row in table["rows"]] == ["first", "second"]
    assert table["facts"]["H"] == 4
    assert table.keys() == {
        *("title", "facts", "unit", "rounds", "pieces", "yardstick", "rows", "products", "failed")
    }
    assert table["rows"][0]["ratio"]["median"] == 1
    assert all(row["share"] is not None and row["ms"] > 0 for row in table["rows"])
    assert kept["environment"]["threads"] == threads.available()
    assert kept["absent"].keys() == {"gone"}
    assert os.listdir(tmp_path) == ["speed.json"]


def test_tables_for_every_cell_and_size(unrolled, field):
    more = ("--cell", "gru", "--hiddens", 5, "--only", "first", "--markdown")
    done = unrolled("bench", *QUICK, *more)
    titles = [line.partition(" (")[0] for line in done.out.splitlines() if " (B = " in line]
    assert titles == ["**RNN, H = 4", "**RNN, H = 5", "**GRU, H = 4", "**GRU, H = 5"]
    assert "| the first |" in done.out
    assert "|---|" in done.out
    assert "the second" not in done.out


def test_the_sweep_varies_one_size_at_a_time(unrolled, field, monkeypatch):
    monkeypatch.setattr(plan, "SWEEP", {"H": (4, 3), "T": (3, 2), "V": (28, 50)})
    out = unrolled("bench", *QUICK, "--sweep").out
    for line in ("the first: RNN by H", "H = 3", "RNN by T", "T = 2", "RNN by V", "V = 50"):
        assert line in out


def test_the_list_names_everybody(unrolled):
    out = unrolled("bench", "--list").out
    flat = " ".join(out.split())
    for competitor in COMPETITORS.values():
        assert f"\n{competitor.name} " in f"\n{out}"
        if not is_installed(competitor.framework):
            assert f"{FRAMEWORKS[competitor.framework]} is not installed" in flat
    assert ("ABSENT" in out) == any(c.absent() for c in COMPETITORS.values())


def test_ctrl_c_shows_and_keeps_what_was_measured(unrolled, field, tmp_path):
    turns = 0

    def stops(task):
        def turn():
            nonlocal turns
            turns += 1
            if turns > 12:
                raise KeyboardInterrupt
            return 0.0

        return lambda batches: turn

    field["stops"] = Competitor("stops", "stops", "", FRAMEWORK, stops)
    done = unrolled("bench", *TINY, "--rounds", 50, "--seconds", 0, "--json", "speed.json")
    assert done.code == 130
    assert "stopped by Ctrl-C" in done.err
    assert "the second" in done.out
    assert "3 rounds of 1)" in done.out
    assert f"absent: gone: {IT_LEFT}" in done.out
    (table,) = json.loads((tmp_path / "speed.json").read_text())["results"]
    assert table["rounds"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seconds", "nan"], ["'--seconds' is 'nan'"]),
        (["--seconds", "inf"], ["seconds is inf"]),
        (["--threads", 0], ["threads is 0"]),
        (["--cell", "rmn"], ["unknown cell 'rmn'", "did you mean 'rnn'"]),
        (["--only", "secnd"], ["unknown competitor", "did you mean 'second'"]),
        (["--only", "gone"], ["nobody to measure", f"gone: {IT_LEFT}"]),
        (["--hiddens", "0"], ["hiddens is 0", "at least 1"]),
        (["--rounds", "0"], ["rounds is 0"]),
        (["--batch-size", "0"], ["batch_size is 0"]),
        (["--num-steps", "-1"], ["num_steps is -1"]),
        (["--num-steps", "999999"], ["tokens", "num_steps"]),
        (["--threads", "100000"], ["threads is 100000", "cores"]),
        (["--json", "nowhere/speed.json"], ["cannot be written"]),
        (["--json", "."], ["cannot be written"]),
    ],
)
def test_mistakes_are_refused_and_nothing_is_written(unrolled, field, tmp_path, arguments, words):
    unrolled("bench", *QUICK, *arguments).assert_refused(*words)
    assert list(tmp_path.iterdir()) == []


def test_threads_are_fixed_and_given_back():
    cores, variable = threads.available(), os.environ.get("OMP_NUM_THREADS")
    with threads.fixed(1):
        assert os.environ["OMP_NUM_THREADS"] == "1"
        assert threads.available() == 1 or not hasattr(os, "sched_setaffinity")
    assert (threads.available(), os.environ.get("OMP_NUM_THREADS")) == (cores, variable)
    with pytest.raises(SettingError):
        threads.check(0)


def test_operations_and_values_of_a_task():
    for cell, gates in {"rnn": 1, "gru": 3, "lstm": 4}.items():
        task = Task(cell, H=6, B=2, T=3, V=28)
        assert task.operations == 6 * (gates * 36 + 6 * 28) * 6
        assert all(value.all() for value in task.values().values())  # zeros are faster
        deep = Task(cell, H=6, B=2, T=3, V=28, layers=2)
        assert deep.operations - task.operations == 6 * 2 * gates * 36 * 6


def test_minibatches_are_real_text_and_go_on_where_it_ends():
    task = Task(B=2, T=3)
    X, Y = task.first(1)[0]
    assert X.shape == Y.shape == (2, 3)
    assert (X[:, 1:] == Y[:, :-1]).all()
    count = len(task.batches)
    assert task.first(count + 1)[-1] is task.batches[0]
    assert Task(V=16384).batches[0][0].max() > 28


def test_coding_anew_stays_below_the_size():
    ids = Task(B=1, T=100).batches[0][0][0]
    for V in (2, 28, 100, 5000, 10**6):
        coded = grouped(ids, V)
        assert coded.min() >= 0
        assert coded.max() < V
