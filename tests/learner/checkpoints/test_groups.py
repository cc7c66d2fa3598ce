"""Scored groups as bytes: nothing is lost, nothing that is wrong comes back."""

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.checkpoints.groups import check_groups, pack_groups, unpack_groups
from learner.ledger.snapshot import ScoredGroup, Snapshot
from protocol.errors import CheckpointError
from protocol.messages import Rollout, Score


def plain(group):
    """A group as values that compare."""
    return [
        (group.group_id, group.row, group.attempt, group.actor),
        (group.lease_version, group.oldest_version),
        [rollout.model_dump() for rollout in group.rollouts],
        [score.model_dump() for score in group.scores],
    ]


def test_groups_come_back_as_they_were(scored_group):
    groups = (scored_group(4), scored_group(9))
    found = unpack_groups(pack_groups(groups))
    assert [plain(group) for group in found] == [plain(group) for group in groups]
    assert isinstance(found[0].rollouts[0], Rollout)
    assert isinstance(found[0].scores[0], Score)
    assert found[0].rollouts[0].token_ids.dtype == np.int32


def test_no_groups_are_no_groups():
    assert unpack_groups(pack_groups(())) == ()


def test_facts_and_masks_come_back(make_sample):
    sample = make_sample(reward=None)
    named = sample.score.rewards[0].model_copy(update={"facts": {"lines": 3, "why": "x", "q": 0.5}})
    score = sample.score.model_copy(update={"rewards": (named,), "detail": "it failed"})
    group = ScoredGroup(0, 0, 1, "a", 0, 0, (sample.rollout,), (score,))
    [found] = unpack_groups(pack_groups((group,)))
    assert plain(found) == plain(group)


def test_the_same_groups_are_the_same_bytes(scored_group):
    groups = (scored_group(4), scored_group(9))
    packed = pack_groups(groups)
    assert pack_groups(unpack_groups(packed)) == packed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda group: group.pop("actor"), "bad groups.0.actor"),
        (lambda group: group.update(row=-1), "bad groups.0.row"),
        (lambda group: group.update(rollouts=[]), "bad groups.0.rollouts"),
        (lambda group: group["scores"].pop(), "group 4 is not whole"),
        (lambda group: group["rollouts"].reverse(), "group 4 is not whole"),
        (lambda group: group["rollouts"][0].update(token_ids=b"123"), "token_ids"),
        (lambda group: group["scores"][0].update(reward=None), "with status"),
    ],
)
def test_what_contradicts_itself_is_refused(scored_group, change, message):
    tree = msgpack.unpackb(pack_groups((scored_group(4),)))
    change(tree["groups"][0])
    with pytest.raises(CheckpointError, match=message):
        unpack_groups(msgpack.packb(tree))


@pytest.mark.parametrize("ids", [(4, 4), (9, 4)])
def test_groups_that_are_doubled_or_out_of_order_are_refused(scored_group, ids):
    with pytest.raises(CheckpointError, match=rf"group {ids[1]} comes after group {ids[0]}"):
        unpack_groups(pack_groups(tuple(map(scored_group, ids))))


def test_groups_that_fit_their_checkpoint_and_the_run_are_taken(scored_group):
    check_groups((scored_group(3), scored_group(6)), Snapshot(watermark=3, done=(4, 5)), 2)


def test_a_group_of_another_size_than_the_runs_is_refused(scored_group):
    with pytest.raises(CheckpointError, match="group 4 has 2 rollouts, wanted 8"):
        check_groups((scored_group(4),), Snapshot(), 8)


@pytest.mark.parametrize("snapshot", [Snapshot(watermark=5), Snapshot(watermark=3, done=(4, 6))])
def test_a_group_that_is_done_is_refused(scored_group, snapshot):
    with pytest.raises(CheckpointError, match="group 4 is one that is done already"):
        check_groups((scored_group(4),), snapshot, 2)


@given(st.binary(max_size=200))
def test_garbage_is_refused_with_one_kind_of_error(data):
    with pytest.raises(CheckpointError):
        unpack_groups(data)


def test_every_cut_is_refused(scored_group):
    packed = pack_groups((scored_group(4),))
    for length in range(len(packed)):
        with pytest.raises(CheckpointError):
            unpack_groups(packed[:length])
