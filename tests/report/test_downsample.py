import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.report.downsample import Columns, Line

numbers = st.one_of(st.none(), st.just(math.nan), st.floats(-1e6, 1e6))


@given(st.lists(numbers, max_size=200), st.integers(1, 10))
def test_a_line_keeps_extremes_means_and_count_however_it_is_thinned(ys, limit):
    line = Line(limit)
    for x, y in enumerate(ys):
        line.add(x, y)
    series = line.series("y")
    assert len(series.x) <= 2 * limit
    assert list(series.x) == sorted(set(series.x))
    known = [y for y in ys if y is not None and not math.isnan(y)]
    low = [v for v in series.low or series.y if v is not None]
    high = [v for v in series.high or series.y if v is not None]
    assert (low == []) == (known == [])
    if known:
        assert (min(low), max(high)) == (min(known), max(known))
    groups = [ys[i : i + line.width] for i in range(0, len(ys), line.width)]
    assert len(groups) == len(series.x)
    for group, x, y in zip(groups, series.x, series.y, strict=True):
        known = [v for v in group if v is not None and not math.isnan(v)]
        start = groups.index(group) * line.width if groups.count(group) == 1 else None
        assert (y is None) == (not known)
        if start is not None:
            assert x == pytest.approx(start + (len(group) - 1) / 2)
        if len(known) == len(group):
            assert y == pytest.approx(sum(known) / len(known), abs=1e-6)


def test_a_run_taken_up_from_an_earlier_step_replaces_what_came_after():
    line = Line()
    for x, y in ((1, 1.0), (2, 2.0), (3, 3.0), (2, 20.0), (4, 40.0)):
        line.add(x, y)
    series = line.series("y")
    assert (series.x, series.y) == ([1, 2, 4], [1.0, 20.0, 40.0])


@pytest.mark.parametrize("value", ["3", None, [], True, math.inf, 10**400, math.nan])
def test_what_is_no_finite_number_leaves_a_gap(value):
    line, columns = Line(), Columns()
    line.add(1, value)
    columns.add(1, [value, 2.0])
    assert line.series("y").y == [None]
    assert columns.values == [[None, 2.0]]


@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 8))
def test_columns_are_means_of_neighbours(count, limit, rows):
    columns = Columns(limit)
    for x in range(count):
        columns.add(x, [float(x * 10 + row) for row in range(rows)])
    assert len(columns.x) <= 2 * limit
    assert all(len(values) == rows for values in columns.values)
    for x, values in zip(columns.x, columns.values, strict=True):
        assert values == pytest.approx([x * 10 + row for row in range(rows)])


def test_columns_of_different_length_are_averaged_where_both_have_a_value():
    columns = Columns(limit=1)
    for x, values in enumerate(([1.0, 2.0], [3.0], [5.0, 6.0, 7.0])):
        columns.add(x, values)
    assert columns.values[0] == [2.0, 2.0]
    assert columns.values[1] == [5.0, 6.0, 7.0]
