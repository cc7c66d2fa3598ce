"""Names of figures, as users of TRL know them."""

import math

from learner.tracker_names import evaluation_figures, step_figures


def test_figures_have_trl_s_names_or_their_own():
    row = {
        "step": 3,
        "time": 1.7e9,
        "reward/mean": 0.5,
        "reward/std": 0.25,
        "reward/exact_match/mean": 0.75,
        "reward/rewards/mine.py:far/seconds/mean": 0.125,
        "loss": -0.5,
        "kl_ref": 0.01,
        "clip_fraction": 0.0,
        "importance_ratio": 1.0,
        "completion_tokens/mean": 7,
        "completion/truncated_fraction": 0.1,
        "groups/zero_advantage_fraction": 0.2,
        "seconds/step": 1.5,
        "staleness/max": 2,
        "memory/learner/peak_bytes": 211959808,
    }
    assert step_figures(row) == {
        "train/global_step": 3,
        "train/reward": 0.5,
        "train/reward_std": 0.25,
        "train/rewards/exact_match/mean": 0.75,
        "train/rewards/rewards/mine.py:far/seconds/mean": 0.125,
        "train/loss": -0.5,
        "train/kl": 0.01,
        "train/clip_ratio/region_mean": 0.0,
        "train/sampling/importance_sampling_ratio/mean": 1.0,
        "train/completions/mean_length": 7,
        "train/completions/clipped_ratio": 0.1,
        "train/frac_reward_zero_std": 0.2,
        "train/step_time": 1.5,
        "train/staleness/max": 2,
        "train/memory/learner/peak_bytes": 211959808,
    }


def test_what_is_no_finite_number_is_no_figure():
    row = {"step": 1, "loss": None, "grad_norm": math.nan, "skipped": "masked", "entropy": math.inf}
    assert step_figures(row) == {"train/global_step": 1}


def test_an_evaluation_stands_under_its_evaluator():
    row = {"step": 2, "policy_version": 1, "evaluator": "accuracy", "n": 8, "time": 1.7e9}
    assert evaluation_figures({**row, "accuracy": 0.5, "spread": math.nan}) == {
        "train/global_step": 2,
        "eval/accuracy/policy_version": 1,
        "eval/accuracy/n": 8,
        "eval/accuracy/accuracy": 0.5,
    }
