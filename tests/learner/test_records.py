"""Rows of the run folder, by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from learner.records import StepClock, evaluation_row, metrics_row, rollout_rows
from learner.run_folder import finite
from learner.step import StepResult
from protocol.messages import NamedReward

# DESIGN.md, section 8: what every row holds at least
METRICS_KEYS = [
    "step",
    "policy_version",
    "time",
    "reward/mean",
    "reward/std",
    "reward/exact_match/mean",
    "loss",
    "kl_ref",
    "mismatch_kl",
    "entropy",
    "grad_norm",
    "learning_rate",
    "clip_fraction",
    "staleness/mean",
    "staleness/max",
    "completion_tokens/mean",
    "completion/truncated_fraction",
    "groups/zero_advantage_fraction",
    "tokens_per_second",
    "samples_per_second",
    "seconds/step",
    "seconds/wait",
    "seconds/train",
    "seconds/publish",
    "idle/actor",
    "idle/reward_worker",
    "idle/learner",
    "dropped/stale",
]
ROLLOUT_KEYS = [
    "group",
    "prompt_id",
    "sample",
    "attempt",
    "actor",
    "prompt",
    "completion",
    "token_ids",
    "behaviour_logprobs",
    "logprobs",
    "rewards",
    "reward",
    "advantage",
    "policy_versions",
    "finish_reason",
    "status",
]

FIGURES = {
    "loss": 0.5,
    "learning_rate": 1e-4,
    "mismatch_kl": 0.01,
    "entropy": 1.5,
    "clip_fraction": 0.1,
    "grad_norm": 2.0,
}


@pytest.fixture
def samples(make_sample):
    """Rewards 1, 0 and a masked one in group 0; 0.5, 0.5 in group 1."""
    return [
        make_sample(token_ids=(9, 5), reward=1.0, versions=((6, 2),)),
        make_sample(token_ids=(9, 9, 9, 9), reward=0.0, sample=1, finish_reason="length"),
        make_sample(token_ids=(9, 5), reward=None, rewards={"exact_match": None}, sample=2),
        make_sample(token_ids=(8,), reward=0.5, group=1, versions=((7, 1),)),
        make_sample(token_ids=(8, 8, 8), reward=0.5, group=1, versions=((5, 1), (7, 2)), sample=1),
    ]


def make_result(samples, advantages=(1.0, -1.0, 0.0, 0.0, 0.0), skipped="", figures=None):
    logprobs = tuple(
        None
        if sample.score.reward is None
        else np.full(len(sample.rollout.token_ids), -0.25, np.float32)
        for sample in samples
    )
    return StepResult(
        FIGURES if figures is None else figures,
        np.array(advantages, np.float32),
        logprobs,
        skipped,
    )


def make_row(samples, result, policy_version=8, counts=None):
    clock = StepClock(100.0, 2.0, 1.0, 0.25)
    return metrics_row(
        step=3,
        policy_version=policy_version,
        samples=samples,
        result=result,
        clock=clock,
        now=104.0,
        counts=counts or {"dropped/stale": 2, "ready": 5, "peers/actor": 1, "trained": 6},
    )


def test_a_metrics_row_holds_every_promised_key(samples):
    row = make_row(samples, make_result(samples))
    assert set(METRICS_KEYS) <= row.keys()
    json.dumps(finite(row), allow_nan=False)


@pytest.mark.parametrize("figures", [{}, {"loss": math.nan, "learning_rate": 1e-4}])
def test_a_skipped_steps_row_holds_them_too(samples, figures):
    skipped = make_result(samples, skipped="non_finite", figures={"learning_rate": 0.0, **figures})
    row = finite(make_row(samples, skipped))
    assert set(METRICS_KEYS) <= row.keys()
    assert row["skipped"] == "non_finite"
    for key in ("loss", "kl_ref", "mismatch_kl", "entropy", "grad_norm", "clip_fraction"):
        assert row[key] is None


def test_a_steps_digests_stand_in_its_row(samples):
    result, clock = make_result(samples), StepClock(100.0)
    facts = {"step": 3, "policy_version": 8, "samples": samples, "result": result, "clock": clock}
    digests = {"digest/weights": "4f3a", "digest/rollouts": "00ff"}
    row = metrics_row(**facts, now=104.0, counts={}, digests=digests)
    assert {key: row[key] for key in row if key.startswith("digest/")} == digests


def test_reward_and_completion_figures_by_hand(samples):
    row = make_row(samples, make_result(samples))
    # rewards 1, 0, 0.5, 0.5: mean 0.5, squares of differences 0.25 0.25 0 0 -> std sqrt(0.125)
    assert row["reward/mean"] == pytest.approx(0.5)
    assert row["reward/std"] == pytest.approx(math.sqrt(0.125))
    assert row["reward/exact_match/mean"] == pytest.approx(0.5)
    # lengths 2 4 2 1 3: mean 2.4, one of five cut off
    assert row["completion_tokens/mean"] == pytest.approx(2.4)
    assert row["completion/truncated_fraction"] == pytest.approx(0.2)
    # 12 tokens, 5 samples in 104 - 100 = 4 seconds
    assert row["tokens_per_second"] == pytest.approx(3.0)
    assert row["samples_per_second"] == pytest.approx(1.25)
    seconds = [row[f"seconds/{name}"] for name in ("step", "wait", "train", "publish")]
    assert seconds == [4.0, 2.0, 1.0, 0.25]


def test_the_idle_share_of_each_role_stands_in_a_row_and_null_where_it_is_unknown(samples):
    row = make_row(samples, make_result(samples), counts={"idle/actor": 0.25})
    assert row["idle/learner"] == 0.5  # it waited for 2 of 4 seconds
    assert (row["idle/actor"], row["idle/reward_worker"]) == (0.25, None)


def test_staleness_is_counted_from_the_version_that_was_trained(samples):
    # oldest versions 6 0 0 7 5; the step made version 8 of version 7: staleness 1 7 7 0 2
    row = make_row(samples, make_result(samples))
    assert row["staleness/mean"] == pytest.approx(17 / 5)
    assert row["staleness/max"] == 7
    # a skipped step leaves the version: it would have been 2 8 8 1 3
    skipped = make_row(samples, make_result(samples, skipped="masked"))
    assert (skipped["staleness/mean"], skipped["staleness/max"]) == (pytest.approx(22 / 5), 8)


def test_groups_that_teach_nothing_are_counted_by_their_advantages(samples):
    fraction = "groups/zero_advantage_fraction"
    assert make_row(samples, make_result(samples))[fraction] == 0.5
    assert make_row(samples, make_result(samples, (0.0,) * 5))[fraction] == 1.0
    by_token = np.zeros((5, 4), np.float32)
    by_token[0, 1] = 0.5  # the second of two tokens
    by_token[3, 3] = 9.0  # padding
    assert make_row(samples, make_result(samples, by_token))[fraction] == 0.5


def test_only_what_is_of_interest_later_is_taken_from_the_counts(samples):
    counts = {"dropped/stale": 1, "discarded/failed": 2, "masked/reward_timeout": 3, "ready": 4}
    row = make_row(samples, make_result(samples), counts=counts)
    assert {key: row[key] for key in counts if key in row} == {
        "dropped/stale": 1,
        "discarded/failed": 2,
        "masked/reward_timeout": 3,
    }


def test_a_batch_of_masked_samples_has_no_rewards(make_sample):
    samples = [make_sample(reward=None, rewards={})]
    row = finite(make_row(samples, make_result(samples, (0.0,), skipped="masked")))
    assert row["reward/mean"] is None
    assert row["reward/std"] is None
    assert row["groups/zero_advantage_fraction"] == 1.0


def test_a_rollout_row_holds_every_promised_key_and_its_own_numbers(samples):
    rows = list(rollout_rows(samples, make_result(samples)))
    assert len(rows) == 5
    assert all(set(ROLLOUT_KEYS) == row.keys() for row in rows)
    assert finite(rows[4]) == {
        "group": 1,
        "prompt_id": "prompt-1",
        "sample": 1,
        "attempt": 1,
        "actor": "actor-1",
        "prompt": "1+1=",
        "completion": "completion 1/1",
        "token_ids": [8, 8, 8],
        "behaviour_logprobs": [-0.5, -0.5, -0.5],
        "logprobs": [-0.25, -0.25, -0.25],
        "rewards": {"exact_match": 0.5},
        "reward": 0.5,
        "advantage": 0.0,
        "policy_versions": [[5, 1], [7, 2]],
        "finish_reason": "stop",
        "status": "ok",
    }
    assert json.loads(json.dumps(rows)) == rows


def test_a_masked_rollout_has_a_row_that_says_why(samples):
    row = list(rollout_rows(samples, make_result(samples)))[2]
    assert (row["reward"], row["status"], row["logprobs"]) == (None, "reward_error", None)
    assert row["advantage"] == 0.0


def test_advantages_by_token_are_those_of_its_tokens(samples):
    by_token = np.arange(20, dtype=np.float32).reshape(5, 4)
    rows = list(rollout_rows(samples, make_result(samples, by_token)))
    assert rows[0]["advantage"] == [0.0, 1.0]
    assert rows[1]["advantage"] == [4.0, 5.0, 6.0, 7.0]


def test_an_evaluation_row_counts_prompts_unless_the_evaluator_did():
    row = evaluation_row(10, 9, "accuracy", {"accuracy": 0.5, "n": 3}, 4)
    assert {**row, "time": 0} == {
        "step": 10,
        "policy_version": 9,
        "evaluator": "accuracy",
        "n": 3,
        "accuracy": 0.5,
        "time": 0,
    }
    assert evaluation_row(10, 9, "mine", {"figure": 0.5}, 4)["n"] == 4


def test_facts_stand_in_the_rollouts_and_in_the_metrics(make_sample):
    said = [
        NamedReward(name="code", reward=1.0, seconds=0.5, facts={"verdict": "passed", "cpu": 1}),
        NamedReward(name="code", reward=0.0, seconds=1.5, facts={"verdict": "failed", "cpu": 2.0}),
        NamedReward(name="code", reward=0.0, facts={"verdict": "failed", "detail": "two words"}),
        NamedReward(name="code", reward=None, status="reward_timeout", seconds=2.0),
    ]
    samples = [make_sample(sample=index) for index in range(4)]
    samples = [
        replace(sample, score=sample.score.model_copy(update={"rewards": (named,)}))
        for sample, named in zip(samples, said, strict=True)
    ]
    result = make_result(samples, (0.0,) * 4)
    row = make_row(samples, result)
    assert row["reward/code/mean"] == pytest.approx(1 / 3)
    assert row["reward/code/seconds/mean"] == 1.0  # (0.5 + 1.5 + 0.0 + 2.0) / 4
    assert row["reward/code/cpu/mean"] == 1.5
    assert row["reward/code/verdict/failed"] == pytest.approx(2 / 3)
    assert row["reward/code/verdict/passed"] == pytest.approx(1 / 3)
    assert not any("detail" in key for key in row)  # free text
    rows = list(rollout_rows(samples, result))
    assert rows[0]["facts"] == {"code": {"verdict": "passed", "cpu": 1}}
    assert set(rows[3]) == set(ROLLOUT_KEYS)


def test_only_the_most_frequent_words_of_a_fact_become_keys(make_sample):
    samples = [
        replace(
            (sample := make_sample(sample=index)),
            score=sample.score.model_copy(
                update={"rewards": (NamedReward(name="r", facts={"id": f"id{index % 20}"}),)}
            ),
        )
        for index in range(30)
    ]
    row = make_row(samples, make_result(samples, (0.0,) * 30))
    shares = {key: value for key, value in row.items() if key.startswith("reward/r/id/")}
    assert shares == {f"reward/r/id/id{index}": pytest.approx(2 / 30) for index in range(10)}
