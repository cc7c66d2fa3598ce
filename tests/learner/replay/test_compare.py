"""What is compared, and what a masked sample may say today."""

import numpy as np
import pytest

from learner.replay.compare import compare_figures, compare_rewards, widest_gap
from learner.replay.verdict import Verdict
from learner.step import StepResult

ROW = {"group": 1, "sample": 0}
GOOD = {"reward": 1.0, "rewards": {"r": 1.0}, "status": "ok"}
MASKED = {"reward": None, "rewards": {"r": None}, "status": "reward_timeout"}
FAILED = {"reward": None, "rewards": {"r": None}, "status": "reward_error"}


def rewards_compared(found, again, *, deterministic=False):
    verdict = Verdict(1)
    compare_rewards([{**ROW, **found}], [again], verdict, deterministic=deterministic)
    assert verdict.compared["rewards"] == "(1)"
    return [difference.key for difference in verdict.differences], verdict.remarks


@pytest.mark.parametrize("deterministic", [True, False])
def test_rewards_are_compared_exactly(deterministic):
    near = {"reward": np.nextafter(1.0, 2.0), "rewards": {"r": 1.0}, "status": "ok"}
    assert rewards_compared(GOOD, GOOD, deterministic=deterministic) == ([], [])
    assert rewards_compared(GOOD, near, deterministic=deterministic) == (["reward"], [])
    assert rewards_compared(GOOD, MASKED, deterministic=deterministic) == (
        ["reward", "rewards", "status"],
        [],
    )


def test_what_was_masked_then_is_no_difference_now():
    place = "group 1 sample 0 was masked then: reward_timeout; now "
    assert rewards_compared(MASKED, MASKED) == ([], [])
    assert rewards_compared(MASKED, GOOD) == ([], [f"{place}reward 1.0"])
    assert rewards_compared(MASKED, FAILED) == ([], [f"{place}reward_error"])


def test_a_deterministic_run_masks_again():
    assert rewards_compared(MASKED, GOOD, deterministic=True)[0] == ["reward", "rewards", "status"]
    assert rewards_compared(MASKED, FAILED, deterministic=True)[0] == ["status"]


def test_figures_that_json_cannot_hold_agree_as_null():
    figures, nothing = {"loss": float("nan"), "entropy": 1.5}, np.zeros(1, np.float32)
    result = StepResult(figures, nothing, (None,), "non_finite")
    row = {"loss": None, "entropy": 1.5, "skipped": "non_finite", "policy_version": 3, "time": 1}
    verdict = Verdict(1)
    compare_figures(row, result, 3, verdict)
    assert verdict.agrees
    compare_figures({**row, "entropy": 1.25}, result, 4, verdict)
    assert [str(found) for found in verdict.differences] == [
        "metrics.jsonl: entropy: found 1.25, wanted 1.5",
        "metrics.jsonl: policy_version: found 3, wanted 4",
    ]


def test_the_widest_gap_names_its_token(make_sample):
    samples = [
        make_sample(token_ids=(9, 5), logprobs=[-0.5, -0.5]),
        make_sample(token_ids=(9, 8, 5), logprobs=[-0.5, -3.0, -0.5], sample=1),
        make_sample(token_ids=(9,), logprobs=[-9.0], sample=2),
    ]
    computed = [np.full(2, -0.75, np.float32), np.full(3, -0.75, np.float32), None]
    assert widest_gap(samples, computed).endswith(
        "group 0 sample 1: behaviour_logprobs[1]: -3, the learner's -0.75"
    )
    assert widest_gap(samples, [None] * 3) == ""
    same = [sample.rollout.behaviour_logprobs + 1e-6 for sample in samples]
    assert widest_gap(samples, same) == ""
