"""Whether actors and learner compute the same number; the start of a run checks it.

    d = logprobs - behaviour_logprobs        0 where both agree, whatever the weights are

Only tokens count that were sampled under the very policy version that the learner holds.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from learner.parity_causes import (
    MAX_PROBED_TOKENS,
    MIN_JUDGED_TOKENS,
    Compared,
    Logprobs,
    Recompute,
    is_truncated,
    likely_cause,
    mismatch_kl,
    ratios,
)
from learner.samples import ScoredSample
from protocol.config import RunConfig
from protocol.errors import RunStopped

log = logging.getLogger("learner.parity")

MIN_TOKENS = 256
"""So many agreeing tokens show that both sides agree."""
WARNED_SHARE = 0.1
"""Of learner.max_parity_kl, from which on a warning is logged: a sharp policy hides a fault. One
side in bfloat16 gave 4e-4 nats, actors at temperature 0.7 instead of 1.0 gave 0.012."""


@dataclass(frozen=True)
class Parity:
    """How closely both sides agree on the tokens that count."""

    num_tokens: int
    mismatch_kl: float
    """Nats a token: the mean of rho - log rho - 1; 0 without tokens."""
    max_difference: float
    """Nats."""
    mean_ratio: float
    """Of rho; 1 but for sampling error, unless actors never sample what the learner might."""

    @property
    def is_sure(self) -> bool:
        """Whether so many tokens were compared that there is no need to go on."""
        return self.num_tokens >= MIN_TOKENS


def sampled_under(samples: Sequence[ScoredSample], policy_version: int) -> list[ScoredSample]:
    """Those with a token of this very policy version: what `check_parity` can judge."""
    return [
        sample
        for sample in samples
        if any(version == policy_version for version, _ in sample.rollout.policy_versions)
    ]


def check_parity(
    samples: Sequence[ScoredSample],
    logprobs: Logprobs,
    policy_version: int,
    config: RunConfig,
    recompute: Recompute | None = None,
    other_weights: Mapping[str, Recompute] = MappingProxyType({}),
) -> Parity:
    """Compare what actors reported with what the learner computes for the same tokens.

        rho = exp(clamp(logprobs - behaviour_logprobs, -20, 20))
        mismatch KL = mean(rho - log rho - 1)

    Args:
        samples: a batch, before it is trained on.
        logprobs: the learner's, at the sampling temperature, in the order of the samples.
        policy_version: the one that the learner computed them with.
        config: the run.
        recompute: the learner's logprobs at another temperature, to tell causes apart.
        other_weights: the same with other weights, by what they are ("policy version 0").

    Returns:
        The figures; a mismatch KL of a tenth of the limit is logged as a warning, with its cause.

    Raises:
        RunStopped: the mismatch KL is above learner.max_parity_kl, or actors sample from a part of
            the policy; the message names the likeliest cause and the remedy.

    Source:
        k3: http://joschu.net/blog/kl-approx.html. Truncated sampling is judged apart: with the
        mass S kept, rho is S at every token (TRL #7269), and rho = 0.9 has a KL of 0.005 only.
    """
    compared = Compared(samples, logprobs, policy_version)
    parity = _figures(compared.differences())
    if not parity.num_tokens:
        return parity
    limit = config.learner.max_parity_kl
    worst, blame = _worst_actor(compared.by_actor())
    judged = _judged(compared, worst)
    highest = float(np.max([mismatch_kl(found_N) for found_N in judged]))
    is_fault = any(map(is_truncated, judged)) or not highest <= limit
    if not is_fault and highest <= WARNED_SHARE * limit:
        return parity
    probed = compared.of_actor(worst, MAX_PROBED_TOKENS)
    cause = likely_cause(probed, config, recompute, other_weights)
    found = f"{_disagreement(parity, policy_version, limit)}{blame}. Most likely cause: {cause}"
    if is_fault:
        raise RunStopped(found)
    log.warning("%s", found)
    return parity


def _judged(compared: Compared, worst: str) -> list[NDArray[np.float64]]:
    """Differences of all tokens, and of the worst actor's, which hides among good ones."""
    of_all_N = compared.differences()
    of_worst_N = compared.of_actor(worst).differences()
    return [of_all_N, of_worst_N] if of_worst_N.size >= MIN_JUDGED_TOKENS else [of_all_N]


def _disagreement(parity: Parity, policy_version: int, limit: float) -> str:
    return (
        f"actors and learner disagree on {parity.num_tokens} tokens that were sampled under the "
        f"learner's own policy version {policy_version}: mismatch KL {parity.mismatch_kl:.3g} nats "
        f"a token (learner.max_parity_kl is {limit:g}), largest difference "
        f"{parity.max_difference:.3g} nats, mean importance ratio {parity.mean_ratio:.3f}"
    )


def _figures(differences_N: NDArray[np.float64]) -> Parity:
    if not differences_N.size:
        return Parity(0, 0.0, 0.0, 1.0)
    return Parity(
        num_tokens=differences_N.size,
        mismatch_kl=mismatch_kl(differences_N),
        max_difference=float(np.abs(differences_N).max()),
        mean_ratio=float(ratios(differences_N).mean()),
    )


def _worst_actor(kl_by_actor: Mapping[str, float]) -> tuple[str, str]:
    """The actor that disagrees most, and what to say of it where there are others."""
    ranks = {actor: math.inf if math.isnan(kl) else kl for actor, kl in kl_by_actor.items()}
    worst, *others = sorted(ranks, key=lambda actor: -ranks[actor])
    if not others:
        return worst, ""
    highest = kl_by_actor[others[0]]
    return worst, f"; most with {worst}: {kl_by_actor[worst]:.3g}, others up to {highest:.3g}"
