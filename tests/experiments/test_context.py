"""What a training does with the signals that tell it to stop."""

import signal
import threading
from types import SimpleNamespace

import pytest

from unrolled.experiments import context


class Training(SimpleNamespace):
    def stop(self):
        self.stopping = True


def test_a_signal_stops_the_training_and_handlers_are_as_before():
    before = {each: signal.getsignal(each) for each in context.SECOND}
    training = Training(stopping=False)
    with context._stop_when_told(training.stop) as told:
        signal.raise_signal(signal.SIGTERM)
        assert training.stopping
        assert told == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # a second one ends it at once
    assert {each: signal.getsignal(each) for each in context.SECOND} == before


@pytest.fixture
def hangup():
    """What a closed terminal sends; the handlers of before come back."""
    if not hasattr(signal, "SIGHUP"):
        pytest.skip("no terminal closes like that here")
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield signal.SIGHUP
    signal.signal(signal.SIGHUP, before)


def test_a_closing_terminal_may_send_its_signal_again_until_all_is_kept(hangup):
    training = Training(stopping=False)
    with context._stop_when_told(training.stop) as told:
        signal.raise_signal(hangup)
        signal.raise_signal(hangup)
    signal.raise_signal(hangup)
    assert training.stopping
    assert told == [hangup]


def test_a_training_that_is_to_outlive_its_terminal_goes_on(hangup):
    signal.signal(hangup, signal.SIG_IGN)
    training = Training(stopping=False)
    with context._stop_when_told(training.stop) as told:
        signal.raise_signal(hangup)
        signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(hangup) is signal.SIG_IGN
    assert told == [signal.SIGTERM]


def test_handlers_that_python_has_not_set_become_the_usual_ones(monkeypatch):
    set_to = []  # Python tells of such a handler as None, and takes no None
    monkeypatch.setattr(signal, "signal", lambda each, handler: set_to.append((each, handler)))
    monkeypatch.setattr(signal, "getsignal", lambda each: None)
    with context._stop_when_told(Training().stop):
        pass
    assert set_to[len(context.SECOND) :] == list(context.SECOND.items())


def test_another_thread_leaves_signals_alone():
    seen = []

    def train():
        with context._stop_when_told(Training().stop):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_a_signal_ends_what_is_measured_after_a_training_and_the_run_is_kept(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    made = context.Context("language-model", "numpy", 0, tmp_path / "out")
    seen = []
    for part in made.going_through("measuring")(range(5)):
        seen.append(part)
        if part == 2:
            signal.raise_signal(signal.SIGTERM)
    assert (seen, made.status, made._told) == ([0, 1, 2], "interrupted", [signal.SIGTERM])
    assert signal.getsignal(signal.SIGTERM) is before
    assert list(made.going_through("measuring")(range(3))) == [0, 1, 2]
