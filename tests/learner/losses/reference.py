"""The algorithms' losses once more: plain float64 Python, token by token, from the papers.

Shares no code with the product. A batch is a list of completions, a completion a dict of lists
with one entry a token (`advantage` too); padding does not exist here.
"""

import math
from dataclasses import dataclass, field

CLIPPED = {"kind": "clipped", "clip_low": 0.2, "clip_high": 0.2, "dual_clip": None}
NO_BOUNDS = {
    "correction": "none",
    "proximal": "recomputed",
    "tis_clip": 2.0,
    "token_mask_low": 0.5,
    "token_mask_high": 5.0,
    "geo_mask_low": 0.99,
    "geo_mask_high": 1.01,
    "decoupled_cap": None,
}
ALGORITHMS = {
    "grpo": {**CLIPPED, "loss_aggregation": "token_mean"},
    "dr_grpo": {**CLIPPED, "loss_aggregation": "seq_mean_token_sum_norm"},
    "dapo": {**CLIPPED, "clip_high": 0.28, "loss_aggregation": "token_mean"},
    "rloo": {**CLIPPED, "loss_aggregation": "seq_mean_token_sum_norm"},
    "reinforce_pp_baseline": {**CLIPPED, "loss_aggregation": "token_mean"},
    "gspo": {
        "kind": "gspo",
        "clip_low": 3e-4,
        "clip_high": 4e-4,
        "loss_aggregation": "seq_mean_token_mean",
    },
    "cispo": {
        "kind": "cispo",
        "clip_low": 1.0,
        "clip_high": 4.0,
        "loss_aggregation": "token_mean",
    },
    "dppo": {
        "kind": "dppo",
        "mask_low": 0.2,
        "mask_high": 0.2,
        "penalty": 1e-3,
        "loss_aggregation": "token_mean",
    },
    "ppo": {
        **CLIPPED,
        "loss_aggregation": "token_mean",
        "value_clip": 0.2,
        "value_coefficient": 0.5,
    },
}


@dataclass
class Result:
    """Loss, its derivatives by completion and token, and sums over tokens."""

    loss: float = 0.0
    by_logprob: list[list[float]] = field(default_factory=list)
    by_entropy: list[list[float]] = field(default_factory=list)
    by_value: list[list[float]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)

    def count(self, name, amount):
        self.metrics[name] = self.metrics.get(name, 0.0) + amount


def reference_loss(name, parameters, completions, num_tokens, num_sequences, max_tokens):
    knobs = {**ALGORITHMS[name], **parameters}
    knobs["off_policy"] = {**NO_BOUNDS, **parameters.get("off_policy", {})}
    knobs["kl"] = {"estimator": "k3", "coefficient": 0.0, **parameters.get("kl", {})}
    result = Result()
    for completion in completions:
        length = len(completion["logprob"])
        scale = {
            "token_mean": 1 / num_tokens,
            "seq_mean_token_mean": 1 / (num_sequences * max(length, 1)),
            "seq_mean_token_sum_norm": 1 / (num_sequences * max_tokens),
        }[knobs["loss_aggregation"]]
        _add_completion(result, knobs, completion, scale)
    return result


def _add_completion(result, knobs, completion, scale):
    old, factors = _correction(result, knobs["off_policy"], completion)
    logprobs = completion["logprob"]
    mean_log_ratio = sum(p - q for p, q in zip(logprobs, old, strict=True)) / max(len(old), 1)
    rows = ([], [], [])
    for t, logprob in enumerate(logprobs):
        value, slope, clipped = _surrogate(
            knobs, logprob, old[t], completion["advantage"][t], mean_log_ratio
        )
        result.count("clip_fraction", clipped)
        _count_mismatch(result, logprob - completion["behaviour"][t])
        kl_value, kl_slope = _kl(knobs["kl"]["estimator"], logprob - completion["ref"][t])
        strength = knobs["kl"]["coefficient"]
        if strength > 0:
            result.count("kl_ref", kl_value)
        bonus = knobs.get("entropy_coefficient", 0.0)
        total = factors[t] * value + strength * kl_value - bonus * completion["entropy"][t]
        result.loss += scale * total
        rows[0].append(scale * (factors[t] * slope + strength * kl_slope))
        rows[1].append(-scale * bonus)
        rows[2].append(_add_value(result, knobs, completion, t, scale))
    result.by_logprob.append(rows[0])
    result.by_entropy.append(rows[1])
    result.by_value.append(rows[2])


def _surrogate(knobs, logprob, old, advantage, mean_log_ratio):
    """Loss of a token, its derivative by the logprob, and whether a bound changed that."""
    ratio = math.exp(logprob - old)
    if knobs["kind"] == "cispo":
        weight = min(max(ratio, 1 - knobs["clip_low"]), 1 + knobs["clip_high"])
        return -weight * advantage * logprob, -weight * advantage, weight != ratio
    if knobs["kind"] == "dppo":
        moved = math.exp(logprob) - math.exp(old)
        stopped = moved > knobs["mask_high"] if advantage > 0 else moved < -knobs["mask_low"]
        keep, squared = float(not stopped), (logprob - old) ** 2
        value = -keep * ratio * advantage + knobs["penalty"] * squared
        slope = -keep * ratio * advantage + 2 * knobs["penalty"] * (logprob - old)
        return value, slope, stopped and advantage != 0
    if knobs["kind"] == "gspo":
        ratio = math.exp(mean_log_ratio)
    low, high = 1 - knobs["clip_low"], 1 + knobs["clip_high"]
    if advantage > 0 and ratio > high:
        return -high * advantage, 0.0, True
    if advantage < 0 and ratio < low:
        return -low * advantage, 0.0, True
    ceiling = knobs.get("dual_clip")
    if advantage < 0 and ceiling is not None and ratio > ceiling:
        return -ceiling * advantage, 0.0, True
    return -ratio * advantage, -ratio * advantage, False


def _correction(result, bounds, completion):
    """Logprobs that the ratio is taken to, and factors."""
    behaviour, kind = completion["behaviour"], bounds["correction"]
    if kind == "none":
        return behaviour, [1.0] * len(behaviour)
    if bounds["proximal"] == "recomputed":
        old = completion["proximal"]
    else:
        old = []
        for t, sampled in enumerate(behaviour):
            made, now, then = 1, 0, -completion["staleness"][t]  # versions
            share = (now - then) / (made - then)
            old.append((1 - share) * sampled + share * completion["logprob"][t])
    ratios = [math.exp(p - q) for p, q in zip(old, behaviour, strict=True)]
    factors = [_factor(bounds, ratio, ratios) for ratio in ratios]
    for factor, ratio in zip(factors, ratios, strict=True):
        result.count("off_policy_weight", factor)
        result.count("off_policy_cut", factor != (1.0 if kind == "geo_mask" else ratio))
    return old, factors


def _factor(bounds, ratio, ratios):
    kind = bounds["correction"]
    if kind == "tis":
        return min(ratio, bounds["tis_clip"])
    if kind == "token_mask":
        inside = bounds["token_mask_low"] <= ratio <= bounds["token_mask_high"]
        return ratio if inside else 0.0
    if kind == "geo_mask":
        mean = math.prod(ratios) ** (1 / len(ratios))
        return float(bounds["geo_mask_low"] <= mean <= bounds["geo_mask_high"])
    cap = bounds["decoupled_cap"]
    return ratio if cap is None else min(ratio, cap)


def _kl(estimator, difference):
    if estimator == "k1":
        return difference, difference
    if estimator == "k2":
        return difference**2 / 2, difference
    return math.exp(-difference) + difference - 1, 1 - math.exp(-difference)


def _count_mismatch(result, log_ratio):
    ratio = math.exp(log_ratio)
    result.count("importance_ratio", ratio)
    result.count("importance_ratio_squared", ratio**2)
    result.count("mismatch_kl", ratio - log_ratio - 1)


def _add_value(result, knobs, completion, t, scale):
    """Adds the critic's loss of a token; its derivative by the estimate."""
    if "value_clip" not in knobs:
        return 0.0
    value, old, target = (completion[key][t] for key in ("value", "old_value", "return"))
    near = min(max(value, old - knobs["value_clip"]), old + knobs["value_clip"])
    free, bound = (value - target) ** 2 / 2, (near - target) ** 2 / 2
    result.loss += scale * knobs["value_coefficient"] * max(free, bound)
    result.count("value_loss", max(free, bound))
    result.count("value_clip_fraction", bound > free)
    for name, amount in (("return", target), ("value_error", target - old)):
        result.count(name, amount)
        result.count(f"{name}_squared", amount**2)
    return 0.0 if bound > free else scale * knobs["value_coefficient"] * (value - target)
