"""Why actors and learner disagree about logprobs: suspicions, tested one by one.

Knows no model: the caller recomputes logprobs where a suspicion has to be tested.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from learner.losses.ratios import MAX_LOG_RATIO
from learner.samples import ScoredSample
from protocol.config import RunConfig

Logprobs = Sequence[NDArray[np.float32] | None]
"""[T] nats of each sample's tokens; None where a sample was not computed."""
Recompute = Callable[[Sequence[ScoredSample], float], Logprobs]
"""The learner's logprobs of some samples at a temperature."""

MAX_PROBED_TOKENS = 1024
"""Suspicions are tested on no more: each costs a forward pass."""
EXPLAINED = 0.2
"""A suspicion explains the mismatch if it leaves less than this share of it."""
MAX_LOST_MASS = 0.03
"""Of probability that the actors' sampling may leave out; top-p 0.8 was seen to leave out 0.10."""
MIN_JUDGED_TOKENS = 64
"""Of which a share or one actor is judged by itself; of fewer, chance says too much."""
NOISE = 0.05
"""Nats; a difference below this may be rounding."""
MAX_NOISE = 0.5
"""Nats, root mean square; what rounding alone does not exceed."""
TEMPERATURES = (0.1, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 10.0)
"""Tried, with the surroundings of the best one."""
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True)
class Compared:
    """Samples with the learner's logprobs of them."""

    samples: Sequence[ScoredSample]
    logprobs: Logprobs
    policy_version: int

    def differences(self, shift: int = 0) -> NDArray[np.float64]:
        """[N] learner's logprob of token t + shift less the actor's of token t; both count."""
        found: list[NDArray[np.float64]] = [np.zeros(0)]
        for sample, computed_T in zip(self.samples, self.logprobs, strict=True):
            if computed_T is None:
                continue
            counts_T = self._counts(sample)
            length = max(len(counts_T) - abs(shift), 0)
            ours = slice(max(shift, 0), max(shift, 0) + length)
            theirs = slice(max(-shift, 0), max(-shift, 0) + length)
            behaviour_T = sample.rollout.behaviour_logprobs.astype(np.float64)
            both_T = counts_T[ours] & counts_T[theirs]
            found.append((computed_T[ours] - behaviour_T[theirs])[both_T])
        return np.concatenate(found)

    def kl_of(self, again: Recompute, temperature: float) -> float:
        """Mismatch KL if the learner's logprobs were these."""
        return mismatch_kl(replace(self, logprobs=again(self.samples, temperature)).differences())

    def by_actor(self) -> dict[str, float]:
        """Mismatch KL of each actor's tokens."""
        found = {actor: self.of_actor(actor).differences() for actor in self._actors()}
        return {actor: mismatch_kl(diffs_N) for actor, diffs_N in found.items() if diffs_N.size}

    def of_actor(self, actor: str, max_tokens: float = math.inf) -> "Compared":
        """Samples of one actor, as many as hold so many tokens that count."""
        kept: list[int] = []
        num_tokens = 0
        for index, sample in enumerate(self.samples):
            counted = self.logprobs[index] is not None and int(self._counts(sample).sum())
            if sample.actor == actor and counted and num_tokens < max_tokens:
                kept.append(index)
                num_tokens += counted
        return replace(
            self,
            samples=[self.samples[index] for index in kept],
            logprobs=[self.logprobs[index] for index in kept],
        )

    def _actors(self) -> list[str]:
        return sorted({sample.actor for sample in self.samples})

    def _counts(self, sample: ScoredSample) -> NDArray[np.bool_]:
        versions, counts = zip(*sample.rollout.policy_versions, strict=True)
        return np.repeat(np.array(versions) == self.policy_version, counts)


class _Suspicion(NamedTuple):
    """One possible fault."""

    left: float
    """Mismatch KL that remains if it is so, nats a token."""
    cause: str


def likely_cause(
    probed: Compared,
    config: RunConfig,
    recompute: Recompute | None,
    other_weights: Mapping[str, Recompute],
) -> str:
    """What is likely wrong, and the remedy."""
    differences_N = probed.differences()
    if not np.isfinite(differences_N).all():
        return (
            "the learner's logprobs are not finite: the model is damaged, or its numbers overflow. "
            "Set policy.compute_dtype=float32"
        )
    temperature = config.generation.temperature
    suspicions = _shifts(probed)
    if recompute is not None:
        fit = _fitting_temperature(lambda tried: probed.kl_of(recompute, tried))
        suspicions.append(_other_temperature(*fit, temperature))
    for name, again in other_weights.items():
        suspicions.append(_other_weights(probed.kl_of(again, temperature), name))
    best = min(suspicions, default=_Suspicion(math.inf, ""))
    if best.left < EXPLAINED * mismatch_kl(differences_N):
        return best.cause
    return _pattern(differences_N, config)


def _shifts(probed: Compared) -> list[_Suspicion]:
    found: list[_Suspicion] = []
    for shift, neighbour in ((1, "following"), (-1, "preceding")):
        differences_N = probed.differences(shift)
        if differences_N.size:
            cause = (
                f"shifted logprobs: actors report with each token the logprob of the {neighbour} "
                "one. No setting mends that: let all processes run the same checkout; a model of "
                "your own must give at each position the logits of the next token"
            )
            found.append(_Suspicion(mismatch_kl(differences_N), cause))
    return found


def _fitting_temperature(kl_at: Callable[[float], float]) -> tuple[float, float]:
    """(mismatch KL, temperature) of the best fit: a grid, then a golden-section search beside it.

    The ends of the grid are bounds of the search only.
    """
    fits = [(kl_at(tried), tried) for tried in TEMPERATURES[1:-1]]
    best = TEMPERATURES.index(min(fits)[1])
    low, high = TEMPERATURES[best - 1], TEMPERATURES[best + 1]
    for _ in range(6):
        inner = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        pair = [(kl_at(tried), tried) for tried in inner]
        fits += pair
        low, high = (low, inner[1]) if pair[0] < pair[1] else (inner[0], high)
    return min(fits)


def _other_temperature(left: float, fitted: float, configured: float) -> _Suspicion:
    left_out = (
        ": they leave it out of their logprobs"
        if abs(fitted - 1.0) < 0.03 and configured != 1.0
        else ""
    )
    return _Suspicion(
        left,
        f"another temperature: the actors' logprobs fit temperature {fitted:.2f}, the learner "
        f"divides by generation.temperature = {configured:g}{left_out}. Let all processes run the "
        f"same checkout, or set generation.temperature={fitted:.2g} to what actors sample with",
    )


def _other_weights(left: float, name: str) -> _Suspicion:
    return _Suspicion(
        left,
        f"other weights: the actors' logprobs are those of {name}. They say that they hold the "
        "newest version but did not apply it: see the actors' logs for what they fetched, and try "
        "learner.publish.kind=full, which sends every tensor",
    )


def _pattern(differences_N: NDArray[np.float64], config: RunConfig) -> str:
    """What the differences look like, where nothing that can be recomputed explains them."""
    spread = math.sqrt(float(np.square(differences_N).mean()))
    if is_truncated(differences_N):
        kept = float(ratios(differences_N).mean())
        return (
            "truncated sampling: actors report higher logprobs than the policy's throughout, as if "
            f"they sampled from the likeliest {kept:.0%} of it (top-p, top-k or min-p). Let actors "
            "sample from the whole policy, and use generation.temperature instead"
        )
    found = config.policy.compute_dtype
    both_ways = 0.3 < float((differences_N > 0.0).mean()) < 0.7
    if spread < MAX_NOISE and both_ways and found != "float32":
        why = ", which is bfloat16 on Metal and float32 on the CPU" if found == "auto" else ""
        return (
            f"low precision: the differences are small ({spread:.2g} nats root mean square) and go "
            f"both ways. policy.compute_dtype is {found}{why}: set policy.compute_dtype=float32, "
            "or raise learner.max_parity_kl and let the algorithm correct for it"
        )
    return (
        "other weights, or another model or tokenizer: no temperature, shift, truncation or "
        "rounding that was tried explains it. Compare the files of model.path on all machines, "
        "let all processes run the same checkout, and see the actors' logs for the versions they "
        "fetched"
    )


def is_truncated(differences_N: NDArray[np.float64]) -> bool:
    """Whether the ratio lies below 1 at nearly every token, and on the average for certain.

    E_behaviour[pi / behaviour] = the mass that pi has where the behaviour policy samples
    """
    if differences_N.size < MIN_JUDGED_TOKENS:
        return False
    ratio_N = ratios(differences_N)
    lost = 1.0 - float(ratio_N.mean())
    error = float(ratio_N.std()) / math.sqrt(ratio_N.size)
    one_sided = float((differences_N > NOISE).mean()) < 0.02
    return one_sided and lost > max(MAX_LOST_MASS, 4.0 * error)


def mismatch_kl(differences_N: NDArray[np.float64]) -> float:
    """Mean of rho - log rho - 1, nats a token."""
    log_ratio_N = _clamped(differences_N)
    return float((np.expm1(log_ratio_N) - log_ratio_N).mean())


def ratios(differences_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N] importance ratios rho."""
    return np.exp(_clamped(differences_N))


def _clamped(differences_N: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(differences_N, -MAX_LOG_RATIO, MAX_LOG_RATIO)
