"""`python -m learner.plan.probe --config FILE`: times the real model briefly, prints JSON.

A process of its own, since mlx-train never imports mlx. It needs as much memory as the learner.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache

from learner.algorithm import Algorithm, make_algorithm
from learner.plan.decoding import Decoding, columns_read, prefill
from learner.plan.kv_caches import shares_prompts
from learner.plan.prompts import PromptLengths, prompt_lengths
from learner.plan.synthetic import synthetic_samples
from learner.plan.work import Needs, Work
from learner.step import Trainer
from protocol.config import RunConfig
from protocol.config_file import load_config
from protocol.policy import Policy, load_policy
from protocol.process import die_with_parent, private_tmpdir, run_main
from protocol.weights import pack

LEARNER_SECONDS = 25.0
"""Time for the learner's steps; a longer one is measured in part."""
DECODE_SECONDS = 15.0
DECODE_STEPS = 24


@dataclass(frozen=True)
class Measured:
    """What the probe found; lengths as the run will have them."""

    needs: Needs
    prompts: PromptLengths
    learner_seconds: float
    """Of one training step, publication included."""
    prefill_seconds: float
    """Of one prompt, among as many as an actor computes at once."""
    decode_seconds: float
    """Of one decode step of a full batch."""
    decode_rows: int
    """Completions in that batch."""
    working_set_bytes: int = 0
    """What Metal recommends that all processes keep to; 0 elsewhere."""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m learner.plan.probe", description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--completion-tokens", type=int, required=True)
    parser.add_argument("--rows", type=int, default=1, help="completions decoded at once")
    parser.add_argument("--needs-only", action="store_true", help="lengths and needs, no timing")
    options = parser.parse_args()
    die_with_parent()
    config = load_config(options.config)
    with private_tmpdir():
        found = measure(config, options.completion_tokens, options.rows, options.needs_only)
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
    return 0


def measure(config: RunConfig, completion_tokens: int, rows: int, needs_only: bool) -> Measured:
    """Load what the roles load, and time a step of each."""
    algorithm = make_algorithm(config.algorithm)
    needs = needs_of(algorithm)
    if needs_only:
        from protocol.model_folder import model_folder
        from protocol.tokenizer import load_tokenizer

        folder = model_folder(config.model.path, config.model.revision)
        tokenizer = load_tokenizer(config.model, folder)
        prompts = prompt_lengths(config, tokenizer)
        return Measured(needs, prompts, 0.0, 0.0, 0.0, 0, working_set_bytes())
    policy = load_policy(config)
    prompts = prompt_lengths(config, policy.tokenizer)
    prompt_tokens = max(1, round(prompts.mean))
    prefill, decode = decode_times(policy, prompt_tokens, completion_tokens, rows, config)
    learner = learner_time(policy, algorithm, config, prompt_tokens, completion_tokens)
    return Measured(needs, prompts, learner, prefill, decode, rows, working_set_bytes())


def needs_of(algorithm: Algorithm) -> Needs:
    """What an algorithm asks for."""
    return Needs(
        optimizer_steps=algorithm.epochs * algorithm.minibatches,
        minibatches=algorithm.minibatches,
        reference=algorithm.needs_reference,
        critic=algorithm.returns is not None,
    )


def learner_time(
    policy: Policy,
    algorithm: Algorithm,
    config: RunConfig,
    prompt_tokens: int,
    completion_tokens: int,
) -> float:
    """Seconds of a step on a full batch, or what a smaller batch says about it.

    seconds(groups) = a + b groups
    """
    trainer = Trainer(policy, algorithm, config)
    group_size, wanted = config.generation.group_size, config.learner.groups_per_step

    def step(num_groups: int) -> float:
        samples = synthetic_samples(num_groups, group_size, prompt_tokens, completion_tokens)
        return _seconds(lambda: trainer.step(samples, 0, 0))

    one = step(1)
    if one < LEARNER_SECONDS / 4:
        one = step(1)  # the first one compiles and fills caches
    publish = _seconds(lambda: pack(trainer.parameters.masters.rounded().items()))
    some = min(wanted, max(2, int(LEARNER_SECONDS / 2 / one)))
    if wanted == 1:
        return one + publish
    several = step(some)
    slope = max(0.0, (several - one) / (some - 1))
    return several + slope * (wanted - some) + publish


def decode_times(
    policy: Policy, prompt_tokens: int, completion_tokens: int, rows: int, config: RunConfig
) -> tuple[float, float]:
    """Seconds to prefill one prompt, and of one decode step of a full batch."""
    policy.model.eval()
    group_size = config.generation.group_size
    work = Work(prompt_tokens, completion_tokens, Needs())
    is_shared = shares_prompts(config, work, policy.compute_dtype.size)
    columns = columns_read(prompt_tokens, completion_tokens, group_size, is_shared=is_shared)
    decoding = Decoding(policy.model, columns, rows, group_size)
    at_once = max(1, config.generation.prefill_step_tokens // prompt_tokens)
    prompts = min(-(-rows // group_size), at_once)

    def prefill_some() -> None:
        caches = make_prompt_cache(cast(nn.Module, policy.model))
        prefill(policy.model, caches, prompt_tokens, prompts)

    _seconds(prefill_some)  # the first one fills caches
    one_prompt = _seconds(prefill_some) / prompts
    decoding.begin()
    decoding.step()
    steps: list[float] = []
    while len(steps) < DECODE_STEPS and sum(steps) < DECODE_SECONDS:
        steps.append(_seconds(decoding.step))
    return one_prompt, sum(steps) / len(steps)


def working_set_bytes() -> int:
    """Metal's recommendation for all that the GPU works on."""
    if not mx.metal.is_available():
        return 0
    return int(mx.device_info().get("max_recommended_working_set_size", 0))


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    run_main(main)
