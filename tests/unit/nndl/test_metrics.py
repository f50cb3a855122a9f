import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unrolled.errors import DataError
from unrolled.nndl.metrics import Accuracy, Metric


@given(
    st.integers(2, 5).flatmap(
        lambda C: st.integers(1, 20).flatmap(
            lambda N: st.tuples(
                arrays(float, (N, C), elements=st.floats(-9, 9), unique=True),
                arrays(int, N, elements=st.integers(0, C - 1)),
            )
        )
    )
)
def test_accuracy_counts_the_largest_of_each_row(case):
    outputs, labels = case
    pairs = zip(outputs.tolist(), labels, strict=True)
    right = sum(row.index(max(row)) == y for row, y in pairs)
    for shape in (labels, labels[:, None]):
        accuracy = Accuracy()
        accuracy.update(outputs, shape)
        assert accuracy.accumulate() == right / len(labels)


@pytest.mark.parametrize(("is_logist", "threshold"), [(True, 0.0), (False, 0.5)])
def test_one_column_is_two_classes_from_the_threshold_on(is_logist, threshold):
    accuracy = Accuracy(is_logist)
    accuracy.update([[threshold], [threshold - 0.01], [threshold + 0.01]], [1, 0, 1])
    assert accuracy.accumulate() == 1
    accuracy.reset()
    accuracy.update([[threshold - 0.01]], [[1]])
    assert accuracy.accumulate() == 0


def test_minibatches_add_up_by_their_sizes():
    accuracy = Accuracy()
    assert accuracy.accumulate() == 0  # before the first
    accuracy.update(np.eye(3), [0, 1, 2])
    accuracy.update([[1.0, 0.0]], [1])
    assert accuracy.accumulate() == 0.75
    accuracy.reset()
    assert accuracy.accumulate() == 0
    assert accuracy.name() == "Accuracy"


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        (np.zeros(3), np.zeros(3)),
        (np.zeros((3, 2, 2)), np.zeros(3)),
        (np.zeros((3, 0)), np.zeros(3)),
        (np.zeros((3, 2)), np.zeros(2)),
        (np.zeros((3, 2)), np.zeros((3, 2))),
        (np.zeros((3, 1)), np.zeros((1, 3))),
        (np.zeros((3, 2)), np.array(1)),
    ],
)
def test_shapes_that_do_not_fit_are_an_error_and_add_nothing(outputs, labels):
    accuracy = Accuracy()
    accuracy.update([[0.0, 1.0]], [1])
    with pytest.raises(DataError, match="shape"):
        accuracy.update(outputs, labels)
    assert accuracy.accumulate() == 1


def test_a_metric_of_ones_own_must_be_whole():
    for call in (Metric().reset, lambda: Metric().update([], []), Metric().accumulate):
        with pytest.raises(NotImplementedError, match="Metric must define"):
            call()
    assert Metric().name() == "Metric"
