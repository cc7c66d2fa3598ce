"""A look at a batch before its first optimizer step: what is wanted, for each sample."""

import mlx.core as mx
import numpy as np
import pytest

from learner.batch import microbatches
from learner.critic import Critic
from learner.forward.forward import Forward
from learner.prior import Prior
from learner.reference import Reference
from protocol.policy import load_policy

LENGTHS = (3, 2, 4)


@pytest.fixture(scope="module")
def scene(make_config, make_sample):
    """A policy, its forward pass, samples, and microbatches of the first and the last of them."""
    config = make_config(policy={"weight_dtype": "float32"}, learner={"tuning": "lora"})
    policy = load_policy(config)
    forward = Forward(policy.model, config.learner, temperature=1.0, entropy_gradient=False)
    samples = [make_sample((7, 8), range(9, 9 + length)) for length in LENGTHS]
    parts = microbatches(samples, (0, 2), policy_version=0, token_budget=1, share_prompts=False)
    assert [part.indices for part in parts] == [(0,), (2,)]
    return config, policy, forward, parts


def test_nothing_is_looked_at_where_nothing_is_wanted(scene):
    _, _, forward, parts = scene
    prior = Prior(forward, None, None, proximal=False)
    assert not prior.looks
    assert prior.look([], 3) == {}
    assert prior.look(parts, 3) == {}


def test_proximal_logprobs_are_those_of_the_policy_now(scene):
    _, _, forward, parts = scene
    prior = Prior(forward, None, None, proximal=True)
    assert prior.looks
    found = prior.look(parts, 3)
    assert found.keys() == {"proximal_logprobs"}
    first, second, third = found["proximal_logprobs"]
    assert second is None  # not among the microbatches
    for row, part, length in ((first, parts[0], 3), (third, parts[1], 4)):
        assert row is not None
        np.testing.assert_array_equal(row, np.array(forward(part).logprobs_BT)[0, :length])


def test_old_values_are_those_of_the_critic_now(scene):
    # hidden . 0 + 0.25
    config, _, forward, parts = scene
    critic = Critic(forward.hidden_size, config.learner)
    critic.arrays["bias"] = mx.array([0.25])
    prior = Prior(forward, critic, None, proximal=False)
    assert prior.looks
    found = prior.look(parts, 3)
    assert found.keys() == {"old_values"}
    assert [None if row is None else row.tolist() for row in found["old_values"]] == [
        [0.25] * 3,
        None,
        [0.25] * 4,
    ]


def test_reference_logprobs_are_those_of_the_reference(scene):
    config, policy, forward, parts = scene
    reference = Reference(policy, forward, config)
    prior = Prior(forward, None, reference, proximal=False)
    assert prior.looks
    [first, second, third] = prior.look(parts, 3)["ref_logprobs"]
    assert second is None
    for row, part, length in ((first, parts[0], 3), (third, parts[1], 4)):
        assert row is not None
        np.testing.assert_array_equal(row, np.array(reference.logprobs(part))[0, :length])


def test_everything_at_once(scene):
    config, policy, forward, parts = scene
    critic = Critic(forward.hidden_size, config.learner)
    prior = Prior(forward, critic, Reference(policy, forward, config), proximal=True)
    found = prior.look(parts, 3)
    assert found.keys() == {"proximal_logprobs", "old_values", "ref_logprobs"}
    # adapters start without effect: the policy is the reference
    for row, ref_row in zip(found["proximal_logprobs"], found["ref_logprobs"], strict=True):
        np.testing.assert_array_equal(row, ref_row)
