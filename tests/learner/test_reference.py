"""The frozen reference: the bits of the model that the run started from, whatever training does."""

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.tuner.utils import linear_to_lora_layers

from learner.algorithm import make_algorithm
from learner.batch import microbatches
from learner.forward.forward import Forward
from learner.reference import Reference, adapters_off
from learner.step import Trainer
from protocol.policy import load_policy

PROMPT = (7, 8, 16, 9, 20, 11, 12, 13, 14, 15, 16, 17)


@pytest.fixture
def samples(make_sample):
    return [
        make_sample(PROMPT, (10, 11, 5), reward=1.0),
        make_sample(PROMPT, (12, 5), reward=0.0, sample=1),
        make_sample((9, 8), (10, 5), reward=1.0, group=1),
        make_sample((9, 8), (13, 14, 5), reward=0.0, group=1, sample=1),
    ]


@pytest.fixture
def config_of(make_config):
    def make(tuning, **learner_section):
        section = {"tuning": tuning, "optimizer": {"learning_rate": 0.01}, **learner_section}
        return make_config(learner=section, generation={"temperature": 0.7})

    return make


def forward_of(policy, config):
    return Forward(
        policy.model,
        config.learner,
        temperature=config.generation.temperature,
        entropy_gradient=False,
    )


def parts_of(samples):
    parts = microbatches(
        samples, range(len(samples)), policy_version=0, token_budget=48, share_prompts=True
    )
    assert any(part.prompts for part in parts)
    return parts


def quantised(policy, *, adapters):
    """The same model in 4 bits, with adapters that are not 0 where they are wanted."""
    nn.quantize(policy.model, group_size=32, bits=4)
    if adapters:
        policy.model.freeze()
        linear_to_lora_layers(policy.model, 2, {"rank": 4, "scale": 5.0, "dropout": 0.0})
    return policy


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("bits", [None, 4])
def test_adapters_off_is_the_base_model_to_the_last_bit_also_after_training(
    config_of, samples, bits, recompute
):
    config = config_of("lora", grad_checkpoint=recompute)
    base = load_policy(config_of("full"))
    policy = load_policy(config) if bits is None else load_policy(config_of("full"))
    if bits is not None:
        base, policy = quantised(base, adapters=False), quantised(policy, adapters=True)
    wanted = [forward_of(base, config_of("full"))(part).logprobs_BT for part in parts_of(samples)]
    trainer = Trainer(policy, make_algorithm(config.algorithm), config)
    forward = forward_of(policy, config)
    reference = Reference(policy, forward, config)
    for step in range(3):
        for part, logprobs_BT in zip(parts_of(samples), wanted, strict=True):
            assert mx.array_equal(reference.logprobs(part), logprobs_BT)
        assert not trainer.step(samples, step, step).skipped
    [part, *_] = parts_of(samples)
    assert float(mx.abs(forward(part).logprobs_BT - wanted[0]).max()) > 0.01  # adapters are on


def test_adapters_are_on_again_after_an_error(config_of):
    policy = load_policy(config_of("lora"))
    scales = [module.scale for module in policy.model.modules() if hasattr(module, "lora_a")]
    assert scales
    assert 0.0 not in scales

    def fail():
        with adapters_off(policy.model):
            found = [m.scale for m in policy.model.modules() if hasattr(m, "lora_a")]
            assert set(found) == {0.0}
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fail()
    after = [module.scale for module in policy.model.modules() if hasattr(module, "lora_a")]
    assert after == scales


def test_under_full_tuning_the_second_copy_stays_as_it_was(config_of, samples):
    config = config_of("full")
    policy = load_policy(config)
    trainer = Trainer(policy, make_algorithm(config.algorithm), config)
    forward = forward_of(policy, config)
    reference = Reference(policy, forward, config)
    [part, *_] = parts_of(samples)
    before = np.array(reference.logprobs(part))
    np.testing.assert_array_equal(before, np.array(forward(part).logprobs_BT))
    for step in range(3):
        assert not trainer.step(samples, step, step).skipped
    np.testing.assert_array_equal(np.array(reference.logprobs(part)), before)
    assert abs(np.array(forward(part).logprobs_BT) - before).max() > 0.01


def test_logprobs_are_0_outside_the_mask(config_of, samples):
    config = config_of("full")
    policy = load_policy(config)
    reference = Reference(policy, forward_of(policy, config), config)
    for part in parts_of(samples):
        outside_BT = ~np.array(part.mask_BT)
        assert outside_BT.any()
        assert not np.array(reference.logprobs(part))[outside_BT].any()
