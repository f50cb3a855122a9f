import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import SettingError
from unrolled.functional.sampling import draw, greedy, probabilities

# steps of 1/8 make ties frequent
logit_lists = st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=1, max_size=12)


def softmax(xs):
    weights = [math.exp(x) for x in xs]
    return [w / math.fsum(weights) for w in weights]


def most_likely_first(xs):
    return sorted(range(len(xs)), key=lambda i: (-xs[i], i))


def renormalised(xs, kept):
    full = softmax(xs)
    total = math.fsum(full[i] for i in kept)
    return [full[i] / total if i in kept else 0.0 for i in range(len(xs))]


@pytest.mark.parametrize(
    ("logits", "expected"), [([0.1, 2.0, 1.0], 1), ([3.0, 3.0], 0), ([-2.0, -1.0, -1.0], 1)]
)
def test_greedy_takes_the_first_of_the_most_likely(logits, expected):
    choice = greedy(np.array(logits))
    assert choice == expected
    assert type(choice) is int


@given(logit_lists, st.floats(0.1, 10))
def test_temperature_divides_the_logits(xs, temperature):
    expected = softmax([x / temperature for x in xs])
    np.testing.assert_allclose(probabilities(np.array(xs), temperature), expected, rtol=1e-9)


@given(logit_lists, st.integers(1, 15))
def test_top_k_keeps_the_k_most_likely_and_nothing_else(xs, k):
    p = probabilities(np.array(xs), top_k=k)
    kept = set(most_likely_first(xs)[:k])
    assert set(np.flatnonzero(p)) == kept
    np.testing.assert_allclose(p, renormalised(xs, kept), rtol=1e-9)


@given(logit_lists, st.floats(0.01, 0.999))
def test_top_p_keeps_the_fewest_that_reach_p(xs, top_p):
    full = softmax(xs)
    p = probabilities(np.array(xs), top_p=top_p)
    kept = set(np.flatnonzero(p).tolist())
    ranking = most_likely_first(xs)
    assert kept == set(ranking[: len(kept)])
    assert math.fsum(full[i] for i in kept) >= top_p - 1e-9
    assert math.fsum(full[i] for i in ranking[: len(kept) - 1]) < top_p + 1e-9
    np.testing.assert_allclose(p, renormalised(xs, kept), rtol=1e-9)


@given(logit_lists, st.floats(0.1, 10), st.integers(1, 15), st.floats(0.01, 1.0))
def test_probabilities_add_up_to_one_whatever_is_cut(xs, temperature, top_k, top_p):
    p = probabilities(np.array(xs), temperature, top_k, top_p)
    assert (p >= 0).all()
    assert math.fsum(p) == pytest.approx(1.0, abs=1e-12)
    assert p[greedy(np.array(xs))] == p.max()


LOG = np.log([0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize(
    ("logits", "options", "expected"),
    [
        # of the first two, 0.4 is 4/7: 0.5 is reached by it alone, though 0.4 < 0.5
        (LOG, {"top_k": 2, "top_p": 0.5}, [1, 0, 0, 0]),
        (LOG, {"top_p": 0.5}, [4 / 7, 3 / 7, 0, 0]),
        # reached exactly
        (np.log([0.125, 0.5, 0.25, 0.125]), {"top_p": 0.75}, [0, 2 / 3, 1 / 3, 0]),
        *(([0.0, 2.0, 1.0], {"top_p": p}, [0, 1, 0]) for p in (1e-300, 1e-12, 1e-9)),
        ([0.0, -math.log(3), -30.0], {"top_p": 1.0}, [0.75, 0.25, 0.75 * math.exp(-30)]),
        ([1e4, 1e4 + math.log(3), -1e4], {}, [0.25, 0.75, 0]),
        ([1.0, 3.0, 3.0], {"temperature": 0}, [0, 1, 0]),
        ([1.0, 5.0], {"temperature": 1e-308}, [0, 1]),
    ],
)
def test_probabilities_at_the_edges(logits, options, expected):
    given = np.array(logits)
    np.testing.assert_allclose(probabilities(given, **options), expected)
    np.testing.assert_array_equal(given, logits)  # they are not written to


def test_probabilities_are_float64_for_float32_logits():
    p = probabilities(np.array([0.1, 0.2, 0.3], np.float32))
    assert p.dtype == np.float64
    assert math.fsum(p) == pytest.approx(1.0, abs=1e-12)


def test_draws_come_as_often_as_their_probability():
    rng, count = np.random.default_rng(0), 4000
    logits = np.log([0.6, 0.3, 0.1])
    drawn = [draw(logits, rng) for _ in range(count)]
    for token, p in enumerate([0.6, 0.3, 0.1]):
        deviation = math.sqrt(count * p * (1 - p))
        assert abs(drawn.count(token) - count * p) < 4 * deviation


@given(logit_lists, st.integers(0, 1000), st.integers(1, 4))
def test_draws_stay_within_top_k_and_top_p(xs, seed, k):
    rng = np.random.default_rng(seed)
    kept = set(most_likely_first(xs)[:k])
    drawn = {draw(np.array(xs), rng, temperature=5.0, top_k=k) for _ in range(10)}
    assert drawn <= kept
    drawn = {draw(np.log([0.1, 0.5, 0.4]), rng, top_p=0.6) for _ in range(10)}
    assert drawn <= {1, 2}


def test_the_same_seed_gives_the_same_draws():
    first, second = (
        [draw(np.zeros(9), rng) for _ in range(20)]
        for rng in (np.random.default_rng(4), np.random.default_rng(4))
    )
    assert first == second
    assert len(set(first)) > 3


@given(logit_lists, st.integers(0, 100))
def test_temperature_zero_is_greedy(xs, seed):
    logits = np.array(xs)
    assert draw(logits, np.random.default_rng(seed), temperature=0) == greedy(logits)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -1.0}, "temperature is -1.0; it must be 0 or more"),
        ({"temperature": math.nan}, "temperature is nan; it must be 0 or more, and finite"),
        ({"top_k": 0, "top_p": 2}, "top_k is 0; it must be at least 1; top_p is 2; it must be"),
    ],
)
def test_what_means_nothing_is_an_error(options, said):
    with pytest.raises(SettingError, match=said):
        probabilities(np.zeros(3), **options)
