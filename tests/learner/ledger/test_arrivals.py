"""What arrives is taken or refused, counted and answered."""

from learner.ledger import events as ev
from tests.learner.ledger.history import History, make_score, only, reason_of


def test_a_rollout_longer_than_asked_for_is_refused():
    history = History(max_completion_tokens=2, group_size=1)
    history.prompts(0)
    history.actor()
    assert reason_of(history.rollout(0, runs=((0, 3),))) == (False, "too_long")
    assert reason_of(history.rollout(0, runs=((0, 2),))) == (True, "")


def test_every_rollout_is_acked_with_a_reason():
    history = History(version=3, max_off_policy_steps=2)
    history.prompts(0, 1)
    history.actor("b", capacity=1, version=1)
    history.actor("a", version=2)
    assert history.group(1).holder == "a"
    answers = [
        (reason_of(history.rollout(1, peer, **facts)))
        for peer, facts in (
            ("a", {"epoch": 0, "runs": ((2, 1),)}),
            ("a", {"attempt": 0, "runs": ((2, 1),)}),
            ("b", {"runs": ((2, 1),)}),
            ("a", {"sample": 1, "runs": ((2, 1),)}),
            ("a", {"runs": ((2, 1), (4, 1))}),
            ("a", {"runs": ((1, 1), (2, 1))}),
            ("a", {"runs": ((2, 1), (3, 1))}),
            ("a", {"runs": ((2, 1), (3, 1))}),
        )
    ]
    reasons = "fenced stale_attempt not_holder unknown_sample future_version wrong_version"
    assert answers == [(False, r) for r in reasons.split()] + [(True, ""), (True, "duplicate")]
    assert reason_of(history.rollout(77)) == (False, "unknown_group")
    assert history.group(1).oldest_version == 2


def test_scores_for_what_did_not_arrive_are_acked_and_counted():
    history = History()
    history.prompts(0)
    history.actor()
    for score in (
        make_score(0),
        make_score(0, sample=9),
        make_score(0, attempt=2),
        make_score(0, epoch=2),
    ):
        assert only(ev.AckScore, history(ev.ScoreArrived("w", score)))
    assert only(ev.AckScore, history.score(5))
    counts = history.ledger.counts()
    assert counts["rejected/unknown_sample"] == 2
    assert counts["rejected/stale_attempt"] == counts["rejected/unknown_group"] == 1
    assert counts["fenced"] == 1
