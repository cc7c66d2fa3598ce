"""Lines that are rows, and lines that are none."""

import json
from pathlib import Path

import pytest

from learner.audit_rows import MetricsRow, RolloutRow, read_rows, whole_lines
from protocol.errors import ConfigError

METRICS = {"step": 1, "policy_version": 1, "skipped": "", "loss": None}
ROLLOUT = {
    "group": 0,
    "sample": 0,
    "attempt": 1,
    "prompt_id": "p",
    "prompt": "1+1=",
    "actor": "actor-1",
    "policy_versions": [[0, 3]],
    "reward": None,
    "status": "reward_error",
}


def read(row: object, kind: type = MetricsRow):
    return read_rows(json.dumps(row).encode() + b"\n", Path("a.jsonl"), kind)


def test_a_row_is_given_whole():
    assert read(METRICS) == [METRICS]
    assert read({**ROLLOUT, "more": [1]}, RolloutRow) == [{**ROLLOUT, "more": [1]}]
    assert read_rows(b"", Path("a.jsonl"), MetricsRow) == []


def test_only_a_file_that_grows_may_end_within_a_line():
    cut = json.dumps(METRICS).encode() + b'\n{"st'
    assert read_rows(whole_lines(cut), Path("a.jsonl"), MetricsRow) == [METRICS]
    assert whole_lines(b'{"st') == b""
    with pytest.raises(ConfigError, match=r"^a\.jsonl:2 is damaged: no JSON"):
        read_rows(cut, Path("a.jsonl"), MetricsRow)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"step": "1"}, "step: "),
        ({"step": True}, "step: "),
        ({"step": 0}, "step: "),
        ({"policy_version": None}, "policy_version: "),
        ({"skipped": None}, "skipped: "),
        ({"run_epoch": "2"}, "run_epoch: "),
    ],
)
def test_a_value_of_another_kind_is_named(change: dict, told: str):
    with pytest.raises(ConfigError, match=rf"^a\.jsonl:1 is damaged: {told}"):
        read({**METRICS, **change})


@pytest.mark.parametrize("versions", [[], [[]], [["0", 3]], 3])
def test_versions_that_are_none_are_named(versions: object):
    with pytest.raises(ConfigError, match=r"is damaged: policy_versions"):
        read({**ROLLOUT, "policy_versions": versions}, RolloutRow)


def test_a_key_that_is_gone_is_named():
    with pytest.raises(ConfigError, match="is damaged: actor: Field required"):
        read({key: ROLLOUT[key] for key in ROLLOUT if key != "actor"}, RolloutRow)
