"""The arithmetic of turns and tables, under a clock that the test moves."""

import pytest

from unrolled.bench import tables
from unrolled.bench.race import Entrant, Race, run
from unrolled.bench.results import Ratio, result


class Clock:
    """Time that passes only in turns, and who had them."""

    def __init__(self):
        self.now, self.log = 0.0, []

    def entrant(self, name, seconds, **more):
        """Takes so many seconds for a piece of work; the first turns twenty times as long."""

        def ready(count):
            def turn():
                self.log.append((name, count))
                cold = 20 if sum(n == name for n, _ in self.log) < 3 else 1
                self.now += seconds * count * cold

            return turn

        return Entrant(name, name.upper(), lambda: ready, **more)

    def run(self, entrants, rounds=3, seconds=8.0):
        self.race = Race("race", {"B": 2, "T": 3, "V": 4, "threads": 1}, entrants)
        run(self.race, rounds, seconds, clock=lambda: self.now, sleep=lambda s: None)
        return result(self.race)


@pytest.fixture
def clock():
    return Clock()


def two(clock):
    return [
        clock.entrant("a", 0.01, units=100, operations=3e9),
        clock.entrant("b", 0.03, units=100, operations=3e9),
        clock.entrant("mm", 0.002, operations=1e9, is_limit=True),
        clock.entrant("slow", 0.004, operations=1e9, is_limit=True),
    ]


def test_speeds_ratios_and_shares(clock):
    table = clock.run(two(clock))
    a, b = table.rows
    assert (a.name, b.title, table.yardstick) == ("a", "B", "A")
    assert [row.ms for row in table.rows] == pytest.approx([10, 30])
    assert [row.units_per_s for row in table.rows] == pytest.approx([10000, 100 / 0.03])
    assert a.ratio == Ratio(1, 1, 1)
    assert b.ratio.median == pytest.approx(3)
    assert [row.gflop_per_s for row in table.rows] == pytest.approx([300, 100])
    assert [product.gflop_per_s for product in table.products] == pytest.approx([500, 250])
    assert [row.share for row in table.rows] == pytest.approx([0.6, 0.2])


def test_turns_alternate_and_everybody_does_the_same(clock):
    seconds = {"a": 0.2, "b": 0.5, "mm": 0.07}
    table = clock.run([clock.entrant(*of) for of in seconds.items()], rounds=3, seconds=6.16)
    # building, then three pieces each for the time of one, 0.77 s together; four rounds in 6.16 s
    assert table.pieces == 2
    turns = [(name, 1) for name in seconds] + [(name, 1) for name in seconds for _ in range(3)]
    for _ in range(4):  # one of them warms up; before each turn untimed pieces for 0.15 s
        for name in seconds:
            turns += [(name, 1)] * (3 if name == "mm" else 1) + [(name, table.pieces)]
    assert clock.log == turns
    assert all(len(row.seconds) == table.rounds == 3 for row in table.rows)


def test_a_turn_has_at_least_one_piece_and_never_too_many(clock):
    assert clock.run(two(clock), seconds=0.0).pieces == 1
    assert clock.run(two(clock), seconds=1e9).pieces == 64


def test_who_cannot_start_is_named_and_the_rest_goes_on(clock):
    def broken():
        raise RuntimeError("no\n  kernel")

    table = clock.run([Entrant("x", "X", broken), *two(clock)])
    assert table.failed == {"x": "RuntimeError: no kernel"}
    assert table.yardstick == "A"
    assert "failed: x: RuntimeError: no kernel" in tables.text(table)


def test_a_race_without_anybody_has_no_table(clock):
    assert clock.run([]) is None


def test_a_stopped_race_keeps_its_finished_rounds(clock):
    turns = 0

    def ready(count):
        def turn():
            nonlocal turns
            turns += 1
            if turns == 11:  # four to get ready, then two in every round: the third that counts
                raise KeyboardInterrupt
            clock.now += 0.2  # long enough to be warm after one

        return turn

    with pytest.raises(KeyboardInterrupt):
        clock.run([*two(clock), Entrant("stops", "S", lambda: ready)], rounds=9)
    table = result(clock.race)
    assert table.rounds == 2
    assert {len(row.seconds) for row in table.rows} == {2}


def test_the_spread_is_the_middle_half():
    assert Ratio.of([1, 4, 9, 16, 25], [1, 2, 3, 4, 5]) == Ratio(3, 2, 4)
    assert Ratio.of([3], [2]) == Ratio(1.5, 1.5, 1.5)


@pytest.mark.parametrize("width", [24, 30, 44, 60, 80, 120])
def test_the_table_fits_the_terminal(clock, width):
    lines = tables.text(clock.run(two(clock)), width)
    assert max(map(len, lines)) <= width
    (row,) = [line for line in lines if line.startswith("B")]
    assert "3.33" in row  # thousand tokens per second
    assert "3.00" in row  # times as long
    assert ("20%" in row) == (width >= 30)
    assert ("3.00 to 3.00" in row) == (width >= 60)


def test_the_table_of_a_page(clock):
    lines = tables.markdown(clock.run(two(clock)))
    (row,) = [line for line in lines if line.startswith("| B ")]
    assert row == "| B | 30.0 | 3.33 | 3.00 | 3.00 to 3.00 | 20% |"
    assert {line.count("|") for line in lines if line.startswith("|")} == {7}
