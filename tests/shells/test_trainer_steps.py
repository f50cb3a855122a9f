"""`Trainer.steps` trains as `Trainer.fit` does, one step after the other."""

import numpy as np
import pytest
from recorder import Recorder

from installed import FRAMEWORK, INSTALLED
from unrolled.errors import SettingError
from unrolled.experiments.language_model import Settings, build, complete
from unrolled.frameworks import load

frameworks = pytest.mark.parametrize("framework", INSTALLED)


def training(framework):
    u, heard = load(framework), Recorder()
    data = u.TextData("the time traveller " * 9, batch_size=2, num_steps=5, seed=0)
    model = build(u, complete(Settings(num_hiddens=8)), len(data.vocab), seed=0)
    trainer = u.Trainer(max_epochs=2, gradient_clip_val=1, listeners=[heard])
    return trainer, model, data, heard


@frameworks
def test_the_steps_are_those_of_fit(framework):
    trainer, model, data, heard = training(framework)
    trainer.fit(model, data)
    other, model, data, other_heard = training(framework)
    assert [*other.steps(model, data)] == heard.steps == other_heard.steps
    assert len(heard.steps) == trainer.train_batch_idx
    assert [e.loss for e in heard.epochs] == [e.loss for e in other_heard.epochs]
    values, others = (t.bound_model.export_parameters() for t in (trainer, other))
    for name, value in values.items():
        np.testing.assert_array_equal(value, others[name])


@frameworks
def test_a_loop_that_breaks_off_ends_the_training(framework):
    trainer, model, data, heard = training(framework)
    for step in trainer.steps(model, data):
        if step.step == 3:
            break
    assert [step.step for step in heard.steps] == [1, 2, 3]
    assert heard.epochs == []
    assert trainer.train_batch_idx == 3


def test_stop_ends_the_steps():
    trainer, model, data, heard = training(FRAMEWORK)
    for _ in trainer.steps(model, data):
        trainer.stop()
    assert len(heard.steps) == 1


def test_a_loop_of_the_readers_own_is_refused():
    trainer, model, data, _ = training(FRAMEWORK)

    class Own(type(trainer)):
        def fit_epoch(self):
            pass

    with pytest.raises(SettingError, match=r"Own\.fit_epoch, which is your own; call fit"):
        next(Own(max_epochs=1).steps(model, data))
