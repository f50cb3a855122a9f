import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.training.records import EpochSums, Listener, StepRecord

steps = st.builds(
    StepRecord,
    epoch=st.just(3),
    step=st.integers(1, 10**6),
    loss=st.floats(0, 1e3),
    num_targets=st.integers(1, 1000),
    gradient_norm=st.floats(0, 1e3),
    clipped_norm=st.floats(0, 1),
)


def step(**values):
    defaults = {
        "epoch": 1,
        "step": 1,
        "loss": 1.0,
        "num_targets": 1,
        "gradient_norm": 1.0,
        "clipped_norm": 1.0,
    }
    return StepRecord(**(defaults | values))


def summed(records, val_loss=None, train_s=1.5):
    sums = EpochSums()
    for record in records:
        sums.add(record)
    targets = sum(record.num_targets for record in records)
    return sums.record(3, records[-1].step, val_loss, train_s, targets)


@given(st.lists(steps, min_size=1, max_size=10))
def test_the_loss_is_the_mean_over_all_targets(records):
    losses = [record.loss for record in records for _ in range(record.num_targets)]
    expected = math.fsum(losses) / len(losses)
    assert summed(records).loss == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.lists(steps, min_size=1, max_size=10), st.none() | st.floats(0, 10))
def test_an_epoch_sums_up_its_steps(records, val_loss):
    epoch = summed(records, val_loss)
    assert epoch.epoch == 3
    assert epoch.step == records[-1].step
    assert epoch.val_loss == val_loss
    assert epoch.train_s == 1.5
    assert epoch.num_targets == sum(record.num_targets for record in records)
    assert epoch.targets_per_s == epoch.num_targets / 1.5
    count = len(records)
    norms, clipped = [[getattr(r, k) for r in records] for k in ("gradient_norm", "clipped_norm")]
    assert epoch.gradient_norm == pytest.approx(sum(norms) / count)
    assert epoch.clipped_norm == pytest.approx(sum(clipped) / count)
    assert epoch.gradient_norm_max == max(norms)


@pytest.mark.parametrize("record", [step(), summed([step()])])
def test_records_cannot_be_changed_and_are_plain_data(record):
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.loss = 0.0
    assert type(record)(**dataclasses.asdict(record)) == record


def test_a_listener_need_not_override_anything():
    listener = Listener()
    assert listener.on_fit_start(None) is None
    assert listener.on_gradients(None, {}) is None
    assert listener.on_step(None, step()) is None
    assert listener.on_epoch(None, summed([step()])) is None


def test_a_step_that_is_not_finite_is_counted_and_enters_no_mean():
    good = [step(loss=1.0, num_targets=2), step(loss=4.0, num_targets=1, gradient_norm=3.0)]
    bad = step(loss=math.nan, gradient_norm=math.inf, on_nonfinite="skip")
    epoch = summed([good[0], bad, good[1]])
    alone = summed(good)
    assert epoch.not_finite == 1
    assert (epoch.loss, epoch.gradient_norm, epoch.gradient_norm_max) == (2.0, 2.0, 3.0)
    same = {"not_finite": 0, "timed_targets": alone.timed_targets}
    assert dataclasses.replace(epoch, **same) == alone


def test_an_epoch_of_such_steps_only_has_no_means():
    epoch = summed([step(loss=math.nan, on_nonfinite="rollback")])
    assert epoch.not_finite == 1
    assert math.isnan(epoch.loss)
    assert math.isnan(epoch.gradient_norm)
