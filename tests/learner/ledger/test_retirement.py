"""Easy prompts retire: their row of the data is not issued any more."""

import json

import pytest

from learner.ledger import events as ev
from learner.ledger.snapshot import Snapshot

EASY, HARD = (1.0, 1.0), (1.0, 0.0)


def trained(story, *rewards, **limits):
    """A story of six rows whose group 0 was trained with these rewards."""
    told = story(**{"groups_per_step": 1, "group_size": len(rewards)} | limits)
    told.prompts(0, 1, num_rows=6)
    told.want()
    told.finish(0, *rewards)
    told.train()
    return told


@pytest.mark.parametrize(
    ("rewards", "pass_rate", "retires"),
    [
        ((1.0, 1.0, 1.0, 0.0), 0.75, True),
        ((1.0, 1.0, 1.0, 0.0), 0.76, False),
        ((1.0, 0.5, 1.0, 1.0), 1.0, False),
        ((1.0, None, None, 1.0), 1.0, True),  # all that are valid passed
        ((0.0, None, 1.0, 1.0), 0.67, False),  # 2 of 3
        ((None, None, None, None), 0.1, False),
        ((1.0, 1.0, 1.0, 1.0), None, False),
    ],
)
def test_a_prompt_retires_once_enough_of_its_valid_samples_passed(
    story, rewards, pass_rate, retires
):
    told = trained(story, *rewards, no_resampling_pass_rate=pass_rate)
    assert told.ledger.retired_rows == ({0} if retires else set())


def test_a_completion_passes_from_pass_reward_on(story):
    for bar, retires in ((0.5, True), (0.51, False)):
        told = trained(story, 0.5, 2.0, no_resampling_pass_rate=1.0, pass_reward=bar)
        assert (0 in told.ledger.retired_rows) is retires


def test_a_retired_row_is_not_issued_and_each_of_its_prompts_counts_once(story):
    told = story(groups_per_step=1, no_resampling_pass_rate=1.0, prompts_low_water=6)
    told.prompts(*range(8), num_rows=6)  # 6 and 0 are the same row
    told.want()
    told.finish(0, *EASY)
    assert told.dropped(told.train()) == [(6, "retired")]
    told.prompts(*range(6, 13), num_rows=6)
    assert told.count("dropped/retired") == 2  # 6, that was ready, and 12
    assert told.count("prompts_repeated") == 2  # 6 and 7 were there
    assert told.state(6) is told.state(12) is None
    for group_id in (1, 2, 3, 4, 5, 7, 8):
        told.want()
        told.finish(group_id, *HARD)
        told.train()
    snapshot = told.snapshot(told.want() + told.finish(9, *HARD))
    assert (snapshot.watermark, snapshot.done) == (10, (12,))
    assert (snapshot.counts["trained"], snapshot.counts["dropped/retired"]) == (9, 2)


def test_a_prompt_retires_with_its_batch_and_not_before(story):
    told = story(groups_per_step=1, no_resampling_pass_rate=1.0, prompts_low_water=9)
    told.prompts(0, 6, num_rows=6)
    told.want()
    told.finish(0, *EASY)
    assert (told.state(6), told.ledger.retired_rows) == ("ready", set())
    told.train()
    assert (told.state(6), told.ledger.retired_rows) == (None, {0})


def test_a_group_that_is_given_up_retires_its_prompt(story):
    told = story(max_refill_groups=2, no_resampling_pass_rate=1.0)
    told.prompts(0, 1, 6, 7, num_rows=6)
    assert told.dropped(told.finish(0, *EASY)) == [(0, "zero_advantage"), (6, "retired")]
    assert told.dropped(told.finish(1, 0.0, 0.0)) == [(1, "zero_advantage")]  # too hard
    assert told.ledger.retired_rows == {0}


def test_a_skipped_batch_retires_nothing(story):
    told = story(groups_per_step=1, no_resampling_pass_rate=1.0)
    told.prompts(0, 6, num_rows=6)
    told.want()
    snapshot = told.snapshot(told.finish(0, *EASY))
    told(ev.BatchSkipped("non_finite"))
    assert (told.state(6), told.ledger.retired_rows) == ("leased", set())
    assert (snapshot.retired, snapshot.with_batch_dropped("non_finite").retired) == ((0,), ())


def test_a_skipped_batch_takes_back_only_what_it_retired_itself():
    snapshot = Snapshot(retired=(1, 2, 5), retired_by_batch=(2,), batch_groups=1)
    skipped = snapshot.with_batch_dropped("non_finite")
    assert (skipped.retired, skipped.retired_by_batch) == ((1, 5), ())


def test_a_row_that_retired_before_stays_so_if_its_next_batch_is_skipped(story):
    told = story(groups_per_step=1, max_off_policy_steps=1, no_resampling_pass_rate=1.0)
    told.prompts(0, 6, num_rows=6)
    told.want()
    told.finish(0, *EASY)
    told.train()
    snapshot = told.snapshot(told.want() + told.finish(6, *EASY))
    assert (snapshot.retired, snapshot.retired_by_batch) == ((0,), ())
    assert snapshot.with_batch_dropped("non_finite").retired == (0,)


def test_a_leased_prompt_of_a_retired_row_is_finished_but_not_begun_again(story):
    for fails in (False, True):
        told = story(groups_per_step=1, max_off_policy_steps=1, no_resampling_pass_rate=1.0)
        assert told.prompts(0, 6, num_rows=6) == [0, 6]
        told.want()
        told.finish(0, *EASY)
        assert told.dropped(told.train()) == []
        told.want()
        if fails:
            actions = told(ev.LeaseFailed("a", 1, 6, 1, "too long"))
            assert told.dropped(actions) == [(6, "retired")]
            assert told.granted(actions) == []
        else:
            assert told.handed_over(told.finish(6, *HARD)) == [(6,)]


def test_a_resume_keeps_rows_retired_and_issues_only_the_others(story):
    told = story(groups_per_step=1, max_off_policy_steps=2, no_resampling_pass_rate=1.0)
    told.prompts(0, 1, 6, num_rows=6)
    told.want()
    snapshot = told.snapshot(told.finish(0, *EASY))
    assert (snapshot.retired, snapshot.retired_by_batch, snapshot.watermark) == ((0,), (0,), 1)
    restored = Snapshot.from_json(json.loads(json.dumps(snapshot.to_json())))
    assert restored == snapshot
    resumed = story(restored, version=1, groups_per_step=1, no_resampling_pass_rate=1.0)
    assert resumed.ledger.retired_rows == {0}
    assert resumed.prompts(1, 2, 6, 7, num_rows=6) == [1]
    assert resumed.count("dropped/retired") == 1
    assert resumed.state(6) is None


def test_the_attempts_of_a_prompt_that_retired_meanwhile_are_forgotten(story):
    resumed = story(Snapshot(attempts=((6, 3),), retired=(0,)), groups_per_step=1)
    resumed.prompts(0, 1, 6, num_rows=6)
    resumed.want()
    assert resumed.snapshot(resumed.finish(1, *HARD)).attempts == ()


def test_a_snapshot_from_before_rows_could_retire_loads():
    old = Snapshot(3, (5,), (), {"trained": 4}, 2).to_json()
    del old["retired"], old["retired_by_batch"]
    assert Snapshot.from_json(old) == Snapshot(3, (5,), (), {"trained": 4}, 2)


def test_three_epochs_of_three_rows_add_up_across_a_resume(story):
    limits = {"groups_per_step": 1, "no_resampling_pass_rate": 1.0, "prompts_low_water": 9}
    rewards = {0: HARD, 1: EASY, 2: HARD, 3: HARD, 5: EASY, 6: HARD}
    told, issued = story(**limits), []
    told.prompts(*range(9), num_rows=3)
    for group_id, of_group in rewards.items():
        issued += told.handed_over(told.want() + told.finish(group_id, *of_group))
        told.train()
        if group_id == 2:  # killed, with the weights of an earlier batch
            snapshot = told.snapshot(told.want() + told.finish(3, *HARD))
            told = story(snapshot, version=4, **limits)
            told.prompts(*range(snapshot.watermark, 9), num_rows=3)
            told(ev.PromptsEnded())
            break
    assert told.count("dropped/retired") == 2  # 4 and 7
    for group_id in (5, 6):
        issued += told.handed_over(told.want() + told.finish(group_id, *rewards[group_id]))
        told.train()
    assert issued == [(0,), (1,), (2,), (5,), (6,)]
    assert told.handed_over(told.want()) == [()]  # 8 is of the row of 5
    assert (told.count("trained"), told.count("dropped/retired")) == (6, 3)
