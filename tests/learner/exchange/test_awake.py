"""Time in which this process stood still counts for nobody; the clock is a number."""

import logging

from learner.exchange.awake import GRACE_SECONDS, LONGEST_TURN_SECONDS, AwakeClock


class Seconds:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_time_goes_on_with_every_look_and_only_then():
    seconds = Seconds()
    clock = AwakeClock(seconds, lambda: 0.0)
    assert clock() == 100.0
    seconds.now = 103.0
    assert clock() == 100.0
    assert clock.look() == clock() == 103.0
    assert not clock.has_just_woken


def test_a_gap_between_two_looks_is_left_out_and_told(caplog):
    caplog.set_level(logging.WARNING, "learner.awake")
    seconds = Seconds()
    clock = AwakeClock(seconds, lambda: 0.0)
    seconds.now += LONGEST_TURN_SECONDS
    assert clock.look() == 105.0  # a long turn, and no gap
    assert not caplog.records
    seconds.now += 3600.0
    assert clock.look() == 105.0
    assert "stood still for 3600 s" in caplog.text
    seconds.now += 2.0
    assert clock.look() == 107.0


def test_it_has_just_woken_until_peers_had_time_to_come_back():
    seconds = Seconds()
    clock = AwakeClock(seconds, lambda: 0.0)
    found = []
    for gap in (60.0, GRACE_SECONDS - 0.5, 0.4, 0.2):
        seconds.now += gap
        clock.look()
        found.append(clock.has_just_woken)
    assert found == [True, True, True, False]


def test_it_never_goes_back():
    seconds = Seconds()
    clock = AwakeClock(seconds, lambda: 0.0)
    found = [clock()]
    for gap in (0.1, 7.0, 0.0, 4.9, 5.1, 1000.0, 0.1):
        seconds.now += gap
        found.append(clock.look())
    assert found == sorted(found)


def test_a_turn_of_hard_work_is_no_gap():
    seconds, worked = Seconds(), [0.0]
    clock = AwakeClock(seconds, lambda: worked[0])
    clock.look()
    seconds.now += 17.0
    worked[0] += 12.5
    assert clock.look() == 117.0
    assert not clock.has_just_woken
    seconds.now += 17.0
    worked[0] += 11.0
    assert clock.look() == 117.0
    assert clock.has_just_woken


def test_the_work_of_the_thread_that_made_it_is_not_that_of_the_one_that_looks():
    worked = iter([3.0, 3.5])
    clock = AwakeClock(Seconds(), lambda: next(worked))  # the maker's 400 s are never asked for
    clock.look()
    assert not clock.has_just_woken
    clock.look()
    assert not clock.has_just_woken
