"""Deterministic runs: nothing is masked or dropped; it is tried again, and then ends the run."""

import pytest

from learner.ledger import events as ev
from protocol.messages import Score


@pytest.fixture
def strict(story):
    def make(**limits):
        return story(deterministic=True, groups_per_step=1, group_size=1, **limits)

    return make


def score(told, group_id, reward, status):
    group = told.ledger.group(group_id)
    return Score.model_construct(
        run_epoch=1,
        group_id=group_id,
        attempt=group.attempt,
        sample=0,
        reward=reward,
        rewards=(),
        status=status,
    )


def halts(actions):
    return [action.reason for action in actions if isinstance(action, ev.Halt)]


def assigned(actions):
    return [action.peer for action in actions if isinstance(action, ev.AssignScore)]


def test_a_failed_score_is_asked_for_again_and_the_sample_is_not_masked(strict):
    told = strict(max_score_attempts=3)
    told.prompts(0)
    assert assigned(told(told.rollout(0))) == ["w"]
    actions = told(ev.ScoreArrived("w", score(told, 0, None, "sandbox_error")))
    assert assigned(actions) == ["w"]
    assert not halts(actions)
    assert told.state(0) == "scoring"
    assert told.count("scored_again/sandbox_error") == 1
    told(ev.ScoreArrived("w", score(told, 0, 1.0, "ok")))
    assert told.state(0) == "scored"
    assert told.count("masked/sandbox_error") == 0


def test_a_score_that_fails_too_often_ends_the_run_with_its_status(strict):
    told = strict(max_score_attempts=2)
    told.prompts(0)
    told(told.rollout(0))
    assert not halts(told(ev.ScoreArrived("w", score(told, 0, None, "reward_timeout"))))
    (reason,) = halts(told(ev.ScoreArrived("w", score(told, 0, None, "reward_timeout"))))
    assert reason.startswith("group 0 sample 0 could not be scored 2 times")
    assert "reward_timeout" in reason
    assert told.state(0) == "scoring"  # and can still be scored


def test_a_failed_score_that_comes_twice_counts_once(strict):
    told = strict(max_score_attempts=2)
    told(ev.PeerJoined("v", "reward_worker"))
    told(ev.CapacityReported("v", 999))
    told.prompts(0)
    (first,) = assigned(told(told.rollout(0)))
    failed = score(told, 0, None, "reward_error")
    (second,) = assigned(told(ev.ScoreArrived(first, failed)))
    assert second != first
    assert not halts(told(ev.ScoreArrived(first, failed)))
    assert halts(told(ev.ScoreArrived(second, failed)))


def test_a_failed_score_is_asked_of_a_worker_that_has_not_failed_even_if_it_is_busier(strict):
    told = strict()
    told(ev.PeerJoined("v", "reward_worker"))
    told(ev.CapacityReported("v", 1))
    told.prompts(0)
    assert assigned(told(told.rollout(0))) == ["w"]
    assert assigned(told(ev.ScoreArrived("w", score(told, 0, None, "reward_error")))) == ["v"]
    assert assigned(told(ev.ScoreArrived("v", score(told, 0, None, "reward_error")))) == ["w"]
    assert told.count("scored_again/reward_error") == 2


def test_rewards_that_do_not_apply_mask_as_ever(strict):
    told = strict()
    told.prompts(0)
    told(told.rollout(0))
    told(ev.ScoreArrived("w", score(told, 0, None, "no_reward_applies")))
    assert told.state(0) == "scored"
    assert told.count("masked/no_reward_applies") == 1


def test_a_group_that_used_up_its_attempts_waits_and_ends_the_run(strict):
    told = strict(max_attempts=2)
    told.prompts(0)
    assert not halts(told(ev.LeaseFailed("a", 1, 0, 1, "no memory")))
    actions = told(ev.LeaseFailed("a", 1, 0, 2, "no memory"))
    (reason,) = halts(actions)
    assert reason.startswith("group 0 was given out 2 times")
    assert "failed no memory" in reason
    assert told.dropped(actions) == []
    assert told.state(0) == "leased"  # it was issued again


def test_a_sample_that_no_worker_survives_ends_the_run(strict):
    told = strict(max_attempts=1)
    told.prompts(0)
    told(told.rollout(0))
    (reason,) = halts(told(ev.PeerLost("w")))
    assert "reward_worker_lost" in reason
    assert told.count("masked/reward_worker_lost") == 0


def test_a_sample_that_is_never_scored_in_time_ends_the_run(strict):
    told = strict(max_score_attempts=1, score_seconds=5.0)
    told.prompts(0)
    told(told.rollout(0))
    (reason,) = halts(told.ledger.apply(ev.Ticked(), 6.0))
    assert "reward_timeout" in reason
    told(ev.ScoreArrived("w", score(told, 0, 1.0, "ok")))
    assert told.state(0) == "scored"


def test_other_runs_mask_and_drop(story):
    told = story(groups_per_step=1, group_size=1, max_attempts=1)
    told.prompts(0, 1)
    told(told.rollout(0))
    told(ev.ScoreArrived("w", score(told, 0, None, "sandbox_error")))
    assert told.count("masked/sandbox_error") == 1
    told.want()
    told.train()
    actions = told(ev.LeaseFailed("a", 1, 1, 1, "no memory"))
    assert told.dropped(actions) == [(1, "attempts")]
    assert not halts(actions)
