"""Which groups may start, and which make the next batch."""

import pytest

from learner.ledger import events as ev
from learner.ledger.admission import (
    LedgerLimits,
    choose_batch,
    oldest_admissible_version,
    stale_groups,
)
from learner.ledger.groups import Group
from tests.learner.ledger.history import History, granted


def test_synchronous_admission_grants_exactly_one_batch():
    history = History(max_off_policy_steps=0)
    history.prompts(*range(9))
    assert granted(history.actor()) == [("a", 0), ("a", 1)]


def test_admission_grants_one_more_batch_for_each_off_policy_step():
    history = History(max_off_policy_steps=2)
    history.prompts(*range(9))
    assert granted(history.actor()) == [("a", i) for i in range(6)]
    assert history.ledger.counts()["leased"] == 6
    assert history.ledger.counts()["ready"] == 3


def test_an_actor_that_is_behind_gets_only_what_will_still_be_fresh():
    # groups 0 and 1 train at version 5, 2 and 3 at version 6; version 4 is admissible up to 5
    history = History(version=5, max_off_policy_steps=1)
    history.prompts(*range(9))
    assert granted(history.actor("old", version=3)) == []
    assert granted(history.actor("behind", version=4)) == [("behind", 0), ("behind", 1)]
    assert granted(history.actor("current", version=5)) == [("current", 2), ("current", 3)]


@pytest.mark.parametrize(
    ("in_flight", "oldest"), [(0, 8), (2, 8), (3, 9), (5, 9), (6, 10), (8, 10), (9, 11)]
)
def test_the_oldest_admissible_version_rises_with_every_full_batch_ahead(in_flight, oldest):
    limits = LedgerLimits(groups_per_step=3, group_size=1, max_off_policy_steps=2)
    assert oldest_admissible_version(limits, 10, in_flight) == oldest


def test_an_actor_without_weights_gets_nothing():
    history = History(max_off_policy_steps=3)
    history.prompts(0)
    assert granted(history.actor(version=-1)) == []


def test_a_version_that_the_learner_does_not_have_counts_as_none_for_good():
    history = History(max_off_policy_steps=3)
    history.actor("b", version=0)
    history.actor("lost-lineage", version=1)
    history.prompts(0, 1)
    history.finish(0, "b")
    history.worker()
    history.score(0)
    history.finish(1, "b")
    history(ev.BatchWanted())
    history(ev.PeerLost("b"))
    history(ev.BatchTrained())
    assert granted(history.prompts(2)) == []


def test_a_batch_leaves_no_more_old_groups_behind_than_fit_into_the_next_ones():
    limits = LedgerLimits(groups_per_step=1, group_size=1, max_off_policy_steps=2)
    young, old, older = (make_group(i, version) for i, version in ((7, 2), (1, 1), (2, 1)))
    # at version 2, 1 and 2 may be trained up to version 3: without one of them they cannot both be
    assert choose_batch([young], [old, older], 2, limits) is None
    assert choose_batch([young], [old], 2, limits) == [young]
    assert choose_batch([young, old], [older], 2, limits) == [old]
    # and at version 3 group 1 must be in this batch
    assert choose_batch([young], [old], 3, limits) is None
    # the k-th that is left behind has k // groups_per_step more batches to wait
    pairs = LedgerLimits(groups_per_step=2, group_size=1, max_off_policy_steps=2)
    batch = [make_group(8, 2), make_group(9, 2)]
    rest = [make_group(i, 1) for i in range(3)]
    assert choose_batch(batch, rest[:2], 2, pairs) == batch
    assert choose_batch(batch, rest, 2, pairs) is None
    assert choose_batch([young], [], 2, pairs) is None  # one short, and it is not said to be final
    # nothing is unfinished: nothing to wait for
    assert choose_batch([young, old, older], [], 3, limits) == [old]


def make_group(group_id, version):
    group = Group(group_id, "train", 1)
    group.lease("a", version)
    return group


def test_the_hard_bound_takes_out_exactly_what_is_too_old():
    limits = LedgerLimits(groups_per_step=1, group_size=1, max_off_policy_steps=2)
    groups = [make_group(version, version) for version in range(6)]
    assert [group.group_id for group in stale_groups(groups, 5, limits)] == [0, 1, 2]
