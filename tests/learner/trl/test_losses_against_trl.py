"""Losses and gradients against what TRL made of the same inputs (make_fixtures.py)."""

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import json
from dataclasses import fields, replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from learner.advantages.weights import valid_token_mask
from learner.algorithm import Algorithm, StepTotals, TokenBatch, make_algorithm
from protocol.config_learner import AlgorithmSection

FOLDER = Path(__file__).parent
LOSSES, PPO = (
    json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in ("losses", "ppo")
)
KL = {"kl": {"estimator": "k3", "coefficient": 0.04}}
TIS = {"off_policy": {"correction": "tis", "tis_clip": 1.2}}
TOKEN_MASK = {
    "off_policy": {"correction": "token_mask", "token_mask_low": 0.7, "token_mask_high": 1.4}
}
BY_COMPLETION = {"loss_aggregation": "seq_mean_token_mean"}
SAME = {"clip_high": 0.2}
CASES = {  # TRL's case -> our algorithm and its parameters
    "grpo": {"name": "grpo", **BY_COMPLETION},
    "bnpo": {"name": "grpo"},
    "dr_grpo": {"name": "dr_grpo"},
    "dapo": {"name": "dapo"},
    "dapo_of_token_advantages": {"name": "dapo", **SAME},
    "grpo_kl": {"name": "grpo", **BY_COMPLETION, **KL},
    "dapo_kl": {"name": "dapo", **SAME, **KL},
    "dapo_delta": {"name": "grpo", "clip_high": 0.28, "dual_clip": 1.5},
    "dapo_entropy": {"name": "dapo", **SAME, "entropy_coefficient": 0.02},
    "gspo": {"name": "gspo", "clip_low": 0.1, "clip_high": 0.15},
    "cispo": {"name": "cispo", "clip_high": 0.3},  # TRL's epsilon_high is the bound itself: 1.3
    "dapo_truncate": {"name": "dapo", **SAME, **TIS},
    "dapo_truncate_kl": {"name": "dapo", **SAME, **TIS, **KL},
    "dapo_mask": {"name": "dapo", **SAME, **TOKEN_MASK},
    "cispo_mask": {"name": "cispo", "clip_high": 0.3, **TOKEN_MASK},
}


def make(section: dict) -> Algorithm:
    return make_algorithm(AlgorithmSection.model_validate(section))


def float32(rows: object) -> mx.array:
    return mx.array(np.array(rows, dtype=np.float32))


def token_batch(arrays: dict, *, padding: float = 0.0, **changed) -> TokenBatch:
    """The fixture's batch, with `padding` wherever nothing means anything."""
    mask_BT = np.array(arrays["mask_BT"])

    def masked(name: str) -> mx.array:
        return float32(np.where(mask_BT, arrays[name], padding))

    floats = ("logprobs", "behaviour_logprobs", "proximal_logprobs", "entropy", "ref_logprobs")
    columns = {f"{name}_BT": masked(f"{name}_BT") for name in floats if f"{name}_BT" in arrays}
    absent = {
        f"{name}_BT": mx.zeros(mask_BT.shape)
        for name in ("proximal_logprobs", "entropy")
        if f"{name}_BT" not in columns
    }
    return TokenBatch(
        **columns,
        **absent,
        staleness_BT=mx.zeros(mask_BT.shape),
        mask_BT=mx.array(mask_BT),
        **{"advantages": float32(arrays["advantages_B"]), **changed},
    )


def totals(tokens: TokenBatch, max_completion_tokens: int) -> StepTotals:
    tokens_B = np.array(tokens.mask_BT).sum(axis=1)
    return StepTotals(
        num_tokens=int(tokens_B.sum()),
        num_sequences=int((tokens_B > 0).sum()),
        max_completion_tokens=max_completion_tokens,
    )


def loss_and_gradients(
    algorithm: Algorithm, tokens: TokenBatch, names: tuple[str, ...], denominators: StepTotals
) -> tuple[float, list[np.ndarray]]:
    """Loss of one microbatch, and its gradients by the named arrays."""

    def loss(arrays: list[mx.array]) -> mx.array:
        changed = replace(tokens, **dict(zip(names, arrays, strict=True)))
        return algorithm.loss(changed, denominators)[0]

    arguments = [getattr(tokens, name) for name in names]
    value, gradients = mx.value_and_grad(loss)(arguments)
    return float(value), [np.array(gradient) for gradient in gradients]


def rows(tokens: TokenBatch, kept: slice) -> TokenBatch:
    parts = {field.name: getattr(tokens, field.name) for field in fields(tokens)}
    return replace(tokens, **{name: a[kept] for name, a in parts.items() if a is not None})


def ours(section: dict, tokens: TokenBatch, *names: str) -> tuple[float, list[np.ndarray]]:
    """Loss and gradients of a step of two microbatches; TRL's is one."""
    algorithm = make(section)
    denominators = totals(tokens, LOSSES["max_completion_tokens"])
    first, second = (
        loss_and_gradients(algorithm, rows(tokens, kept), names, denominators)
        for kept in (slice(None, 3), slice(3, None))
    )
    gradients = zip(first[1], second[1], strict=True)
    return first[0] + second[0], [np.concatenate(pair) for pair in gradients]


def assert_close(found: np.ndarray, expected: object) -> None:
    np.testing.assert_allclose(found, np.array(expected, dtype=float), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding", [0.0, 1e4])
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_trls(case, padding):
    batch, expected = LOSSES["batch"], LOSSES["cases"][case]
    changed = {}
    if "token_advantages" in expected["settings"]:
        changed = {"advantages": float32(batch["advantages_BT"])}
    tokens = token_batch(batch, padding=padding, **changed)
    loss, gradients = ours(CASES[case], tokens, "logprobs_BT", "entropy_BT")
    assert loss == pytest.approx(expected["loss"], rel=1e-5, abs=1e-6)
    assert_close(gradients[0], expected["logprobs_gradient_BT"])
    no_gradient = np.zeros(gradients[1].shape)
    assert_close(gradients[1], expected.get("entropy_gradient_BT", no_gradient))


@pytest.mark.parametrize("case", ["grpo", "bnpo", "dr_grpo", "dapo", "grpo_kl", "dapo_truncate_kl"])
def test_metrics_are_trls(case):
    tokens = token_batch(LOSSES["batch"], padding=1e4)
    denominators = totals(tokens, LOSSES["max_completion_tokens"])
    _, sums = make(CASES[case]).loss(tokens, denominators)
    for name, mean in LOSSES["cases"][case]["metrics"].items():
        assert float(sums[name]) / denominators.num_tokens == pytest.approx(mean, rel=1e-5)


def test_a_gspo_completions_token_weights_go_to_the_tokens_and_in_trl_to_their_mean():
    # The losses are equal. TRL's one ratio a completion is a number that every token's weight
    # multiplies, so that all tokens get the weights' mean as gradient; in GSPO-token each has its
    # own. A completion's sum is the same.
    expected = LOSSES["cases"]["gspo_truncate"]
    section = {"name": "gspo", "clip_low": 0.1, "clip_high": 0.15, **TIS}
    loss, (gradient_BT,) = ours(section, token_batch(LOSSES["batch"]), "logprobs_BT")
    assert loss == pytest.approx(expected["loss"], rel=1e-5)
    theirs_BT = np.array(expected["logprobs_gradient_BT"])
    assert_close(gradient_BT.sum(axis=1), theirs_BT.sum(axis=1))
    assert not np.allclose(gradient_BT, theirs_BT, atol=1e-4)


def test_rloos_gradient_is_trls_where_the_policy_is_the_one_that_sampled():
    # TRL: mean over completions of -exp(sum_t log rho) A; here the tokens' ratios are clipped one
    # by one and summed, and divided by the constant length besides. With rho = 1 the gradients are
    # the same but for that constant; the losses, numbers without a meaning there, are not.
    batch = LOSSES["batch"]
    tokens = token_batch({**batch, "behaviour_logprobs_BT": batch["logprobs_BT"]})
    _, (gradient_BT,) = ours({"name": "rloo"}, tokens, "logprobs_BT")
    expected_BT = LOSSES["cases"]["rloo"]["logprobs_gradient_BT"]
    assert_close(LOSSES["max_completion_tokens"] * gradient_BT, expected_BT)


def ppo_section() -> dict:
    settings = PPO["settings"]
    return {
        "name": "ppo",
        "gamma": settings["gamma"],
        "lam": settings["lam"],
        "clip_low": settings["cliprange"],
        "clip_high": settings["cliprange"],
        "value_clip": settings["cliprange_value"],
        "value_coefficient": settings["vf_coef"],
    }


def ppo_array(name: str) -> np.ndarray:
    return np.array(PPO["inputs"][name], dtype=np.float32)


def test_ppos_loss_and_gradients_are_trls():
    rewards_B = PPO["inputs"]["scores"]
    mask_BT = valid_token_mask(rewards_B, PPO["tokens_B"], ppo_array("values").shape[1])
    tokens = token_batch(
        {
            "mask_BT": mask_BT,
            "logprobs_BT": ppo_array("new_logprobs"),
            "behaviour_logprobs_BT": ppo_array("logprobs"),
            "advantages_B": 0.0,
        },
        advantages=float32(PPO["inputs"]["mb_advantage"]),
        values_BT=float32(PPO["inputs"]["vpred"]),
        old_values_BT=float32(PPO["inputs"]["values"]),
        returns_BT=float32(PPO["inputs"]["mb_return"]),
    )
    loss, gradients = ours(ppo_section(), tokens, "logprobs_BT", "values_BT")
    assert loss == pytest.approx(PPO["loss"], rel=1e-5)
    assert_close(gradients[0], PPO["logprobs_gradient_BT"])
    assert_close(gradients[1], PPO["values_gradient_BT"])
    _, sums = make(ppo_section()).loss(tokens, totals(tokens, 1))
    for name in ("value_loss", "value_clip_fraction"):
        assert float(sums[name]) / mask_BT.sum() == pytest.approx(PPO[name], rel=1e-5)


def test_every_case_of_the_fixtures_is_compared():
    assert {*CASES, "gspo_truncate", "rloo"} == set(LOSSES["cases"])


def test_the_fixtures_do_clip_and_cut():
    # A comparison in which no bound is reached would show little.
    gradients = {name: case["logprobs_gradient_BT"] for name, case in LOSSES["cases"].items()}
    mask_BT = np.array(LOSSES["batch"]["mask_BT"])

    def without_gradient(case: str) -> int:
        return int((mask_BT & (np.array(gradients[case]) == 0)).sum())

    assert without_gradient("rloo") == 0
    assert without_gradient("cispo") == 0
    for case in ("grpo", "dapo", "dapo_delta", "gspo", "dapo_mask", "cispo_mask"):
        assert without_gradient(case) > 0
    assert without_gradient("dapo_delta") > without_gradient("dapo")
