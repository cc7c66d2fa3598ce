import pytest

from reward_workers.busy import BusyTime


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_only_the_time_with_work_in_hand_counts_as_busy(clock):
    time = BusyTime(clock)
    clock.now = 52.0
    time.set(busy=True)
    clock.now = 55.0
    time.set(busy=False)
    clock.now = 60.0
    assert time.figures() == {"busy_seconds": 3.0, "alive_seconds": 10.0}


def test_work_that_is_in_hand_counts_up_to_now(clock):
    time = BusyTime(clock)
    time.set(busy=True)
    clock.now = 51.5
    assert time.figures() == {"busy_seconds": 1.5, "alive_seconds": 1.5}
    clock.now = 52.0
    assert time.figures() == {"busy_seconds": 2.0, "alive_seconds": 2.0}


def test_saying_it_again_changes_nothing(clock):
    time = BusyTime(clock)
    for now, busy in ((50.0, False), (51.0, True), (53.0, True), (54.0, False), (55.0, False)):
        clock.now = now
        time.set(busy=busy)
    assert time.figures() == {"busy_seconds": 3.0, "alive_seconds": 5.0}


def test_stretches_add_up(clock):
    time = BusyTime(clock)
    for second in range(10):
        clock.now = 50.0 + second
        time.set(busy=second % 2 == 0)
    clock.now = 60.0
    assert time.figures() == {"busy_seconds": 5.0, "alive_seconds": 10.0}
