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
        ((), "no actor is registered; start one with: python -m actors --learner ADDRESS"),
        (("worker-1",), "no actor is registered; start one with: python -m actors"),
        (
            ("actor-1",),
            "no reward worker is registered; start one with: python -m reward_workers --learner",
        ),
        (
            ("actor-1", "worker-silent"),
            "groups: 3 ready, 2 leased, 1 scoring, 0 scored; "
            "peers: actor-1 idle, worker-silent silent",
        ),
    ],
)
def test_the_sentence_names_who_is_missing(names, sentence):
    assert missing(make_roster(*names), COUNTS).startswith(sentence)


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
