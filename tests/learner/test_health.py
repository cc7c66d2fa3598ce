"""Rows of metrics.jsonl, cut down to what the watcher reads."""

import re

import pytest

from learner.health import LASTS_STEPS, SILENT_STEPS, Health

HEALTHY = {
    "reward/mean": 0.4,
    "reward/std": 0.49,
    "entropy": 0.25,
    "mismatch_kl": 0.001,
    "clip_fraction": 0.008,
    "importance_ratio": 1.0,
    "staleness/max": 1,
    "completion/truncated_fraction": 0.0,
    "groups/zero_advantage_fraction": 0.3,
}

# steps 1, 5, ..., 37 of a quickstart: (reward/mean, entropy, mismatch_kl, zero_advantage_fraction)
QUICKSTART = [
    (0.406, 0.2484, 1.66e-14, 0.3125),
    (0.484, 0.2769, 0.0007765, 0.3125),
    (0.539, 0.2580, 0.0005863, 0.1875),
    (0.680, 0.2542, 0.0003176, 0.4375),
    (0.664, 0.2557, 0.0001897, 0.25),
    (0.875, 0.1763, 8.245e-05, 0.3125),
    (0.789, 0.1899, 0.0002168, 0.375),
    (0.805, 0.2025, 7.509e-05, 0.3125),
    (0.797, 0.1761, 0.0001137, 0.3125),
    (0.898, 0.1474, 3.408e-05, 0.4375),
]


@pytest.fixture
def watch(make_config):
    """All warnings of a run: a healthy beginning, then rows that differ from it."""

    def told(*changes, healthy_steps=6, **sections):
        health = Health(make_config(**sections))
        rows = [HEALTHY] * healthy_steps + [HEALTHY | change for change in changes]
        return [
            warning
            for step, row in enumerate(rows, start=1)
            for warning in health.warnings({"step": step, **row})
        ]

    return told


def test_a_healthy_run_is_left_in_peace(watch):
    names = ("reward/mean", "entropy", "mismatch_kl", "groups/zero_advantage_fraction")
    assert watch(*(dict(zip(names, row, strict=True)) for row in QUICKSTART), healthy_steps=0) == []


def test_a_run_that_solved_its_task_may_be_certain(watch):
    certain = {"entropy": 0.005, "reward/mean": 0.95, "completion/truncated_fraction": 1.0}
    assert watch(*[certain] * 30) == []


def test_a_symptom_is_told_once_it_lasts_and_again_after_a_while(watch):
    collapsed = {"entropy": 0.02}
    assert watch(*[collapsed] * (LASTS_STEPS - 1), {}, collapsed) == []
    assert len(watch(*[collapsed] * LASTS_STEPS)) == 1
    assert len(watch(*[collapsed] * (LASTS_STEPS + SILENT_STEPS - 1))) == 1
    assert len(watch(*[collapsed] * (LASTS_STEPS + SILENT_STEPS))) == 2


def test_an_entropy_collapse_names_the_fall_and_the_knobs(watch):
    # 0.02 < 0.1 * 0.25, the mean of the first 5 steps
    (warning,) = watch(*[{"entropy": 0.02, "reward/mean": 0.1}] * 3)
    assert "0.02 nats a token (first 0.25) at a mean reward of 0.1" in warning
    assert "learner.optimizer.learning_rate" in warning
    assert "generation.temperature" in warning
    assert watch(*[{"entropy": 0.03}] * 3) == []


def test_a_policy_that_never_had_entropy_is_told_too(watch):
    (warning,) = watch(*[{"entropy": 0.009}] * 3, healthy_steps=0)
    assert "0.009 nats a token at" in warning


@pytest.mark.parametrize(
    ("mean", "std", "cause", "remedy"),
    [
        (0.0, 0.0, "reward 0. The prompts are too hard .* or the reward function is", "easier"),
        (1.0, 0.0, "reward 1, the prompts are solved", r"data\.no_resampling_pass_rate=0\.9"),
        (0.5, 0.5, "each prompt is solved always or never", r"learner\.max_refill_groups"),
    ],
)
def test_equal_rewards_are_told_apart(watch, mean, std, cause, remedy):
    equal = {"groups/zero_advantage_fraction": 1.0, "reward/mean": mean, "reward/std": std}
    (warning,) = watch(*[equal] * 3, healthy_steps=0)
    assert warning.startswith("nothing is learned")
    assert re.search(f"{cause}.*{remedy}", warning)


def test_rewards_that_fell_to_nothing_are_the_policys_collapse(watch):
    equal = {"groups/zero_advantage_fraction": 1.0, "reward/mean": 0.0, "reward/std": 0.0}
    (warning,) = watch(*[equal] * 3)
    assert "have reward 0, though the mean was 0.4 before. The policy has collapsed" in warning
    assert "learner.optimizer.learning_rate (1e-06)" in warning


def test_cut_off_completions_name_the_bound(watch):
    (warning,) = watch(
        *[{"completion/truncated_fraction": 0.95}] * 3, generation={"max_completion_tokens": 64}
    )
    assert "95% of the completions are cut off at generation.max_completion_tokens = 64" in warning


@pytest.mark.parametrize(
    "change", [{"clip_fraction": 0.6}, {"importance_ratio": 0.4}, {"importance_ratio": 2.5}]
)
def test_a_policy_far_from_the_one_that_sampled_names_what_to_lower(watch, change):
    (warning,) = watch(*[change] * 3, learner={"max_off_policy_steps": 4})
    assert "staleness up to 1" in warning
    assert "learner.optimizer.learning_rate (1e-06) or learner.max_off_policy_steps (4)" in warning
    (synchronous,) = watch(*[change] * 3, learner={"max_off_policy_steps": 0})
    assert "max_off_policy_steps" not in synchronous


def test_a_mismatch_without_staleness_is_a_fault_and_with_it_a_matter_of_degree(watch):
    (fault,) = watch(*[{"mismatch_kl": 0.02, "staleness/max": 0}] * 3)
    assert "policy.compute_dtype=float32" in fault
    assert watch(*[{"mismatch_kl": 0.14}] * 3) == []  # ten times 0.015 is 0.15
    (moved,) = watch(*[{"mismatch_kl": 0.16}] * 3)
    assert "above 0.15" in moved
    several = {"algorithm": {"name": "ppo", "epochs": 2}}
    assert watch(*[{"mismatch_kl": 0.02, "staleness/max": 0}] * 3, **several) == []


def test_masked_samples_name_the_status_and_its_remedy(watch):
    # the counts add up over the run: 20 more of 32 samples a step, 15 of them for time
    rows = [{"masked/reward_timeout": 15 * n, "masked/reward_error": 5 * n} for n in range(1, 4)]
    sections = {"learner": {"groups_per_step": 4}, "generation": {"group_size": 8}}
    (warning,) = watch(*rows, **sections)
    assert "20 completions were masked during a step of 32, most for reward_timeout" in warning
    assert "timeout_seconds" in warning
    assert watch(*[{"masked/reward_timeout": 500}] * 5, **sections) == []  # all in one step


def test_a_skipped_step_without_figures_is_no_symptom(watch):
    skipped = dict.fromkeys(HEALTHY) | {"reward/mean": float("nan"), "skipped": "masked"}
    skipped["groups/zero_advantage_fraction"] = 1.0
    assert watch(*[skipped] * 5) == []
