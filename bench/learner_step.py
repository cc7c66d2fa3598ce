"""Peak memory and seconds of one training step: plain, and with each part of the lean learner.

A random model of SmolLM2-135M's shape (vocabulary 49,152), LoRA on all layers, GRPO; every variant
in a process of its own, in turn, with the same completions. `plain` is written out here: all
completions padded into one batch, the model's logits at all positions, autograd.

    .venv/bin/python bench/learner_step.py memory     # 16 completions of 512 tokens, prompt 512
    .venv/bin/python bench/learner_step.py speed      # group of 8, prompt 512, completions of 128

Where a variant does not fit, measure it at fewer `--completions`: its memory is linear in them.
Peak is MLX's own count, above what stands before the step (weights, adapters, moments).
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.blas import preload_blas

preload_blas()

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import numpy as np  # noqa: E402
from mlx.utils import tree_flatten, tree_unflatten  # noqa: E402
from mlx_lm.models.llama import Model, ModelArgs  # noqa: E402
from mlx_lm.tuner.utils import linear_to_lora_layers  # noqa: E402

from learner.algorithm import make_algorithm  # noqa: E402
from learner.samples import ScoredSample  # noqa: E402
from learner.step import Trainer  # noqa: E402
from protocol.config import RunConfig  # noqa: E402
from protocol.messages import Rollout, Score  # noqa: E402
from protocol.policy import Policy  # noqa: E402

SMOLLM2 = ModelArgs(
    model_type="llama",
    hidden_size=576,
    num_hidden_layers=30,
    intermediate_size=1536,
    num_attention_heads=9,
    num_key_value_heads=3,
    rms_norm_eps=1e-5,
    vocab_size=49_152,
    rope_theta=100_000,
    tie_word_embeddings=True,
)
EVERYTHING_IN_ONE = 10**9


@dataclass(frozen=True)
class Variant:
    """Which parts of the lean learner are on; None: the plain step of this file."""

    learner: dict[str, Any] | None


VARIANTS = {
    "plain": Variant(None),
    "chunked": Variant({"share_prompts": False, "microbatch_tokens": EVERYTHING_IN_ONE}),
    "chunked, checkpointed": Variant(
        {
            "share_prompts": False,
            "grad_checkpoint": True,
            "microbatch_tokens": EVERYTHING_IN_ONE,
        }
    ),
    "chunked, shared": Variant({"microbatch_tokens": EVERYTHING_IN_ONE}),
    "chunked, checkpointed, shared": Variant(
        {"grad_checkpoint": True, "microbatch_tokens": EVERYTHING_IN_ONE}
    ),
    "all, microbatches of 2,560 tokens": Variant(
        {"grad_checkpoint": True, "microbatch_tokens": 2_560}
    ),
}


@dataclass(frozen=True)
class Shape:
    """What is trained on."""

    completions: int
    group_size: int
    prompt_tokens: int
    completion_tokens: int


SHAPES = {"memory": Shape(16, 8, 512, 512), "speed": Shape(8, 8, 512, 128)}


def samples_of(shape: Shape) -> list[ScoredSample]:
    """Random tokens, rewards 0 and 1 in turn."""
    rng = np.random.default_rng(0)
    samples: list[ScoredSample] = []
    groups = -(-shape.completions // shape.group_size)
    prompts = rng.integers(0, SMOLLM2.vocab_size, (groups, shape.prompt_tokens)).astype(np.int32)
    for index in range(shape.completions):
        group, sample = divmod(index, shape.group_size)
        tokens = rng.integers(0, SMOLLM2.vocab_size, shape.completion_tokens)
        rollout = Rollout(
            run_epoch=1,
            group_id=group,
            attempt=1,
            sample=sample,
            token_ids=tokens.astype(np.int32),
            behaviour_logprobs=np.full(len(tokens), -10.8, np.float32),
            policy_versions=((0, len(tokens)),),
            finish_reason="length",
            completion="",
            seconds=1.0,
        )
        score = Score(
            run_epoch=1,
            group_id=group,
            attempt=1,
            sample=sample,
            reward=float(index % 2),
            rewards=(),
            status="ok",
            detail="",
        )
        samples.append(ScoredSample("p", "p", prompts[group], "actor", rollout, score))
    return samples


def adapted_model() -> nn.Module:
    """Random weights, and adapters as the config's lora section makes them."""
    mx.random.seed(0)
    model = Model(SMOLLM2)
    model.freeze()
    linear_to_lora_layers(model, SMOLLM2.num_hidden_layers, {"rank": 8, "scale": 2.0, "dropout": 0})
    mx.eval(model.parameters())
    return model


def plain_step(model: nn.Module, samples: list[ScoredSample]) -> float:
    """Loss and gradient by the book; returns the loss."""
    rows = [np.concatenate([s.prompt_ids, s.rollout.token_ids]) for s in samples]
    tokens_BT = mx.array(np.stack(rows))
    start = len(samples[0].prompt_ids) - 1
    old_BT = mx.array(np.stack([np.array(s.rollout.behaviour_logprobs) for s in samples]))
    sign_B = mx.array([1.0 if (s.score.reward or 0) > 0 else -1.0 for s in samples])

    def loss_of(parameters: dict[str, mx.array]) -> mx.array:
        model.update(tree_unflatten(list(parameters.items())))
        logits_BTV = model(tokens_BT[:, :-1]).astype(mx.float32)
        logprobs_BTV = logits_BTV - mx.logsumexp(logits_BTV, axis=-1, keepdims=True)
        picked = mx.take_along_axis(logprobs_BTV, tokens_BT[:, 1:, None], axis=-1)[..., 0]
        ratio_BT = mx.exp(picked[:, start:] - old_BT)
        free_BT = ratio_BT * sign_B[:, None]
        clipped_BT = mx.clip(ratio_BT, 0.8, 1.2) * sign_B[:, None]
        return -mx.minimum(free_BT, clipped_BT).mean()

    parameters = dict(tree_flatten(model.trainable_parameters()))
    loss, gradients = mx.value_and_grad(loss_of)(parameters)
    mx.eval(loss, gradients)
    return float(loss)


def measure(variant: Variant, shape: Shape) -> dict[str, float]:
    """Peak bytes above the start and seconds of a step."""
    samples, model = samples_of(shape), adapted_model()
    config = RunConfig.model_validate(
        {
            "model": {"path": "builtin:tiny"},
            "data": {"train": ["arithmetic:add2?count=8"]},
            "rewards": [{"name": "exact_match"}],
            "learner": {"tuning": "lora", **(variant.learner or {})},
        }
    )
    policy = Policy(model, None, Path(), mx.float32, mx.float32)
    trainer = None
    if variant.learner is not None:
        trainer = Trainer(policy, make_algorithm(config.algorithm), config)
    mx.clear_cache()
    mx.reset_peak_memory()
    before, began = mx.get_active_memory(), time.perf_counter()
    if trainer is None:
        loss = plain_step(model, samples)
    else:
        loss = trainer.step(samples, 0, 0).metrics["loss"]
    seconds = time.perf_counter() - began
    return {"peak": mx.get_peak_memory() - before, "seconds": seconds, "loss": loss}


def in_a_process(name: str, shape: Shape) -> dict[str, float] | None:
    """The same in a fresh process; None where it died, most likely of memory."""
    command = [sys.executable, __file__, "one", name, *map(str, vars(shape).values())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def main() -> None:
    """Print a table of all variants."""
    if sys.argv[1:2] == ["one"]:
        shape = Shape(*map(int, sys.argv[3:]))
        print(json.dumps(measure(VARIANTS[sys.argv[2]], shape)))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--completions", type=int, help="in place of the shape's own")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    if options.completions:
        shape = Shape(options.completions, *list(vars(shape).values())[1:])
    print(shape)
    for number in range(options.rounds):
        for name in options.variants:
            found = in_a_process(name, shape)
            if found is None:
                print(f"{name:36} died (out of memory?)")
                continue
            print(
                f"{name:36} round {number}  peak {found['peak'] / 2**30:6.2f} GiB  "
                f"{found['seconds']:7.1f} s  loss {found['loss']:+.5f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
