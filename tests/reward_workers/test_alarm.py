import contextlib
import gc
import signal
import sys
import threading
import time
import weakref

import pytest

from protocol.errors import RewardError
from reward_workers.alarm import OutOfTime, time_limit


def loop():
    while True:
        pass


def test_a_loop_ends_when_its_time_is_up():
    with pytest.raises(OutOfTime), time_limit(0.01):
        loop()


def test_a_loop_that_swallows_an_alarm_gets_another():
    def swallow():
        with contextlib.suppress(OutOfTime):
            loop()
        swallowed.append(1)
        loop()

    swallowed: list[int] = []
    with pytest.raises(OutOfTime), time_limit(0.01):
        swallow()
    assert swallowed


def test_a_power_of_large_numbers_is_interrupted():
    with pytest.raises(OutOfTime), time_limit(0.05):
        pow(9, 9**9)


def test_an_alarm_that_a_finalizer_would_lose_rings_again_after_it():
    class Slow:
        def __del__(self):
            until = time.monotonic() + 0.05
            while time.monotonic() < until:
                pass
            finished.append(1)

    def collect_and_loop():
        Slow()
        loop()

    finished: list[int] = []
    with pytest.raises(OutOfTime), time_limit(0.01):
        collect_and_loop()
    assert finished


def test_an_alarm_that_a_callback_of_the_collector_would_lose_rings_again_after_it():
    def slow(phase, _info):
        until = time.monotonic() + 0.05
        while phase == "stop" and time.monotonic() < until:
            pass
        finished.append(phase)

    def collect_and_loop():
        gc.collect()
        loop()

    finished: list[str] = []
    gc.callbacks.append(slow)
    try:
        with pytest.raises(OutOfTime), time_limit(0.01):
            collect_and_loop()
    finally:
        gc.callbacks.remove(slow)
    assert "stop" in finished


def test_an_alarm_that_a_weak_reference_loses_rings_again_and_nothing_is_told(monkeypatch):
    class Watched:
        pass

    def slow(_reference):
        called.append(1)
        loop()

    def drop_and_loop():
        watched = Watched()
        reference = weakref.ref(watched, slow)
        del watched
        assert reference() is None
        loop()

    called: list[int] = []
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with pytest.raises(OutOfTime), time_limit(0.01):
        drop_and_loop()
    assert called
    assert not told


def test_what_else_is_lost_in_a_callback_is_told(monkeypatch):
    class Faulty:
        def __del__(self):
            raise ValueError("a fault of its own")

    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: told.append(str(found.exc_value)))
    with time_limit(5.0):
        Faulty()
    assert told == ["a fault of its own"]


def test_nothing_is_left_of_it():
    before = signal.getsignal(signal.SIGALRM)
    hook = sys.unraisablehook
    with time_limit(5.0):
        pass
    assert sys.unraisablehook is hook
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_it_is_refused_outside_the_main_thread():
    caught: list[BaseException] = []

    def limit():
        try:
            with time_limit(1.0):
                pass
        except RewardError as error:
            caught.append(error)

    thread = threading.Thread(target=limit)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])
