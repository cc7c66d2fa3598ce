"""Rows of the run folder: what a step, an evaluation and a rollout look like on disk."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learner.samples import ScoredSample
from learner.step import StepResult

KEPT_COUNTS = (
    "dropped/",
    "discarded/",
    "masked/",
    "peers/",
    "memory/",
    "duplicates",
    "fenced",
    "trained",
)
"""Which of the exchange's counts stand in a metrics row, by how their names begin."""

STEP_FIGURES = ("loss", "kl_ref", "mismatch_kl", "entropy", "grad_norm", "clip_fraction")
"""Stand in every row: null where a skipped step, or a run without a reference policy, has none."""


@dataclass
class StepClock:
    """Seconds that one step spent on what."""

    started: float
    wait_seconds: float = 0.0
    train_seconds: float = 0.0
    publish_seconds: float = 0.0
    publish_bytes: int = 0


def metrics_row(
    *,
    step: int,
    policy_version: int,
    samples: Sequence[ScoredSample],
    result: StepResult,
    clock: StepClock,
    now: float,
    counts: Mapping[str, int],
) -> dict[str, Any]:
    """One row of metrics.jsonl.

    Args:
        step: batches handed to the trainer so far, this one included.
        policy_version: after the step.
        samples: the batch.
        result: what the step did.
        clock: its seconds.
        now: when it ended.
        counts: of the exchange.
    """
    seconds = max(now - clock.started, 1e-9)
    num_tokens = sum(len(sample.rollout.token_ids) for sample in samples)
    return {
        "step": step,
        "policy_version": policy_version,
        "time": time.time(),
        **_reward_figures(samples),
        **dict.fromkeys(STEP_FIGURES),
        **result.metrics,
        **_staleness_figures(samples, policy_version - (0 if result.skipped else 1)),
        **_completion_figures(samples),
        "groups/zero_advantage_fraction": _zero_advantage_fraction(samples, result.advantages),
        "tokens_per_second": num_tokens / seconds,
        "samples_per_second": len(samples) / seconds,
        "seconds/step": seconds,
        "seconds/wait": clock.wait_seconds,
        "seconds/train": clock.train_seconds,
        "seconds/publish": clock.publish_seconds,
        "publish_bytes": clock.publish_bytes,
        "skipped": result.skipped,
        **{name: n for name, n in counts.items() if name.startswith(KEPT_COUNTS)},
    }


def rollout_rows(samples: Sequence[ScoredSample], result: StepResult) -> Iterator[dict[str, Any]]:
    """One row for every rollout of a batch, masked ones included."""
    for index, sample in enumerate(samples):
        rollout, score = sample.rollout, sample.score
        logprobs = result.logprobs[index]
        yield {
            "group": rollout.group_id,
            "prompt_id": sample.prompt_id,
            "sample": rollout.sample,
            "attempt": rollout.attempt,
            "actor": sample.actor,
            "prompt": sample.prompt,
            "completion": rollout.completion,
            "token_ids": rollout.token_ids.tolist(),
            "behaviour_logprobs": rollout.behaviour_logprobs.tolist(),
            "logprobs": None if logprobs is None else logprobs.tolist(),
            "rewards": {named.name: named.reward for named in score.rewards},
            "reward": score.reward,
            "advantage": _advantage(result.advantages, index, sample).tolist(),
            "policy_versions": [list(run) for run in rollout.policy_versions],
            "finish_reason": rollout.finish_reason,
            "status": score.status,
        }


def evaluation_row(
    step: int, policy_version: int, name: str, figures: Mapping[str, float], num_prompts: int
) -> dict[str, Any]:
    """One row of eval.jsonl; `n` is what the evaluator counted, else all prompts."""
    return {
        "step": step,
        "policy_version": policy_version,
        "evaluator": name,
        "n": num_prompts,
        **figures,
        "time": time.time(),
    }


def _reward_figures(samples: Sequence[ScoredSample]) -> dict[str, float]:
    rewards = [s.score.reward for s in samples if s.score.reward is not None]
    by_name: dict[str, list[float]] = {}
    for sample in samples:
        for named in sample.score.rewards:
            if named.reward is not None:
                by_name.setdefault(named.name, []).append(named.reward)
    figures = {f"reward/{name}/mean": _mean(values) for name, values in by_name.items()}
    spread = float(np.std(rewards)) if rewards else float("nan")
    return {"reward/mean": _mean(rewards), "reward/std": spread, **figures}


def _staleness_figures(samples: Sequence[ScoredSample], version: int) -> dict[str, float]:
    staleness = [version - sample.oldest_version for sample in samples]
    return {"staleness/mean": _mean(staleness), "staleness/max": max(staleness)}


def _completion_figures(samples: Sequence[ScoredSample]) -> dict[str, float]:
    return {
        "completion_tokens/mean": _mean([len(s.rollout.token_ids) for s in samples]),
        "completion/truncated_fraction": _mean(
            [s.rollout.finish_reason == "length" for s in samples]
        ),
    }


def _zero_advantage_fraction(
    samples: Sequence[ScoredSample], advantages: NDArray[np.float32]
) -> float:
    """Share of groups in which no sample has an advantage: nothing is learned from them."""
    learned: dict[int, bool] = {}
    for index, sample in enumerate(samples):
        group_id = sample.rollout.group_id
        some = bool(np.any(_advantage(advantages, index, sample)))
        learned[group_id] = learned.get(group_id, False) or some
    return _mean([not some for some in learned.values()])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _advantage(
    advantages: NDArray[np.float32], index: int, sample: ScoredSample
) -> NDArray[np.float32]:
    """[] of the completion, or [T] of its tokens."""
    if advantages.ndim == 1:
        return advantages[index]
    return advantages[index, : len(sample.rollout.token_ids)]
