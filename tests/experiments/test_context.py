"""What a training does with the signals that tell it to stop."""

import signal
import threading
from types import SimpleNamespace

from unrolled.experiments import context


class Training(SimpleNamespace):
    def stop(self):
        self.stopping = True


def test_a_signal_stops_the_training_and_handlers_are_as_before():
    before = {each: signal.getsignal(each) for each in context.SECOND}
    training = Training(stopping=False)
    with context._stop_when_told(training) as told:
        signal.raise_signal(signal.SIGTERM)
        assert training.stopping
        assert told == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # a second one ends it at once
    assert {each: signal.getsignal(each) for each in context.SECOND} == before


def test_handlers_that_python_has_not_set_become_the_usual_ones(monkeypatch):
    set_to = []  # Python tells of such a handler as None, and takes no None
    monkeypatch.setattr(signal, "signal", lambda each, handler: set_to.append((each, handler)))
    with context._stop_when_told(Training()):
        pass
    assert set_to[-2:] == list(context.SECOND.items())


def test_another_thread_leaves_signals_alone():
    seen = []

    def train():
        with context._stop_when_told(Training()):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
