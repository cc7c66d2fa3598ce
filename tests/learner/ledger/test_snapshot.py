"""What a snapshot knows, and what is issued again after a resume."""

import json
from dataclasses import replace

from learner.ledger import events as ev
from learner.ledger.snapshot import Snapshot
from tests.learner.ledger.history import History, granted, only, reason_of


def test_a_resume_issues_exactly_the_prompts_that_are_not_done():
    history = History(groups_per_step=2, max_off_policy_steps=1)
    history.prompts(0, 1, 2, 5)
    history.actor()
    history(ev.LeaseFailed("a", 1, 0, 1, ""))
    history(ev.BatchWanted())
    history.finish(1)
    actions = history.finish(5)
    (hand_over,) = only(ev.HandOver, actions)
    assert hand_over.group_ids == (1, 5)
    snapshot = hand_over.snapshot
    assert (snapshot.watermark, snapshot.done, snapshot.attempts) == (0, (1, 5), ((0, 2),))
    assert snapshot.counts["trained"] == snapshot.batch_groups == 2

    resumed = History(snapshot, version=1, epoch=2, groups_per_step=2, max_off_policy_steps=1)
    resumed.prompts(0, 1, 2, 5, 6)
    grants = only(ev.GrantLease, resumed.actor(version=1))
    assert [(grant.group_id, grant.attempt) for grant in grants] == [(0, 2), (2, 1), (6, 1)]
    assert reason_of(resumed.rollout(0, attempt=2, epoch=1)) == (False, "fenced")
    assert resumed.ledger.counts()["trained"] == 2


def test_attempts_of_prompts_that_were_not_read_again_yet_are_kept():
    history = History(Snapshot(attempts=((9, 4),)), groups_per_step=1)
    history.prompts(0)
    history.actor()
    history(ev.BatchWanted())
    (hand_over,) = only(ev.HandOver, history.finish(0))
    assert hand_over.snapshot.attempts == ((9, 4),)


def test_the_watermark_passes_gaps_and_the_record_stays_small():
    history = History(groups_per_step=1)
    history.actor()
    for version in range(50):
        history.prompts(3 * version)
        history(ev.BatchWanted())
        (hand_over,) = only(ev.HandOver, history.finish(3 * version, runs=((version, 1),)))
        assert hand_over.snapshot.done == ()
        assert hand_over.snapshot.watermark == 3 * version + 1
        history.train()
    assert history.ledger.group(0) is None


SNAPSHOT = Snapshot(
    watermark=3,
    done=(5, 7),
    attempts=((4, 2),),
    counts={"trained": 5, "scores": 9, "dropped/non_finite": 4},
    batch_groups=2,
    retired=(1, 6, 8),
    retired_by_batch=(1, 8),
)


def test_a_snapshot_survives_json():
    assert Snapshot.from_json(json.loads(json.dumps(SNAPSHOT.to_json()))) == SNAPSHOT


def test_a_skip_moves_the_counts_of_a_snapshot_and_takes_back_what_the_batch_retired():
    assert SNAPSHOT.with_batch_dropped("non_finite") == replace(
        SNAPSHOT,
        counts={"trained": 3, "scores": 9, "dropped/non_finite": 6},
        batch_groups=0,
        retired=(6,),
        retired_by_batch=(),
    )


def test_a_skip_counts_from_nothing():
    skipped = Snapshot(batch_groups=0).with_batch_dropped("stale")
    assert skipped.counts == {"trained": 0, "dropped/stale": 0}


def test_a_done_prompt_that_was_not_read_again_stays_done():
    history = History(Snapshot(watermark=2, done=(3, 5)), groups_per_step=1)
    history.prompts(2)
    history.actor()
    history(ev.BatchWanted())
    (hand_over,) = only(ev.HandOver, history.finish(2))
    resumed = History(hand_over.snapshot, version=1)
    resumed.prompts(3, 4, 5, 6)
    assert granted(resumed.actor(version=1)) == [("a", 4), ("a", 6)]
