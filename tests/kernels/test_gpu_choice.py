"""The fastest engine is taken, of those that give the right numbers; time is made up here."""

from itertools import count

from unrolled.kernels.gpu import choice


class World:
    """Engines are names; each takes its time, gives its number, or fails."""

    def __init__(self, seconds, numbers=(), failing=()):
        self.seconds, self.numbers, self.failing = seconds, dict(numbers), failing
        self.now, self.ran = 0.0, []

    def run(self, engine):
        if engine in self.failing:
            raise RuntimeError(f"{engine} is not for this machine\nand much more")
        self.ran.append(engine)
        times = self.seconds[engine]
        self.now += next(times) if hasattr(times, "__next__") else times
        return [self.numbers.get(engine, 1.0)]

    def measure(self):
        makers = {name: lambda name=name: name for name in self.seconds}
        return choice.measure(makers, self.run, distance, lambda: self.now)


def distance(expected, found):
    return abs(found[0] - expected[0]) / abs(expected[0])


def test_the_fastest_wins():
    engine, verdict = World({"a": 3, "b": 2, "c": 2.5}).measure()
    assert engine == verdict.winner == "b"
    assert verdict.seconds == {"a": 3, "b": 2, "c": 2.5}
    assert not verdict.dropped


def test_one_slow_run_decides_nothing():
    # the first run is not measured; of the others the median counts
    assert World({"a": 2, "b": iter([9, 1, 1, 50, 1, 1])}).measure()[0] == "b"


def test_an_engine_that_fails_drops_out_and_says_why():
    engine, verdict = World({"a": 1, "b": 2}, failing=["a"]).measure()
    assert engine == "b"
    assert verdict.dropped == {"a": "RuntimeError: a is not for this machine"}


def test_an_engine_that_cannot_be_made_drops_out_too():
    makers = {"a": lambda: int("a"), "b": lambda: "b"}
    _, verdict = choice.measure(makers, lambda engine: [1.0], distance)
    assert (verdict.winner, *verdict.dropped) == ("b", "a")


def test_wrong_numbers_are_not_taken_for_their_speed():
    numbers = {"a": 1.0, "wrong": 1.2, "near": 1.01, "none": float("nan")}
    world = World({"a": 3, "wrong": 1, "near": 2, "none": 1}, numbers)
    engine, verdict = world.measure()
    assert engine == "near"
    assert verdict.dropped == {
        "wrong": "its numbers differ by 2e-01",
        "none": "its numbers differ by nan",
    }


def test_a_much_slower_engine_is_not_run_to_the_end():
    world = World({"slow": 10, "fast": 1})
    world.measure()
    assert world.ran.count("slow") == 2
    assert world.ran.count("fast") == 1 + choice.ROUNDS


def test_where_none_works_it_is_the_first_which_then_tells_the_user():
    engine, verdict = World({"a": 1, "b": 2}, failing=["a", "b"]).measure()
    assert engine == verdict.winner == "a"
    assert str(verdict).startswith("a, unmeasured; not a (RuntimeError: a is not for")


def test_a_problem_is_measured_once_and_others_by_themselves():
    choices, ran = choice.Choices(count().__next__), []
    makers = {"a": lambda: "a", "b": lambda: "b"}

    def run(engine):
        ran.append(engine)
        return [1.0]

    for problem in ("small", "small", "large"):
        assert choices.take(problem, makers, run, distance) == "a"
    assert len(ran) == 2 * 2 * (1 + choice.ROUNDS)
    assert list(choices.verdicts) == ["small", "large"]


def test_there_is_an_end_to_measuring(monkeypatch):
    monkeypatch.setattr(choice, "MOST", 1)
    choices, makers = choice.Choices(), {"a": lambda: "a", "b": lambda: "b"}
    slow_a = World({"a": 2, "b": 1})
    choices = choice.Choices(lambda: slow_a.now)
    assert choices.take("first", makers, slow_a.run, distance) == "b"
    ran = len(slow_a.ran)
    assert choices.take("second", makers, slow_a.run, distance) == "a"
    assert choices.take("first", makers, slow_a.run, distance) == "b"
    assert len(slow_a.ran) == ran
