"""Rows of the run folder: what a step, an evaluation and a rollout look like on disk."""

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learner.exchange.idleness import idle_share
from learner.samples import ScoredSample
from learner.step import StepResult
from protocol.messages import NamedReward

KEPT_COUNTS = (
    "dropped/",
    "discarded/",
    "masked/",
    "peers/",
    "memory/",
    "idle/",
    "duplicates",
    "fenced",
    "trained",
)
"""Which of the exchange's counts stand in a metrics row, by how their names begin."""

STEP_FIGURES = ("loss", "kl_ref", "mismatch_kl", "entropy", "grad_norm", "clip_fraction")
"""Stand in every row: null where a skipped step, or a run without a reference policy, has none."""

IDLE_FIGURES = ("idle/actor", "idle/reward_worker")
"""Stand in every row: the share of its time since the last row in which a role had nothing to do;
null where no peer of the role has said it twice. exchange/idleness.py says how it is counted."""

MAX_SHARES = 10
"""Texts of one fact whose shares stand in a row; the most frequent ones."""
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,40}")


@dataclass
class StepClock:
    """Seconds that one step spent on what."""

    started: float
    wait_seconds: float = 0.0
    train_seconds: float = 0.0
    publish_seconds: float = 0.0


def metrics_row(
    *,
    step: int,
    policy_version: int,
    samples: Sequence[ScoredSample],
    result: StepResult,
    clock: StepClock,
    now: float,
    counts: Mapping[str, float],
    run_epoch: int = 1,
    digests: Mapping[str, str] = MappingProxyType({}),
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
        run_epoch: of the learner that took the step; configs/ has its settings.
        digests: of the step, under the names of learner/digests.py.
    """
    seconds = max(now - clock.started, 1e-9)
    num_tokens = sum(len(sample.rollout.token_ids) for sample in samples)
    return {
        "step": step,
        "policy_version": policy_version,
        "run_epoch": run_epoch,
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
        "skipped": result.skipped,
        "idle/learner": idle_share(seconds - clock.wait_seconds, seconds),
        **dict.fromkeys(IDLE_FIGURES),
        **{name: n for name, n in counts.items() if name.startswith(KEPT_COUNTS)},
        **digests,
    }


def rollout_rows(samples: Sequence[ScoredSample], result: StepResult) -> Iterator[dict[str, Any]]:
    """One row for every rollout of a batch, masked ones included.

    `facts` (by reward and fact) is there only where a reward said some.
    """
    for index, sample in enumerate(samples):
        rollout, score = sample.rollout, sample.score
        logprobs = result.logprobs[index]
        facts = {named.name: dict(named.facts) for named in score.rewards if named.facts}
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
            **({"facts": facts} if facts else {}),
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
    by_name: dict[str, list[NamedReward]] = {}
    for sample in samples:
        for named in sample.score.rewards:
            by_name.setdefault(named.name, []).append(named)
    spread = float(np.std(rewards)) if rewards else float("nan")
    figures = {"reward/mean": _mean(rewards), "reward/std": spread}
    for name, said in by_name.items():
        if values := [named.reward for named in said if named.reward is not None]:
            figures[f"reward/{name}/mean"] = _mean(values)
        figures[f"reward/{name}/seconds/mean"] = _mean([named.seconds for named in said])
        for fact in sorted({fact for named in said for fact in named.facts}):
            values = [named.facts[fact] for named in said if fact in named.facts]
            figures.update(_fact_figures(f"reward/{name}/{fact}", values))
    return figures


def _fact_figures(key: str, values: Sequence[float | int | str]) -> dict[str, float]:
    """Mean of the numbers; shares of the texts, over all values, as far as they are single words.

    Free text stays in rollouts/: each would be a key of its own.
    """
    numbers = [value for value in values if not isinstance(value, str)]
    words = Counter(v for v in values if isinstance(v, str) and _WORD.fullmatch(v))
    shares = {
        f"{key}/{word}": count / len(values)
        for word, count in sorted(words.most_common(MAX_SHARES))
    }
    return {f"{key}/mean": _mean(numbers), **shares} if numbers else shares


def staleness_of(samples: Sequence[ScoredSample], version: int) -> list[int]:
    """How many versions the oldest token of each sample is older than the one that was trained."""
    return [version - sample.oldest_version for sample in samples]


def _staleness_figures(samples: Sequence[ScoredSample], version: int) -> dict[str, float]:
    staleness = staleness_of(samples, version)
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
