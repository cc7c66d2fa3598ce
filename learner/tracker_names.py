"""Figures under the names that users of TRL know; the table is `TRL_NAMES`.

TRL's GRPOTrainer logs under these names, and transformers puts `train/` before them. What TRL has
no name for keeps its own, also under `train/`. Evaluations are `eval/<evaluator>/<figure>`.

Some figures are TRL's only nearly:
    reward_std: of the whole batch, as TRL's with `scale_rewards="batch"`; TRL's default is the mean
        of the groups' own.
    frac_reward_zero_std: groups in which no completion has an advantage. For algorithms that
        compare within a group these are the groups without spread, as in TRL.
    kl: with the estimator that the algorithm names; TRL's is k3.
    sampling/importance_sampling_ratio/mean: to the policy that sampled, which may be some versions
        older, before any bound; TRL's is after.
    step_time: from one step's end to the next one's, the wait for completions included.
TRL's `num_tokens` and `epoch` have no counterpart.
"""

import math
from collections.abc import Mapping
from typing import Any

TRL_NAMES = {
    "step": "global_step",
    "reward/mean": "reward",
    "reward/std": "reward_std",
    "kl_ref": "kl",
    "completion_tokens/mean": "completions/mean_length",
    "completion/truncated_fraction": "completions/clipped_ratio",
    "groups/zero_advantage_fraction": "frac_reward_zero_std",
    "clip_fraction": "clip_ratio/region_mean",
    "importance_ratio": "sampling/importance_sampling_ratio/mean",
    "seconds/step": "step_time",
}
"""Keys of metrics.jsonl -> TRL's. `loss`, `grad_norm`, `learning_rate` and `entropy` are the same;
`reward/<function>/...` is `rewards/<function>/...`."""

GLOBAL_STEP = "train/global_step"
"""The axis of a dashboard: it stands in every report."""

_NO_FIGURES = frozenset({"time", "evaluator"})


def step_figures(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row of metrics.jsonl by TRL's names."""
    return {f"train/{_trl_name(key)}": value for key, value in _numbers(row).items()}


def evaluation_figures(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row of eval.jsonl, and the step."""
    numbers = _numbers(row)
    step = numbers.pop("step")
    named = {f"eval/{row['evaluator']}/{key}": value for key, value in numbers.items()}
    return {GLOBAL_STEP: step, **named}


def _trl_name(key: str) -> str:
    if key in TRL_NAMES:
        return TRL_NAMES[key]
    if key.startswith("reward/"):
        return "rewards/" + key.removeprefix("reward/")
    return key


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: value
        for key, value in row.items()
        if isinstance(value, int | float) and math.isfinite(value) and key not in _NO_FIGURES
    }
