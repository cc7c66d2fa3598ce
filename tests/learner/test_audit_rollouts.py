"""Each contradiction of a rollout is told with its place; test_audit.py plants them in folders."""

from typing import Any

import pytest

from learner.audit_files import RunFiles
from learner.audit_rollouts import changed_files, stale, wrong_prompts, wrong_rewards
from learner.data.sources import Row
from learner.data.stream import PromptStream
from learner.digests import ROLLOUTS

PROMPT = Row("p", [{"role": "user", "content": "1+1="}], {})


@pytest.fixture
def run_of(make_config):
    def make(metrics: dict[str, Any], rollout: dict[str, Any], configs=None) -> RunFiles:
        row = {"step": 1, "policy_version": 2, "skipped": "", "staleness/max": 1, **metrics}
        sound = {"group": 0, "sample": 0, "prompt_id": "p", "prompt": PROMPT.prompt}
        sound |= {"policy_versions": [[0, 1], [1, 2]], "reward": 1.0, "status": "ok"}
        rollouts = {1: [{**sound, **rollout}]}
        args = (rollouts, None, {}, 1, False, configs or {}, {1: "abc"})
        return RunFiles(make_config(), [row], [], *args)

    return make


def found(run: RunFiles) -> list[str]:
    stream = PromptStream(1, 0, epochs=1)
    checks = (changed_files(run), wrong_prompts(run, stream, [PROMPT]), stale(run))
    return [text for check in (*checks, wrong_rewards(run)) for text in check]


def test_a_sound_rollout_passes(run_of):
    assert found(run_of({}, {})) == []
    assert found(run_of({ROLLOUTS: "abc"}, {})) == []


@pytest.mark.parametrize(
    ("metrics", "rollout", "told"),
    [
        ({ROLLOUTS: "d"}, {}, "the file of step 1 has digest/rollouts abc, metrics.jsonl says d"),
        ({}, {"prompt": "1+1="}, "group 0 sample 0 of step 1 has another prompt than the data: "),
        ({}, {"prompt_id": "q"}, "group 0 of step 1 is q, wanted p"),
        ({}, {"group": 1}, "group 1 of step 1 is p, wanted no training prompt"),
        ({"staleness/max": 0}, {}, "step 1 says staleness/max 0, found 1"),
        ({"policy_version": 1}, {}, "step 1 has staleness -1 to 0, allowed 0 to 1"),
        ({}, {"reward": None}, "group 0 sample 0 of step 1 has status ok and reward None"),
    ],
)
def test_what_contradicts_is_told_with_its_place(run_of, metrics, rollout, told):
    assert found(run_of(metrics, rollout))[0].startswith(told)


def test_the_bound_is_that_of_the_steps_run_epoch(run_of, make_config):
    configs = {2: make_config(learner={"max_off_policy_steps": 0})}
    assert found(run_of({"run_epoch": 1}, {}, configs)) == []
    assert found(run_of({"run_epoch": 2}, {}, configs)) == [
        "step 1 has staleness 0 to 1, allowed 0 to 0"
    ]
