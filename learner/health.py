"""Warnings about a run that goes on but learns badly: what is seen in the metrics, and the remedy.

Reads rows of metrics.jsonl alone, decides nothing and stops nothing.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from protocol.config import RunConfig

LASTS_STEPS = 3
"""A symptom is told once it was there for so many steps in a row."""
SILENT_STEPS = 20
"""After which it is told again."""
FIRST_STEPS = 5
"""Steps whose mean entropy later ones are compared with."""

COLLAPSED_SHARE = 0.1
"""Of the first entropy."""
COLLAPSED_NATS = 0.01
SOLVED_SHARE = 0.9
"""Of data.pass_reward, from which on a certain policy is no fault."""
MAX_TRUNCATED = 0.9
MAX_CLIPPED = 0.5
MIN_RATIO, MAX_RATIO = 0.5, 2.0
MAX_MASKED = 0.5
OFF_POLICY_FACTOR = 10.0
"""How much more than learner.max_parity_kl the mismatch may be where the policy has moved on."""

_MASKED = "masked/"
_MASK_REMEDIES = {
    "reward_timeout": "raise the reward's timeout_seconds, or start more reward workers",
    "reward_memory": "raise reward_worker.memory_bytes",
    "sandbox_error": "run mlx-doctor on the reward workers' machines",
}


@dataclass(frozen=True)
class _Seen:
    """One row, and what it is compared with."""

    config: RunConfig
    row: Mapping[str, Any]
    first_entropy: float
    """Nats, of the first steps; NaN while they last."""
    best_reward: float
    """The highest mean of earlier steps; minus infinity before there is one."""
    masked: Mapping[str, int]
    """Samples by status that were masked since the row before."""

    def figure(self, name: str) -> float:
        """NaN where there is none: no comparison with it holds."""
        value = self.row.get(name)
        return math.nan if value is None else float(value)

    @property
    def is_solved(self) -> bool:
        """Whether the reward is about as high as it can get."""
        return self.figure("reward/mean") >= SOLVED_SHARE * self.config.data.pass_reward


@dataclass
class Health:
    """Watches one run, step after step."""

    config: RunConfig
    _entropies: list[float] = field(default_factory=list)
    _best_reward: float = -math.inf
    _masked: Mapping[str, int] = field(default_factory=dict)
    _lasted: dict[str, int] = field(default_factory=dict)
    """Steps in a row, by symptom."""
    _told: dict[str, int] = field(default_factory=dict)
    """Step of the last warning, by symptom."""

    def warnings(self, row: Mapping[str, Any]) -> list[str]:
        """What to tell the user after this step, mostly nothing.

        Args:
            row: of metrics.jsonl; the next step's each time.
        """
        seen = self._seen(row)
        told: list[str] = []
        for symptom in SYMPTOMS:
            name, warning = symptom.__name__, symptom(seen)
            self._lasted[name] = self._lasted.get(name, 0) + 1 if warning else 0
            silent_since = row["step"] - self._told.get(name, -SILENT_STEPS)
            if self._lasted[name] >= LASTS_STEPS and silent_since >= SILENT_STEPS:
                self._told[name] = row["step"]
                told.append(warning)
        return told

    @property
    def lasting(self) -> list[str]:
        """Names of the symptoms that are there and have lasted."""
        return [name for name, steps in self._lasted.items() if steps >= LASTS_STEPS]

    def _seen(self, row: Mapping[str, Any]) -> _Seen:
        entropies = self._entropies
        full = len(entropies) == FIRST_STEPS
        first = sum(entropies) / FIRST_STEPS if full else math.nan
        if not full and math.isfinite(row.get("entropy") or math.nan):
            entropies.append(row["entropy"])
        before, self._masked = self._masked, {k: n for k, n in row.items() if k.startswith(_MASKED)}
        masked = {name: count - before.get(name, 0) for name, count in self._masked.items()}
        seen = _Seen(self.config, row, first, self._best_reward, masked)
        self._best_reward = max(self._best_reward, seen.figure("reward/mean"))
        return seen


def entropy_collapse(seen: _Seen) -> str:
    """The policy is certain of what it does before it does it well."""
    now, first = seen.figure("entropy"), seen.first_entropy
    if seen.is_solved or not (now < COLLAPSED_SHARE * first or now < COLLAPSED_NATS):
        return ""
    fell = f" (first {first:.3g})" if math.isfinite(first) else ""
    return (
        f"entropy collapse: {now:.3g} nats a token{fell} at a mean reward of "
        f"{seen.figure('reward/mean'):.3g}; the policy hardly tries anything else any more. Go "
        "back to a checkpoint and lower learner.optimizer.learning_rate, raise "
        "generation.temperature, or use the algorithm's clip_high or entropy_coefficient"
    )


def equal_rewards(seen: _Seen) -> str:
    """No group has a completion that is better than another."""
    mean, spread = seen.figure("reward/mean"), seen.figure("reward/std")
    # a critic, or a mean over the batch, makes advantages of equal rewards
    if not (seen.figure("groups/zero_advantage_fraction") >= 1.0 or spread <= 1e-6):
        return ""
    if not math.isfinite(mean):
        return ""
    nothing = "nothing is learned, the rewards in every group are equal: "
    if spread > 1e-6:
        return nothing + (
            "each prompt is solved always or never. Take prompts of a difficulty between, raise "
            "generation.group_size, or set learner.max_refill_groups"
        )
    if mean >= seen.config.data.pass_reward:
        return nothing + (
            f"all completions have reward {mean:.3g}, the prompts are solved. Take harder ones, or "
            "set data.no_resampling_pass_rate=0.9 to retire those that are solved"
        )
    if mean < seen.best_reward - 1e-6:
        return nothing + (
            f"all completions have reward {mean:.3g}, though the mean was {seen.best_reward:.3g} "
            "before. The policy has collapsed: go back to a checkpoint and lower "
            f"learner.optimizer.learning_rate ({seen.config.learner.optimizer.learning_rate:g})"
        )
    return nothing + (
        f"all completions have reward {mean:.3g}. The prompts are too hard for this policy, or the "
        "reward function is broken: read some completions in rollouts/, then take easier prompts, "
        "give credit for parts, or mend the reward"
    )


def truncation(seen: _Seen) -> str:
    """Completions end because they must."""
    truncated = seen.figure("completion/truncated_fraction")
    if seen.is_solved or not truncated > MAX_TRUNCATED:
        return ""
    return (
        f"{truncated:.0%} of the completions are cut off at generation.max_completion_tokens = "
        f"{seen.config.generation.max_completion_tokens}: raise it, or reward short completions"
    )


def far_off_policy(seen: _Seen) -> str:
    """The policy moved away from the one that sampled."""
    clipped, ratio = seen.figure("clip_fraction"), seen.figure("importance_ratio")
    if not (clipped > MAX_CLIPPED or ratio < MIN_RATIO or ratio > MAX_RATIO):
        return ""
    figures = f"clip_fraction {clipped:.3g}, mean importance ratio {ratio:.3g}"
    return (
        f"the policy is far from the one that sampled: {figures}, staleness up to "
        f"{seen.figure('staleness/max'):g}. {_stay_closer(seen)}"
    )


def mismatch(seen: _Seen) -> str:
    """Actors and learner disagree about the same tokens."""
    found, limit = seen.figure("mismatch_kl"), seen.config.learner.max_parity_kl
    is_stale = seen.figure("staleness/max") > 0.0
    repeats = any(
        seen.config.algorithm.parameters.get(key, 1) != 1 for key in ("epochs", "minibatches")
    )
    if is_stale or repeats:
        if not found > OFF_POLICY_FACTOR * limit:
            return ""
        return (
            f"mismatch_kl is {found:.3g} nats a token, above {OFF_POLICY_FACTOR * limit:.3g}: "
            f"completions say little about a policy that has moved on so far. {_stay_closer(seen)}"
        )
    if not found > limit:
        return ""
    return (
        f"mismatch_kl is {found:.3g} nats a token though no completion is stale "
        f"(learner.max_parity_kl is {limit:g}): actors and learner compute different numbers. Set "
        "policy.compute_dtype=float32, and let all processes run the same checkout"
    )


def masked_samples(seen: _Seen) -> str:
    """Most completions have no reward."""
    section = seen.config
    num_samples = section.learner.groups_per_step * section.generation.group_size
    count = sum(seen.masked.values())
    if not count > MAX_MASKED * num_samples:
        return ""
    status = max(seen.masked, key=lambda name: seen.masked[name]).removeprefix(_MASKED)
    remedy = _MASK_REMEDIES.get(status, "mend the reward function")
    return (
        f"{count} completions were masked during a step of {num_samples}, most for {status}: "
        f"{remedy}; rollouts/ has each one's status"
    )


SYMPTOMS: tuple[Callable[[_Seen], str], ...] = (
    entropy_collapse,
    equal_rewards,
    truncation,
    far_off_policy,
    mismatch,
    masked_samples,
)
"""Each says what is wrong and what to do; nothing where all is well."""


def _stay_closer(seen: _Seen) -> str:
    section = seen.config.learner
    slower = f"Lower learner.optimizer.learning_rate ({section.optimizer.learning_rate:g})"
    if section.max_off_policy_steps == 0:
        return slower
    return f"{slower} or learner.max_off_policy_steps ({section.max_off_policy_steps})"
