"""What a checkpoint says of its run: read as it was written, or refused in a sentence."""

import json

import pytest

from learner.checkpoints.state import parse_state
from learner.ledger.snapshot import Snapshot
from protocol.errors import CheckpointError

SNAPSHOT = Snapshot(
    watermark=3,
    done=(5, 9),
    attempts=((4, 2), (6, 3)),
    counts={"trained": 5},
    batch_groups=2,
    retired=(1, 2),
    retired_by_batch=(2,),
)


def tree(**changes):
    return {
        "step": 2,
        "policy_version": 2,
        "tuning": "full",
        "model": "builtin:tiny",
        "facts": {"run_epoch": "7"},
        "ledger": SNAPSHOT.to_json(),
        **changes,
    }


def test_a_state_comes_back_as_it_was():
    state = parse_state(json.dumps(tree()).encode(), 2)
    assert (state.step, state.policy_version) == (2, 2)
    assert (state.tuning, state.model, state.facts) == ("full", "builtin:tiny", {"run_epoch": "7"})
    assert state.snapshot == SNAPSHOT


def test_an_older_state_has_no_retired_rows():
    ledger = SNAPSHOT.to_json()
    del ledger["retired"], ledger["retired_by_batch"]
    state = parse_state(json.dumps(tree(ledger=ledger)).encode(), 2)
    assert (state.snapshot.retired, state.snapshot.retired_by_batch) == ((), ())


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1]", b"null", b"1", b"\xff", b"[" * 100_000, b'{"a":' * 100_000]
)
def test_what_is_no_state_is_refused(data):
    with pytest.raises(CheckpointError, match=r"trainer\.json has a bad form"):
        parse_state(data, 2)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"step": float("inf")}, "step"),
        ({"step": 2.5}, "step"),
        ({"step": -1}, "step"),
        ({"step": True}, "step"),
        ({"policy_version": -1}, "policy_version"),
        ({"policy_version": 2**53 + 1}, "policy_version"),
        ({"policy_version": 10**4000}, "policy_version"),
        ({"tuning": None}, "tuning"),
        ({"model": ["a"]}, "model"),
        ({"facts": {"run_epoch": 7}}, "facts.run_epoch"),
        ({"facts": []}, "facts"),
        ({"ledger": None}, "ledger"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(changes, where):
    with pytest.raises(CheckpointError, match=rf"trainer\.json has a bad {where}: "):
        parse_state(json.dumps(tree(**changes)).encode(), 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"watermark": "3"},
        {"watermark": -1},
        {"watermark": 6},  # above a done one
        {"done": 5},
        {"done": ["5"]},
        {"done": [9, 5]},
        {"done": [5, 5]},
        {"attempts": [[4]]},
        {"attempts": [[4, 0]]},
        {"attempts": [[6, 2], [4, 2]]},
        {"counts": {"trained": float("nan")}},
        {"counts": {"trained": float("inf")}},
        {"counts": {"trained": 1.5}},
        {"counts": {"trained": "5"}},
        {"counts": [5]},
        {"batch_groups": -2},
        {"retired": [2, 1]},
        {"retired_by_batch": None},
    ],
)
def test_a_ledger_that_contradicts_itself_is_refused(changes):
    ledger = {**SNAPSHOT.to_json(), **changes}
    with pytest.raises(CheckpointError, match=r"trainer\.json has a bad ledger"):
        parse_state(json.dumps(tree(ledger=ledger)).encode(), 2)


def test_a_state_of_another_step_is_refused():
    with pytest.raises(CheckpointError, match=r"trainer\.json is of step 2, wanted 3"):
        parse_state(json.dumps(tree()).encode(), 3)
