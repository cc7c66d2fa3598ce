"""Groups that were scored and not trained come back with a checkpoint, once, as they were."""

from dataclasses import replace

from learner.ledger import events as ev


def asynchronous(story, **snapshot_and_version):
    return story(max_off_policy_steps=1, **snapshot_and_version)


def scored_beyond_a_batch(story):
    """Groups 0 and 1 are handed over, 2 is scored, 3 is leased; the snapshot of that moment."""
    told = asynchronous(story)
    told.prompts(0, 1, 2, 3)
    for group_id in (0, 1, 2):
        told.finish(group_id, 1.0, 0.0)
    return told, story.snapshot(told.want())


def test_a_snapshot_keeps_what_is_scored_and_in_no_batch(story):
    told, snapshot = scored_beyond_a_batch(story)
    (kept,) = snapshot.scored
    group = told.ledger.group(2)
    assert (kept.group_id, kept.row, kept.attempt, kept.actor) == (2, 2, 1, "a")
    assert (kept.lease_version, kept.oldest_version) == (0, 0)
    assert list(kept.rollouts) == [sample.rollout for sample in group.samples]
    assert [score.reward for score in kept.scores] == [1.0, 0.0]


def test_a_kept_group_is_trained_without_being_generated_again(story):
    _, snapshot = scored_beyond_a_batch(story)
    told = asynchronous(story, snapshot=snapshot, version=1)
    assert told.state(2) == "scored"
    assert told.prompts(2, 3, 4) == [3, 4]
    assert told.count("prompts_repeated") == 0
    told.prompts(2, 3, 4)
    assert told.count("prompts_repeated") == 3
    told.finish(3, 1.0, 0.0)
    assert told.handed_over(told.want()) == [(2, 3)]


def test_a_kept_group_counts_for_admission_before_its_prompt_is_read(story):
    _, snapshot = scored_beyond_a_batch(story)
    told = asynchronous(story, snapshot=snapshot, version=1)
    assert told.prompts(3, 4, 5, 6) == [3, 4, 5]  # of four that may be in flight


def test_a_kept_group_that_was_trained_before_its_prompt_is_read_is_done(story):
    _, snapshot = scored_beyond_a_batch(story)
    snapshot = replace(snapshot, done=(*snapshot.done, 3), watermark=2)
    told = story(snapshot=snapshot, version=1, groups_per_step=1, max_off_policy_steps=1)
    assert told.handed_over(told.want()) == [(2,)]
    told.train()
    assert told.prompts(2, 3, 4) == [4]
    assert told.count("trained") == 3


def test_a_kept_group_that_was_trained_before_its_prompt_is_read_is_done_for_the_next_resume(story):
    told = story(groups_per_step=1, max_off_policy_steps=1)
    told.prompts(0, 1)
    told.finish(0, 1.0, 0.0)
    told.finish(1, 1.0, 0.0)
    first = story.snapshot(told.want())
    resumed = {"groups_per_step": 1, "max_off_policy_steps": 1}
    second = story.snapshot(story(snapshot=first, version=1, **resumed).want())
    assert second.scored == ()
    assert story(snapshot=second, version=2, **resumed).prompts(1, 2) == [2]


def test_the_attempts_of_a_kept_group_are_forgotten_with_it(story):
    limits = {"groups_per_step": 1, "max_off_policy_steps": 1}
    told = story(**limits)
    told.prompts(0, 1)
    told(ev.LeaseFailed("a", 1, 1, 1, "no memory"))
    told.finish(0, 1.0, 0.0)
    told.finish(1, 1.0, 0.0)
    first = story.snapshot(told.want())
    assert first.attempts == ((1, 2),)
    second = story.snapshot(story(snapshot=first, version=1, **limits).want())
    assert second.attempts == ()


def test_a_kept_group_that_became_too_old_is_generated_again(story):
    _, snapshot = scored_beyond_a_batch(story)
    told = story(snapshot=snapshot, version=1, max_off_policy_steps=0)
    actions = told.want()
    stale = [a for a in actions if isinstance(a, ev.AttemptDiscarded)]
    assert [(a.group_id, a.reason) for a in stale] == [(2, "stale")]
    assert told.granted(actions) == [2]
    assert told.ledger.group(2).attempt == 2
    assert told.prompts(2, 3) == [3]


def test_a_kept_group_of_a_retired_row_is_trained_all_the_same(story):
    _, snapshot = scored_beyond_a_batch(story)
    snapshot = replace(snapshot, retired=(2, 3))
    told = asynchronous(story, snapshot=snapshot, version=1)
    assert told.prompts(2, 3, 4) == [4]
    assert told.state(2) == "scored"
    assert told.count("dropped/retired") == 1


def test_equal_rewards_of_a_kept_group_are_known(story):
    told = asynchronous(story)
    told.prompts(0, 1, 2)
    told.finish(0, 1.0, 0.0)
    told.finish(1, 1.0, 0.0)
    told.finish(2, 1.0, 1.0)
    snapshot = story.snapshot(told.want())
    again = asynchronous(story, snapshot=snapshot, version=1, max_refill_groups=4)
    assert again.state(2) is None
    assert again.count("dropped/zero_advantage") == 1
