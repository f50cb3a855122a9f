"""Trainings that are stopped and resumed in Python, beside those that never were."""

import numpy as np
import pytest

from installed import FRAMEWORK, INSTALLED
from unrolled.data.batching import EpochLoader
from unrolled.errors import ResumeError, SettingError
from unrolled.frameworks import load
from unrolled.training.truncation import Truncation

EVERY = "every=7steps,keep=9"


def text_data(u, seed=0, **options):
    return u.TextData("hello world " * 50, batch_size=4, num_steps=10, seed=seed, **options)


def model_for(u, data, seed=0, **options):
    return u.LanguageModel(len(data.vocab), num_hiddens=6, seed=seed, **options)


def files(run):
    return {
        str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()
    }


def stop_at(trainer, model, data, step, **options):
    for record in trainer.steps(model, data, **options):
        if record.step == step:
            trainer.stop()


@pytest.mark.parametrize("framework", INSTALLED)
@pytest.mark.parametrize("options", [{}, {"use_random_iter": True}])
def test_a_resumed_training_saves_the_same_bytes(framework, options, tmp_path):
    u = load(framework)
    truncation = Truncation(state="drawn" if options else "carried", seed=3)
    runs = tmp_path / "whole", tmp_path / "broken"

    def trainer(run):
        u.backend.seed(5)  # in JAX every training draws a key
        checkpoint = u.Checkpointing(run, EVERY)
        return u.Trainer(2, gradient_clip_val=1, truncation=truncation, checkpoint=checkpoint)

    data = text_data(u, **options)
    trainer(runs[0]).fit(model_for(u, data), data)
    stop_at(trainer(runs[1]), model_for(u, data), data, 7)
    resumed = trainer(runs[1])
    resumed.fit(model_for(u, data, seed=1), text_data(u, **options), resume=runs[1])
    assert resumed.train_batch_idx == 2 * resumed.num_train_batches > 14
    assert files(runs[1]) == files(runs[0])


def test_a_seed_that_was_drawn_is_kept(tmp_path):
    u = load(FRAMEWORK)
    u.backend.seed(1)
    data = text_data(u, seed=None)
    whole, broken = model_for(u, data), model_for(u, data)
    u.Trainer(2).fit(whole, data)
    stop_at(u.Trainer(2, checkpoint=tmp_path), broken, data, 9)
    u.backend.seed(2)
    trainer = u.Trainer(2)
    trainer.fit(model_for(u, data), text_data(u, seed=None), resume=tmp_path)
    for name, value in trainer.bound_model.export_parameters().items():
        np.testing.assert_array_equal(value, whole.export_parameters()[name])


@pytest.fixture
def stopped(tmp_path):
    u = load(FRAMEWORK)
    data = text_data(u)
    checkpoint = u.Checkpointing(tmp_path, EVERY)
    stop_at(u.Trainer(2, checkpoint=checkpoint), model_for(u, data), data, 9)
    return u, data, tmp_path


def test_another_training_is_refused_unless_it_is_forced(stopped):
    u, data, run = stopped
    for trainer, model, text, words in (
        (u.Trainer(2, gradient_clip_val=3), model_for(u, data), data, "gradient_clip_val is 3"),
        (u.Trainer(2), model_for(u, data, lr=0.5), data, "model lr is 0.5 and was 1"),
        (u.Trainer(2), model_for(u, data), text_data(u, max_tokens=300), "data are others"),
    ):
        with pytest.raises(ResumeError, match=words):
            trainer.fit(model, text, resume=run)
        with pytest.warns(RuntimeWarning, match=words):
            trainer.fit(model, text, resume=run, force=True)
    with pytest.raises(ResumeError, match="does not fit this training"):
        u.Trainer(2).fit(u.LanguageModel(len(data.vocab), 7, seed=0), data, resume=run, force=True)


def test_a_learning_rate_that_is_forced_counts(stopped):
    u, data, run = stopped
    ends = []
    for lr in (1.0, 1e-9):
        model, trainer = model_for(u, data, lr=lr), u.Trainer(2)
        if lr == 1.0:
            trainer.fit(model, data, resume=run)
        else:
            with pytest.warns(RuntimeWarning, match="lr is 1e-09"):
                trainer.fit(model, data, resume=run, force=True)
        ends.append(trainer.bound_model.export_parameters())
    assert any((ends[0][name] != ends[1][name]).any() for name in ends[0])


def test_the_newest_whole_checkpoint_counts_and_damage_is_named(stopped):
    u, data, run = stopped
    (run / "checkpoints/step-000009/state.json").write_bytes(b"{")
    trainer = u.Trainer(2)
    with pytest.warns(RuntimeWarning, match="step-000009.*damaged: state.json is 1 bytes long"):
        trainer.fit(model_for(u, data), data, resume=run)
    (run / "checkpoints/step-000007/complete.json").unlink()
    with pytest.raises(ResumeError, match=r"no whole checkpoint\n.*000009.*\n.*000007.*missing"):
        u.Trainer(2).fit(model_for(u, data), data, resume=run)


class Own(EpochLoader):
    """Four minibatches, which depend on the epoch."""

    def __len__(self):
        return 4

    def minibatches(self, epoch, start=0):
        for number in range(start, 4):
            X = np.full((2, 2), 1 + epoch + number, np.float32)
            yield X, X.sum(1, keepdims=True)

    def source_arrays(self):
        yield np.arange(4)


def test_loaders_that_nobody_knows_are_refused(tmp_path):
    u = load(FRAMEWORK)

    class Data(u.DataModule):
        def __init__(self, loader):
            super().__init__()
            self.loader = loader

        def get_dataloader(self, train):
            return self.loader if train else None

    class Unknown(list):
        pass

    class Counting:
        def __len__(self):
            return 4

        def __iter__(self):
            return iter([])

    model = u.LinearRegressionScratch(2, lr=0.001, seed=0)
    with pytest.raises(SettingError, match="Counting cannot be gone on with exactly"):
        u.Trainer(1, checkpoint=tmp_path / "a").fit(model, Data(Counting()))
    asarray = u.backend.asarray
    batches = [tuple(map(asarray, batch)) for batch in Own().minibatches(0)]
    ends = []
    for stop in (False, True):
        run = tmp_path / f"b{stop}"
        model = u.LinearRegressionScratch(2, lr=0.001, seed=0)
        trainer = u.Trainer(2, checkpoint=run)
        if stop:
            stop_at(trainer, model, Data(batches), 6)
            trainer = u.Trainer(2)
            model = u.LinearRegressionScratch(2, lr=0.001, seed=1)
        trainer.fit(model, Data(batches), resume=run if stop else None)
        ends.append(trainer.bound_model.export_parameters())
    assert (ends[0]["w"] == ends[1]["w"]).all()
    other = [batches[0], *batches[2:], batches[1]]
    run = tmp_path / "c"
    stop_at(u.Trainer(2, checkpoint=run), model, Data(batches), 6)
    with pytest.raises(ResumeError, match="minibatch 2 of the list is another than it was"):
        u.Trainer(2).fit(model, Data(other), resume=run)


def test_what_cannot_be_saved_is_told_at_the_start(tmp_path):
    u = load(FRAMEWORK)
    data = text_data(u)
    with pytest.raises(SettingError, match=r"'every=5epochs' names no run directory"):
        u.Trainer(1, checkpoint="every=5epochs")

    class Mine(u.Trainer):
        def fit_epoch(self):
            """A loop of a reader's own."""

    with pytest.raises(SettingError, match=r"cannot see into .*Mine.fit_epoch"):
        Mine(1, checkpoint=tmp_path).fit(model_for(u, data), data)
