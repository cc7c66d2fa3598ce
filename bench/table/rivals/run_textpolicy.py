"""Runs one job with textpolicy's rollouts and Trainer: `python run_textpolicy.py job.json`.

In its venv. Put together from its public parts, at its best: all completions of a step in one
batched decode of its own loop. Two of its parts are right for one prompt a step only, and are
replaced here:

- TextGenerationEnv gives the same prompt to a whole batch and scores it against the answers of
  others, since only `step` moves it on and a batch calls `reset` for all its rows first;
- its advantages take one baseline for the whole batch; here each prompt has its own, as in GRPO.
"""

# pyright: basic, reportMissingImports=false

import sys
from collections import deque
from itertools import cycle

from job import StepLog, preload_blas, read_job

preload_blas()

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
from mlx.optimizers import AdamW  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402
from mlx_lm.tuner.utils import linear_to_lora_layers  # noqa: E402
from textpolicy import create_policy, load_model  # noqa: E402
from textpolicy.algorithms import grpo  # noqa: E402
from textpolicy.environment.base import Environment  # noqa: E402
from textpolicy.rollout import RolloutCoordinator  # noqa: E402
from textpolicy.training import Trainer  # noqa: E402


class Prompts(Environment):
    """Single-turn prompts, each for a group; `step` scores in the order of `reset`."""

    def __init__(self, job, prompts, tokenizer) -> None:  # noqa: ANN001
        super().__init__()
        self._rows = cycle([prompt for prompt in prompts for _ in range(job.group_size)])
        self._waiting = deque()
        self._tokenizer = tokenizer
        self._score = job.load_reward()

    def reset(self):  # noqa: ANN201
        """The next prompt."""
        prompt = next(self._rows)
        self._waiting.append(prompt)
        return prompt.token_ids, {}

    def step(self, action):  # noqa: ANN001, ANN201
        """The reward of the completion of the prompt that waits longest."""
        text = self._tokenizer.decode(action).removesuffix(self._tokenizer.eos_token)
        (reward,) = self._score([text], answer=[self._waiting.popleft().answer])
        return {
            "observation": [],
            "reward": reward,
            "terminated": True,
            "truncated": False,
            "info": {},
        }

    @property
    def observation_space(self) -> str:
        """Of no use here."""
        return "tokens"

    @property
    def action_space(self) -> str:
        """Of no use here."""
        return "tokens"


def main() -> None:
    """Train."""
    job = read_job(sys.argv[1])
    mx.random.seed(job.seed)
    model, tokenizer = load_model(job.model)
    if job.lora_rank:
        model.freeze()
        keys = {"rank": job.lora_rank, "scale": job.lora_scale, "dropout": 0.0}
        linear_to_lora_layers(model, len(model.layers), keys)
    rollouts = _rollouts(job, model, tokenizer)
    trainer = Trainer(
        model=model,
        advantage_fn=lambda advantages: advantages,  # they stand in the rewards' place
        loss_fn=grpo.policy_loss,
        optimizer=AdamW(job.learning_rate, weight_decay=0.0, bias_correction=True),
        max_grad_norm=1.0,
        compile_training=False,  # no faster for SmolLM2 either: 3.9 CPU s a step against 3.8
    )
    log = StepLog(
        job, lambda path: mx.save_safetensors(path, dict(tree_flatten(model.parameters())))
    )
    for _ in range(job.steps):
        batch = grpo.select_all_data(rollouts.collect())
        reward = float(batch["rewards"].mean().item())
        batch["rewards"] = _advantages(batch)
        trainer.train(batch)
        log.step(reward=reward, tokens=float(np.mean(batch["episode_lengths"])))


def _rollouts(job, model, tokenizer) -> RolloutCoordinator:  # noqa: ANN001
    prompts = job.read_prompts()
    np.random.default_rng(job.seed).shuffle(prompts)
    settings = {"max_tokens": job.max_completion_tokens, "temperature": 1.0, "top_p": 1.0}
    return RolloutCoordinator(
        env_fn=lambda: Prompts(job, prompts, tokenizer),
        policy_fn=lambda: create_policy(model, tokenizer, settings),
        algorithm="grpo",
        max_steps=job.samples_per_step,
        batch_size=job.samples_per_step,
        model=model,
        tokenizer=tokenizer,
        generation_params=settings,
    )


def _advantages(batch) -> mx.array:  # noqa: ANN001
    """(reward - mean) / std within each prompt; the selector sorts rows by length."""
    rewards = np.array(batch["rewards"])
    rows = np.array(batch["obs"])
    groups: dict[bytes, list[int]] = {}
    for index, length in enumerate(batch["prompt_lengths"]):
        groups.setdefault(rows[index, :length].tobytes(), []).append(index)
    advantages = np.zeros_like(rewards)
    for group in groups.values():
        centred = rewards[group] - rewards[group].mean()
        advantages[group] = centred / (centred.std() + 1e-4)
    return mx.array(advantages, dtype=mx.float32)


if __name__ == "__main__":
    main()
