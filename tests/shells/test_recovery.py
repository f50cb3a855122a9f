"""Minibatches that are skipped or rolled back, beside a training that never sees them."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from recorder import Recorder

from installed import INSTALLED
from unrolled.errors import NotFiniteError, ResumeError, SettingError
from unrolled.frameworks import load
from unrolled.training.recovery import MOST_ROLLBACKS, MOST_SKIPPED

V, H, B, T = 6, 5, 3, 4


@pytest.fixture(params=INSTALLED)
def u(request: pytest.FixtureRequest) -> Any:
    return load(request.param)


class Loader(list[Any]):
    """Minibatches, which continue each other."""

    continues = True


def data_of(batches: Any) -> Any:
    """A data module without validation."""
    return SimpleNamespace(
        train_dataloader=lambda: Loader(batches), val_dataloader=lambda: None, hparams={}
    )


def points(u: Any, count: int, bad: tuple[int, ...] = ()) -> list[Any]:
    """Minibatches of a regression; inputs of some, by number from 1, are NaN."""
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(4, 2)), rng.normal(size=(4, 1))) for _ in range(count)]
    for number in bad:
        batches[number - 1][0][1, 0] = math.nan
    return [tuple(u.backend.asarray(a.astype(np.float32)) for a in batch) for batch in batches]


def texts(u: Any, count: int, size: int = V) -> list[Any]:
    """Minibatches of ids and those that follow."""
    ids = np.random.default_rng(1).integers(0, size, (B, count * T + 1))
    return [
        tuple(u.backend.asarray(ids[:, t + k : t + k + T]) for k in (0, 1))
        for t in range(0, count * T, T)
    ]


def spoiling(u: Any, *bad: int, stop_after: int = 0) -> Any:
    """A trainer in whose steps of these numbers everything computed is NaN."""

    class Spoiling(u.Trainer):  # type: ignore[misc,name-defined]
        def backward(self, batch: Any, state: Any, traced: bool = False) -> Any:
            (loss, after), gradients, through = super().backward(batch, state, traced)
            step = self.train_batch_idx + 1
            if step == stop_after:
                self.stop()
            if step in bad:
                loss = loss * math.nan
                after = None if after is None else spoiled(after)
                gradients = {name: g * math.nan for name, g in gradients.items()}
            return (loss, after), gradients, through

    return Spoiling


def leaping(u: Any, leap: int) -> Any:
    """A trainer whose step of this number makes the weights infinite."""

    class Leaping(u.Trainer):  # type: ignore[misc,name-defined]
        def step(self, gradients: Any) -> None:
            factor = 1e30 if self.train_batch_idx + 1 == leap else 1
            super().step({name: g * factor * factor for name, g in gradients.items()})

    return Leaping


def spoiled(state: Any) -> Any:
    if isinstance(state, (tuple, list)):
        return type(state)(map(spoiled, state))
    return state * math.nan


def with_adam(u: Any) -> Any:
    """A regression whose optimizer has a state."""
    model = u.LinearRegressionScratch(2, lr=0.1, seed=0)
    if u.backend.name == "torch":
        import torch

        make = lambda: torch.optim.Adam([model.w, model.b], 0.1)  # noqa: E731
    elif u.backend.name == "jax":
        import optax

        make = lambda: optax.adam(0.1)  # noqa: E731
    elif u.backend.name == "tensorflow":
        import keras

        make = lambda: keras.optimizers.Adam(0.1)  # noqa: E731
    else:
        from mxnet import gluon

        make = lambda: gluon.Trainer(model.collect_params(), "adam", {"learning_rate": 0.1})  # noqa: E731
    object.__setattr__(model, "configure_optimizers", make)
    return model


def values(trainer: Any) -> dict[str, Any]:
    found = trainer.bound_model.export_parameters()
    return {name: np.array(value) for name, value in found.items()}


def fitted(trainer: Any, model: Any, batches: Any, **options: Any) -> dict[str, Any]:
    trainer.fit(model, data_of(batches), **options)
    return values(trainer)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


# Skip


def test_a_skipped_minibatch_leaves_no_trace(u: Any) -> None:
    lr, recorder = 0.1, Recorder()
    trainer = u.Trainer(2, on_nonfinite="skip", listeners=[recorder])
    model = u.LinearRegressionScratch(2, lr=lr, seed=0)
    found = fitted(trainer, model, points(u, 5, bad=(2, 5)))

    w = 0.01 * np.random.default_rng(0).standard_normal((2, 1))
    b, losses, epochs = 0.0, [], []
    for _ in range(2):
        for number, (X, y) in enumerate(points(u, 5), 1):
            if number in (2, 5):
                continue
            X, y = u.backend.to_numpy(X), u.backend.to_numpy(y)
            error = X @ w + b - y
            losses.append((error**2).mean() / 2)
            w, b = w - lr * X.T @ error / 4, b - lr * error.mean()
        epochs.append(np.mean(losses[-3:]))
    np.testing.assert_allclose(found["w"], w, rtol=1e-5)
    np.testing.assert_allclose(found["b"].ravel(), [b], rtol=1e-5)
    np.testing.assert_allclose([epoch.loss for epoch in recorder.epochs], epochs, rtol=1e-5)
    assert [epoch.not_finite for epoch in recorder.epochs] == [2, 2]
    assert [step.step for step in recorder.steps] == list(range(1, 11))
    assert [s.step for s in recorder.steps if s.on_nonfinite == "skip"] == [2, 5, 7, 10]
    finite = [step.loss for step in recorder.steps if step.on_nonfinite is None]
    np.testing.assert_allclose(finite, losses, rtol=1e-5)
    assert all(math.isfinite(y) for _, y in model.board.points["train_loss"])


def test_neither_an_optimizer_with_a_state_sees_it(u: Any) -> None:
    batches = points(u, 6, bad=(1, 4))
    found = fitted(u.Trainer(2, on_nonfinite="skip"), with_adam(u), batches)
    rest = [batch for number, batch in enumerate(points(u, 6), 1) if number not in (1, 4)]
    assert_same(found, fitted(u.Trainer(2), with_adam(u), rest))


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_the_next_minibatch_gets_the_state_before_it(u: Any, cell: str) -> None:
    batches = texts(u, 5)
    make = lambda: u.LanguageModel(V, H, cell, lr=0.5, seed=0)  # noqa: E731
    trainer = spoiling(u, 3)(1, gradient_clip_val=1, on_nonfinite="skip")
    found = fitted(trainer, make(), batches)
    del batches[2]
    assert_same(found, fitted(u.Trainer(1, gradient_clip_val=1), make(), batches))


def test_a_carried_state_that_is_not_finite_is_dropped(u: Any) -> None:
    given: list[bool] = []

    class Broken(u.Trainer):  # type: ignore[misc,name-defined]
        def fit_batch(self, batch: Any, state: Any) -> Any:
            given.append(state is None)
            record, after = super().fit_batch(batch, state)
            return record, spoiled(after) if record.step == 2 else after

    trainer = Broken(1, on_nonfinite="skip")
    trainer.fit(u.LanguageModel(V, H, seed=0), data_of(texts(u, 5)))
    assert given == [True, False, False, True, False]
    assert all(np.isfinite(value).all() for value in values(trainer).values())


def test_so_many_in_a_row_stop_the_training(u: Any) -> None:
    model, bad = u.LinearRegressionScratch(2, lr=0.1, seed=0), range(2, 2 + MOST_SKIPPED)
    batches = points(u, MOST_SKIPPED + 3)
    fitted(spoiling(u, *bad)(1, on_nonfinite="skip"), model, batches)  # that is not too many
    trainer = spoiling(u, *bad, bad[-1] + 1)(1, on_nonfinite="skip")
    with pytest.raises(NotFiniteError, match=f"The {MOST_SKIPPED} minibatches before") as caught:
        trainer.fit(u.LinearRegressionScratch(2, lr=0.1, seed=0), data_of(batches))
    assert caught.value.step == bad[-1] + 1


@pytest.mark.parametrize("policy", ["skip", "stop"])
def test_weights_that_are_not_finite_end_it_with_the_last_good_ones(u: Any, policy: str) -> None:
    make, batches = lambda: u.LinearRegressionScratch(2, lr=0.1, seed=0), points(u, 6)
    trainer = leaping(u, 4)(1, on_nonfinite=policy)
    why = "no longer finite, so" if policy == "skip" else "became nan"
    with pytest.raises(NotFiniteError, match=why) as caught:
        trainer.fit(make(), data_of(batches))
    assert caught.value.step == 5
    assert_same(values(trainer), fitted(u.Trainer(1), make(), batches[:3]))


def test_an_epoch_without_one_finite_step_has_no_loss(u: Any) -> None:
    recorder = Recorder()
    trainer = u.Trainer(2, on_nonfinite="skip", listeners=[recorder])
    trainer.fit(u.LinearRegressionScratch(2, lr=0.1, seed=0), data_of(points(u, 2, bad=(1, 2))))
    for epoch in recorder.epochs:
        assert math.isnan(epoch.loss)
        assert (epoch.not_finite, epoch.num_targets) == (2, 0)


# Rollback


@pytest.mark.parametrize(
    ("bad", "gone", "to"),
    [
        ((6,), (5, 6), [4]),
        ((2,), (1, 2), [0]),
        ((6, 7), (5, 6, 7), [4, 4]),
        ((4,), (4, 3, 2, 1), [0]),
    ],
)
def test_a_rollback_is_a_training_without_all_since_the_checkpoint(
    u: Any, tmp_path: Any, bad: Any, gone: Any, to: Any
) -> None:
    recorder, batches = Recorder(), points(u, 8)
    checkpoint = u.Checkpointing(tmp_path, "every=4steps")
    options = {"on_nonfinite": "rollback", "checkpoint": checkpoint, "listeners": [recorder]}
    found = fitted(spoiling(u, *bad)(1, **options), with_adam(u), batches)
    rest = [batch for number, batch in enumerate(batches, 1) if number not in gone]
    assert_same(found, fitted(u.Trainer(1), with_adam(u), rest))
    assert [s.rolled_back_to for s in recorder.steps if s.on_nonfinite == "rollback"] == to
    assert recorder.epochs[0].not_finite == len(bad)


def test_weights_that_became_infinite_are_rolled_back(u: Any, tmp_path: Any) -> None:
    checkpoint = u.Checkpointing(tmp_path, "every=2steps")
    trainer = leaping(u, 4)(1, on_nonfinite="rollback", checkpoint=checkpoint)
    make = lambda: u.LinearRegressionScratch(2, lr=0.1, seed=0)  # noqa: E731
    batches = points(u, 7)
    found = fitted(trainer, make(), batches)
    assert_same(found, fitted(u.Trainer(1), make(), batches[:2] + batches[5:]))


def test_rollbacks_to_one_checkpoint_come_to_an_end(u: Any, tmp_path: Any) -> None:
    bad = [3 + 2 * i for i in range(MOST_ROLLBACKS + 1)]
    checkpoint = u.Checkpointing(tmp_path, "every=100steps")
    trainer = spoiling(u, *bad)(1, on_nonfinite="rollback", checkpoint=checkpoint)
    with pytest.raises(NotFiniteError, match=f"start was gone back to {MOST_ROLLBACKS} times") as e:
        trainer.fit(with_adam(u), data_of(points(u, 20)))
    assert e.value.step == bad[-1]


def test_the_last_good_weights_are_those_before_the_checkpoint_each_time(
    u: Any, tmp_path: Any
) -> None:
    checkpoint, batches = u.Checkpointing(tmp_path, "every=4steps"), points(u, 12)
    trainer = spoiling(u, 5, 7, 8, 9)(1, on_nonfinite="rollback", checkpoint=checkpoint)
    with pytest.raises(NotFiniteError, match="checkpoint of step 4"):
        trainer.fit(with_adam(u), data_of(batches))
    assert_same(values(trainer), fitted(u.Trainer(1), with_adam(u), batches[:3]))


def test_rollbacks_of_every_step_come_to_an_end_though_checkpoints_are_due(
    u: Any, tmp_path: Any
) -> None:
    checkpoint = u.Checkpointing(tmp_path, "every=1steps")
    trainer = spoiling(u, *range(2, 20))(1, on_nonfinite="rollback", checkpoint=checkpoint)
    with pytest.raises(NotFiniteError, match="checkpoint of step 1 was gone back to") as caught:
        trainer.fit(with_adam(u), data_of(points(u, 20)))
    assert caught.value.step == 2 + MOST_ROLLBACKS


# Resumed


@pytest.mark.parametrize("stop_after", [2, 5, 6, 7, 9, 13])
@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_a_resumed_training_is_the_same_to_the_byte(
    u: Any, tmp_path: Any, policy: str, stop_after: int
) -> None:
    bad = (3, 6, 7, 8, 14)
    if policy == "skip" and stop_after != 7:
        pytest.skip("one place is enough")

    def train(run: str, resume: bool = False, stop_after: int = 0) -> dict[str, Any]:
        checkpoint = u.Checkpointing(tmp_path / run, "every=4steps", tell=lambda text: None)
        trainer = spoiling(u, *bad, stop_after=stop_after)(
            2, on_nonfinite=policy, checkpoint=checkpoint
        )
        batches = points(u, 8)
        u.backend.seed(0)
        return fitted(trainer, with_adam(u), batches, resume=tmp_path / run if resume else None)

    straight = train("straight")
    train("broken", stop_after=stop_after)
    assert_same(train("broken", resume=True), straight)
    files = [
        sorted((tmp_path / r / "checkpoints/step-000016").iterdir()) for r in ("straight", "broken")
    ]
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_skips_are_counted_over_a_break(u: Any, tmp_path: Any) -> None:
    bad = range(2, 3 + MOST_SKIPPED)
    for resume in (None, tmp_path):
        options = {"on_nonfinite": "skip", "checkpoint": tmp_path}
        trainer = spoiling(u, *bad, stop_after=0 if resume else 6)(1, **options)
        model, data = u.LinearRegressionScratch(2, lr=0.1, seed=0), data_of(points(u, 20))
        if resume is None:
            trainer.fit(model, data)
            continue
        with pytest.raises(NotFiniteError, match="minibatches before") as caught:
            trainer.fit(model, data, resume=resume)
        assert caught.value.step == bad[-1]


def test_another_policy_or_other_checkpoints_make_another_training(tmp_path: Any) -> None:
    u = load(INSTALLED[0])

    def train(policy: str, schedule: str, resume: bool) -> None:
        checkpoint = u.Checkpointing(tmp_path, schedule)
        trainer = u.Trainer(1 + resume, on_nonfinite=policy, checkpoint=checkpoint)
        data = data_of(points(u, 4))
        trainer.fit(with_adam(u), data, resume=tmp_path if resume else None)

    train("rollback", "every=2steps", resume=False)
    with pytest.raises(ResumeError, match="on_nonfinite is skip and was rollback"):
        train("skip", "every=2steps", resume=True)
    with pytest.raises(ResumeError, match="checkpoint is every=3steps and was every=2steps"):
        train("rollback", "every=3steps", resume=True)
    train("rollback", "every=2steps,keep=5", resume=True)


# Mistakes


def test_mistakes_are_told() -> None:
    u = load(INSTALLED[0])
    with pytest.raises(SettingError, match="unknown on_nonfinite 'skipp': did you mean 'skip'"):
        u.Trainer(1, on_nonfinite="skipp")
    for checkpoint, given in ((None, "there are none"), ("run", "they are due by the clock")):
        trainer = u.Trainer(1, on_nonfinite="rollback", checkpoint=checkpoint)
        with pytest.raises(SettingError, match=given):
            trainer.fit(with_adam(u), data_of(points(u, 2)))
    assert u.Trainer(1, on_nonfinite="skip").hparams["on_nonfinite"] == "skip"
