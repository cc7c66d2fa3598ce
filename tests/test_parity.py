"""Actor and learner compute the same number: on-policy, every importance ratio is 1."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.blas import preload_blas

preload_blas()

import mlx.core as mx  # noqa: E402 - the BLAS must be loaded first
import mlx.nn as nn  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402

import learner.parameters  # noqa: E402
from actors.fetch import Fetched  # noqa: E402
from actors.prepared import prepare  # noqa: E402
from learner.algorithm import make_algorithm  # noqa: E402
from learner.exchange.publish import Publisher  # noqa: E402
from learner.step import Trainer  # noqa: E402
from protocol.policy import load_policy  # noqa: E402
from protocol.weights import pack  # noqa: E402

LARGEST = 1e-4
MISMATCH_KL = 1e-6
TEMPERATURE = 0.7


def _bench() -> Any:
    """bench/ is no package: what `python bench/parity.py` runs, loaded by its path."""
    path = Path(__file__).parents[1] / "bench" / "parity.py"
    spec = importlib.util.spec_from_file_location("bench_parity", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench = _bench()


@pytest.fixture(autouse=True)
def _uncompiled():
    mx.disable_compile()
    yield
    mx.enable_compile()


def load(config):
    """The built-in policy with its embeddings halved: flatter, so that completions are longer."""
    policy = load_policy(config)
    policy.model.eval()
    embedding = policy.model.model.embed_tokens
    embedding.weight = embedding.weight * 0.5
    return policy


def make_config(compute_dtype="float32", **learner_section):
    return bench.make_config("builtin:tiny", compute_dtype, TEMPERATURE, 24, **learner_section)


def make_prompts():
    """Twelve prompts of 1 to 34 tokens."""
    chosen = np.random.default_rng(5)
    return [chosen.integers(6, 35, 1 + 3 * i).tolist() for i in range(12)]


@pytest.fixture(scope="module")
def on_policy():
    """An actor's policy and 96 completions that it has just sampled."""
    policy = load(make_config())
    samples = bench.roll_out(policy, make_prompts(), make_config())
    lengths = {len(sample.rollout.token_ids) for sample in samples}
    reasons = [sample.rollout.finish_reason for sample in samples]
    assert len(samples) == 96
    assert len(lengths) > 5
    assert reasons.count("stop") >= 20 and reasons.count("length") >= 5
    assert sum(len(sample.rollout.token_ids) for sample in samples) >= 600
    return policy, samples


def test_an_on_policy_step_sees_the_logprobs_that_the_actor_reported(on_policy):
    _, samples = on_policy
    result = bench.train_once(load(make_config()), make_config(), samples)
    found = bench.parity(samples, result.logprobs)
    assert found.tokens == sum(len(sample.rollout.token_ids) for sample in samples)
    assert found.largest <= LARGEST
    assert found.mismatch_kl <= MISMATCH_KL
    assert result.metrics["mismatch_kl"] <= MISMATCH_KL
    assert result.metrics["clip_fraction"] == 0.0
    assert result.metrics["importance_ratio"] == pytest.approx(1.0, abs=1e-5)


def test_end_tokens_agree_too(on_policy):
    _, samples = on_policy
    policy = load(make_config())
    logprobs = bench.train_once(policy, make_config(), samples).logprobs
    ends = [
        abs(float(ours[-1]) - float(sample.rollout.behaviour_logprobs[-1]))
        for ours, sample in zip(logprobs, samples, strict=True)
        if sample.rollout.token_ids[-1] in policy.stop_ids()
    ]
    assert len(ends) >= 20
    assert max(ends) <= LARGEST


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_a_learner_whose_temperature_is_off_by_two_percent_fails_the_bar(on_policy, factor):
    _, samples = on_policy
    config = bench.with_temperature(make_config(), TEMPERATURE * factor)
    found = bench.parity(samples, bench.train_once(load(config), config, samples).logprobs)
    assert found.largest > 10 * LARGEST
    assert found.mismatch_kl > 10 * MISMATCH_KL


def test_after_a_step_the_published_weights_agree_and_the_old_ones_do_not(on_policy):
    _, samples = on_policy
    config = make_config(optimizer={"learning_rate": 1e-3})
    trainer = Trainer(load(config), make_algorithm(config.algorithm), config)
    trainer.step(samples, 0, 0)
    actor = load(config)
    packed = pack(trainer.parameters.masters.rounded().items())
    manifest = Publisher(1, "full", "", 1).add(1, packed)
    actor.apply(prepare(Fetched(manifest, packed.data), actor.compute_dtype).weights())
    newer = bench.roll_out(actor, make_prompts(), config)
    found = bench.parity(newer, trainer.step(newer, 1, 1).logprobs)
    assert found.largest <= LARGEST
    assert found.mismatch_kl <= MISMATCH_KL
    stale = bench.parity(newer, bench.train_once(load(config), config, newer).logprobs)
    assert stale.largest > 10 * LARGEST
    assert stale.mismatch_kl > 10 * MISMATCH_KL


def test_adapters_agree():
    config = make_config(tuning="lora", optimizer={"learning_rate": 1e-2})
    trainer = Trainer(load(config), make_algorithm(config.algorithm), config)
    actor = load(config)
    masters = trainer.parameters.masters
    actor.apply(masters.rounded())  # adapters begin at random: the learner's are published
    trainer.step(bench.roll_out(actor, make_prompts(), config), 0, 0)
    actor.apply(trainer.parameters.masters.rounded())
    newer = bench.roll_out(actor, make_prompts(), config)
    found = bench.parity(newer, trainer.step(newer, 1, 1).logprobs)
    assert found.largest <= LARGEST
    assert found.mismatch_kl <= MISMATCH_KL


def test_computing_in_bfloat16_stays_close():
    config = make_config("bfloat16")
    samples = bench.roll_out(load(config), make_prompts(), config)
    found = bench.parity(samples, bench.train_once(load(config), config, samples).logprobs)
    assert found.mismatch_kl < 0.015


def reference_gradient(policy, samples, advantages):
    """One unpadded row at a time, without the learner's code: the clipped objective's gradient."""
    num_tokens = sum(
        len(sample.rollout.token_ids) for sample in samples if sample.score.reward is not None
    )

    def loss(model):
        total = mx.array(0.0)
        for sample, advantage in zip(samples, advantages, strict=True):
            if sample.score.reward is None:
                continue
            tokens = [*sample.prompt_ids.tolist(), *sample.rollout.token_ids.tolist()]
            first = len(sample.prompt_ids)
            scaled_TV = model(mx.array([tokens[:-1]]))[0, first - 1 :] / TEMPERATURE
            logprobs_TV = nn.log_softmax(scaled_TV, axis=-1)
            picked_T = logprobs_TV[mx.arange(len(tokens) - first), mx.array(tokens[first:])]
            ratio_T = mx.exp(picked_T - mx.array(sample.rollout.behaviour_logprobs))
            clipped_T = mx.clip(ratio_T, 0.8, 1.2)
            total += mx.minimum(ratio_T * advantage, clipped_T * advantage).sum()
        return -total / num_tokens

    value, gradients = nn.value_and_grad(policy.model, loss)(policy.model)
    return float(value), dict(tree_flatten(gradients))


def off_policy(samples):
    """Behaviour logprobs moved about, so that clipping matters; every seventh sample is masked."""
    chosen = np.random.default_rng(8)
    moved = []
    for index, sample in enumerate(samples):
        noise = chosen.normal(0.0, 0.2, len(sample.rollout.token_ids))
        behaviour = np.minimum(sample.rollout.behaviour_logprobs + noise, 0.0)
        rollout = sample.rollout.model_copy(
            update={"behaviour_logprobs": behaviour.astype(np.float32)}
        )
        reward = None if index % 7 == 3 else sample.score.reward
        score = sample.score.model_copy(update={"reward": reward})
        moved.append(type(sample)("prompt", "", sample.prompt_ids, "actor", rollout, score))
    return moved


@pytest.mark.parametrize("microbatch_tokens", [1, 100, 333, 8192])
def test_the_gradient_is_that_of_the_whole_batch_at_once(on_policy, monkeypatch, microbatch_tokens):
    samples = off_policy(on_policy[1][:48])
    config = make_config(microbatch_tokens=microbatch_tokens)
    seen = []

    def apply_gradients(optimizer, parameters, gradients, **_):
        seen.append(gradients)
        return parameters, 0.0

    monkeypatch.setattr(learner.parameters, "apply_gradients", apply_gradients)
    result = bench.train_once(load(config), config, samples)
    [gradients] = seen
    loss, wanted = reference_gradient(load(config), samples, result.advantages.tolist())
    assert result.metrics["loss"] == pytest.approx(loss, abs=1e-6)
    assert 0.05 < result.metrics["clip_fraction"] < 0.6
    assert gradients.keys() == wanted.keys()
    norm = math.sqrt(sum(float((array**2).sum()) for array in wanted.values()))
    assert norm > 0.05
    for name, array in gradients.items():
        assert float(mx.abs(array - wanted[name]).max()) <= 1e-5
