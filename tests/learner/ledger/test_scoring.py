"""Samples find a reward worker, whatever workers do."""

from learner.ledger import events as ev
from learner.ledger.groups import GroupState
from tests.learner.ledger.history import SCORE, History, only


def test_samples_are_scored_while_the_stragglers_are_generated():
    history = History(group_size=2)
    history.prompts(0)
    history.actor()
    history.worker()
    assert only(ev.AssignScore, history.rollout(0)) == [ev.AssignScore("w", 0, 1, 0)]
    history.score(0)
    assert history.group(0).samples[0].worker == ""
    assert history.state(0) is GroupState.LEASED
    history.rollout(0, sample=1)
    assert history.state(0) is GroupState.SCORING
    history.score(0, sample=1)
    assert history.state(0) is GroupState.SCORED


def test_a_lost_workers_samples_go_to_another_and_the_first_score_wins():
    history = History()
    history.prompts(0)
    history.actor()
    history.worker("w")
    history.rollout(0)
    history.worker("v")
    assert only(ev.AssignScore, history(ev.PeerLost("w"))) == [ev.AssignScore("v", 0, 1, 0)]
    assert history.score(0, "w", reward=0.25) == [ev.AckScore("w", 0, 1, 0)]
    assert history.score(0, "v", reward=0.75) == [ev.AckScore("v", 0, 1, 0)]
    assert history.first_score(0).reward == 0.25
    assert history.ledger.counts()["duplicates"] == 1
    assert history.ledger.counts()["scores"] == 1


def test_a_late_sample_goes_to_another_worker_and_is_masked_in_the_end():
    history = History(max_score_attempts=3, groups_per_step=1)
    history.prompts(0)
    history.actor()
    history.worker("w", capacity=5)
    history.rollout(0)
    history.worker("v", capacity=1)
    assert history.tick(SCORE - 0.001) == []
    assert history.tick(0.001) == [ev.AssignScore("v", 0, 1, 0)]
    assert history.tick(SCORE) == [ev.AssignScore("w", 0, 1, 0)]
    assert history.tick(SCORE) == []
    score = history.first_score(0)
    assert (score.reward, score.status, score.run_epoch) == (None, "reward_timeout", 1)
    assert history.state(0) is GroupState.SCORED
    assert history.ledger.counts()["masked/reward_timeout"] == 1


def test_a_late_sample_goes_back_to_the_only_worker():
    history = History(groups_per_step=1)
    history.prompts(0)
    history.actor()
    history.worker("w", capacity=1)
    history.rollout(0)
    assert history.tick(SCORE) == [ev.AssignScore("w", 0, 1, 0)]


def test_a_sample_that_workers_die_of_is_masked():
    history = History(max_attempts=2)
    history.prompts(0)
    history.actor()
    history.worker("v")
    history.rollout(0)
    history(ev.PeerLost("v"))
    history.worker("w")
    assert history.state(0) is GroupState.SCORING
    history(ev.PeerLost("w"))
    assert history.first_score(0).status == "reward_worker_lost"


def test_a_worker_never_gets_more_than_its_capacity():
    history = History(group_size=3)
    history.prompts(0)
    history.actor()
    history.worker(capacity=2)
    given = [len(only(ev.AssignScore, history.rollout(0, sample=s))) for s in range(3)]
    assert given == [1, 1, 0]
    assert only(ev.AssignScore, history.score(0)) == [ev.AssignScore("w", 0, 1, 2)]


def test_all_samples_that_one_worker_took_along_are_masked_and_counted():
    history = History(max_attempts=1, group_size=3, groups_per_step=1)
    history.prompts(0)
    history.actor()
    history.worker()
    for sample in range(3):
        history.rollout(0, sample=sample)
    history(ev.PeerLost("w"))
    assert history.ledger.counts()["masked/reward_worker_lost"] == 3
    assert history.state(0) is GroupState.SCORED


def test_all_samples_that_run_out_of_time_together_are_masked_and_counted():
    history = History(max_score_attempts=1, group_size=3, groups_per_step=1)
    history.prompts(0)
    history.actor()
    history.worker()
    for sample in range(3):
        history.rollout(0, sample=sample)
    history.tick(SCORE)
    assert history.ledger.counts()["masked/reward_timeout"] == 3
    assert history.state(0) is GroupState.SCORED
