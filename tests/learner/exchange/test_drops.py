import logging

import pytest

from learner.exchange.drops import Drops
from learner.ledger import events as ev


@pytest.fixture
def drops(caplog):
    caplog.set_level(logging.WARNING)
    return Drops(groups_per_step=2)


def test_a_lost_group_is_told_at_once(drops, caplog):
    drops.note(ev.GroupDropped(7, "attempts"))
    assert [record.message for record in caplog.records] == ["group 7 is dropped: attempts"]


@pytest.mark.parametrize(("quiet", "told"), [(False, 1), (True, 0)])
def test_an_attempt_is_told_of_unless_the_run_is_over(drops, caplog, quiet, told):
    caplog.set_level(logging.INFO)
    drops.note_attempt(ev.AttemptDiscarded(7, 2, "failed", (3, 4), "no memory"), quiet=quiet)
    assert len(caplog.records) == told
    if told:
        words = "group 7 attempt 2 is discarded (failed no memory), completions of [3, 4] tokens"
        assert caplog.messages == [words]


def test_replaced_groups_are_told_after_eight_batches_of_them(drops, caplog):
    for group_id in range(15):
        drops.note(ev.GroupDropped(group_id, "zero_advantage"))
    drops.note(ev.GroupDropped(15, "retired"))
    assert not caplog.records
    drops.note(ev.GroupDropped(16, "zero_advantage"))
    assert "16 groups in a row had equal rewards" in caplog.records[0].message


def test_a_batch_begins_the_count_anew(drops, caplog):
    for _ in range(2):
        for group_id in range(15):
            drops.note(ev.GroupDropped(group_id, "zero_advantage"))
        drops.hand_over()
    assert not caplog.records
