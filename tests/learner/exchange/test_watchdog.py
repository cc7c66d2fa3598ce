"""What the run waits for, in words, and when it gives up; the clock is a number."""

import logging

import pytest

from learner.exchange.roster import Roster
from learner.exchange.watchdog import WARN_SECONDS, Watchdog, missing
from protocol.messages import Heartbeat, Hello

COUNTS = {"ready": 3, "leased": 2, "scoring": 1, "trained": 9}


def make_roster(*names):
    roster = Roster(1e9)
    for name in names:
        role = "actor" if name.startswith("actor") else "reward_worker"
        member = roster.register(Hello(role=role, peer=name, host="h", pid=1), 1, 0.0)
        if not name.endswith("silent"):
            beat = Heartbeat(peer=name, state="idle", policy_version=0, capacity=1)
            roster.heard(member, beat, 1, 0.0)
    return roster


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            (),
            "no actor is registered; none has come yet; "
            "start one with: python -m actors --learner ADDRESS",
        ),
        (("worker-1",), "no actor is registered; none has come yet; start one with: python -m a"),
        (
            ("actor-1",),
            "no reward worker is registered; none has come yet; "
            "start one with: python -m reward_workers --learner",
        ),
        (
            ("actor-1", "worker-silent"),
            "groups: 3 ready, 2 leased, 1 scoring, 0 scored; "
            "peers: actor-1 idle, worker-silent silent",
        ),
    ],
)
def test_the_sentence_names_who_is_missing(names, sentence):
    assert missing(make_roster(*names), COUNTS, 50.0).startswith(sentence)


def test_the_sentence_says_since_when_somebody_is_missing_and_why():
    roster = make_roster("actor-1", "actor-2", "worker-1")
    roster.disconnected(1, 5.0)
    roster.remove("worker-1", 2.0, "it said 'told to end'")
    assert len(roster.remove_lost(8.0)) == 2
    assert missing(roster, COUNTS, 50.0).startswith(
        "no actor is registered; the last one left 42 s ago: its connection ended; start one"
    )


def test_it_says_now_and_then_that_a_step_is_still_running(caplog):
    caplog.set_level(logging.INFO, "learner.watchdog")
    watchdog = Watchdog(300.0, now=0.0)
    watchdog.check_step(500.0)  # nothing is in hand
    watchdog.step_begins(500.0)
    for seconds in range(500, 640):
        watchdog.check_step(float(seconds))
    assert [record.getMessage() for record in caplog.records] == [
        "a training step has been running for 60 s",
        "a training step has been running for 120 s",
    ]
    caplog.clear()
    watchdog.step_ends()
    watchdog.check_step(900.0)
    watchdog.step_begins(900.0)
    watchdog.check_step(959.0)
    assert not caplog.records


def test_it_gives_up_at_the_limit_with_the_reason():
    watchdog = Watchdog(300.0, now=50.0)
    roster = make_roster()
    assert watchdog.check(349.9, roster, COUNTS) is None
    reason = watchdog.check(350.0, roster, COUNTS)
    assert reason is not None
    assert reason.startswith("no progress for 300 s: no actor is registered")


def test_progress_starts_the_time_again():
    watchdog = Watchdog(300.0, now=0.0)
    watchdog.progress(200.0)
    assert watchdog.check(499.9, make_roster(), COUNTS) is None
    assert watchdog.check(500.0, make_roster(), COUNTS) is not None


def test_it_warns_from_time_to_time_and_not_more_often(caplog):
    caplog.set_level(logging.WARNING, "learner.watchdog")
    watchdog = Watchdog(300.0, now=0.0)
    roster = make_roster("actor-1")
    for tenths in range(450):  # 45 s, a check every tenth of a second
        watchdog.check(tenths / 10, roster, COUNTS)
    assert WARN_SECONDS == 15.0
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "no progress for 15 s",
        "no progress for 30 s",
    ]
    assert "no reward worker is registered" in caplog.text
    caplog.clear()
    watchdog.progress(45.0)
    watchdog.check(59.9, roster, COUNTS)
    assert not caplog.records
