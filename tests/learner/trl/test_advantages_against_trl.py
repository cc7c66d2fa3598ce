"""Advantages and returns against what TRL made of the same rewards (make_fixtures.py)."""

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import json
from pathlib import Path

import numpy as np
import pytest

from learner.advantages.gae import gae_advantages
from learner.advantages.overlong import soft_overlong_penalty
from learner.advantages.weights import valid_token_mask
from learner.advantages.whiten import whiten
from learner.algorithm import Algorithm, BatchRewards, make_algorithm
from protocol.config_learner import AlgorithmSection

FOLDER = Path(__file__).parent
ADVANTAGES, PPO = (
    json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("advantages", "ppo")
)
VALUES_BT = np.array(PPO["inputs"]["values"], dtype=np.float32)


def make(section: dict) -> Algorithm:
    return make_algorithm(AlgorithmSection.model_validate(section))


def assert_close(found: np.ndarray, expected: object) -> None:
    np.testing.assert_allclose(found, np.array(expected, dtype=float), rtol=1e-5, atol=1e-6)


def batch_rewards(**changed) -> BatchRewards:
    given = {name: tuple(ADVANTAGES[name]) for name in ("rewards_B", "groups_B")}
    return BatchRewards(
        **{
            **given,
            "completion_tokens_B": (1,) * len(given["rewards_B"]),
            "max_completion_tokens": 12,
            **changed,
        }
    )


@pytest.mark.parametrize(("name", "case"), [("dr_grpo", "grpo_none"), ("rloo", "rloo")])
def test_advantages_without_a_std_are_trls(name, case):
    found_B = make({"name": name}).advantages(batch_rewards())
    assert_close(found_B, ADVANTAGES["advantages_B"][case])


def test_grpos_advantages_are_trls_but_for_the_std():
    found_B = make({"name": "grpo"}).advantages(batch_rewards())
    rewards_B = np.array(ADVANTAGES["rewards_B"], dtype=float)  # None becomes NaN
    for group in (slice(0, 4), slice(4, 8)):
        # here: the population's std + 1e-6; TRL: the sample's + 1e-4
        std, theirs = (np.nanstd(rewards_B[group], ddof=ddof) for ddof in (0, 1))
        found_B[group] *= (std + 1e-6) / (theirs + 1e-4)
    assert_close(found_B, ADVANTAGES["advantages_B"]["grpo_group"])


@pytest.mark.parametrize("buffer", [0, 4, 10])
def test_the_price_of_length_is_trls(buffer):
    found_B = soft_overlong_penalty(
        range(13), max_completion_tokens=10, overlong_buffer=buffer, overlong_penalty=1.0
    )
    assert_close(found_B, ADVANTAGES["overlong_of_0_to_12_tokens_by_buffer"][str(buffer)])


def trls_ends() -> tuple[int, ...]:
    """TRL's reward comes one column after the last token, at the first of padding, if there is one.

    That column has a value too, so that there a completion is one token longer.
    """
    return tuple(min(n + 1, VALUES_BT.shape[1]) for n in PPO["tokens_B"])


def test_returns_are_trls():
    returns = make({"name": "ppo", "gamma": 0.97, "lam": 0.9}).returns
    assert returns is not None
    rewards_B = tuple(PPO["inputs"]["scores"])
    batch = batch_rewards(rewards_B=rewards_B, completion_tokens_B=trls_ends(), values_BT=VALUES_BT)
    assert_close(returns(batch), PPO["returns_BT"])


def test_whitened_advantages_are_trls_but_for_the_std():
    settings = PPO["settings"]
    rewards_B = PPO["inputs"]["scores"]
    raw_BT = gae_advantages(
        rewards_B, VALUES_BT, trls_ends(), gamma=settings["gamma"], lam=settings["lam"]
    )
    mask_BT = valid_token_mask(rewards_B, PPO["tokens_B"], VALUES_BT.shape[1])
    # here: the population's std + 1e-8; TRL: sqrt(the sample's variance + 1e-8)
    std, variance = raw_BT[mask_BT].std(), raw_BT[mask_BT].var(ddof=1)
    factor = (std + 1e-8) / np.sqrt(variance + 1e-8)
    assert_close(factor * whiten(raw_BT, mask_BT), PPO["whitened_advantages_BT"])
