"""Which losses still learn from rollouts that are exactly four policy versions old?

The built-in tiny policy learns two-digit additions, in one process and without sockets: every
batch is sampled by the policy of `--staleness` versions before, with the actors' engine, and goes
through the learner's own step. Only the loss differs between the rows of the table.

    .venv/bin/python bench/off_policy.py [--steps 60] [--seeds 0 1 2] [--learning-rate 3e-4]

Prints held-out accuracy (greedy) after the last step, by seed, and each mean as a share of the
synchronous run's.
"""

import argparse
import statistics
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from protocol.blas import preload_blas

preload_blas()

import numpy as np  # noqa: E402

from actors.batches.rows import Rows  # noqa: E402
from actors.completion import Completion  # noqa: E402
from actors.engine import Engine  # noqa: E402
from actors.entrance import Room  # noqa: E402
from actors.stopping import Stopping  # noqa: E402
from learner.algorithm import make_algorithm  # noqa: E402
from learner.data.arithmetic import arithmetic_rows, max_rows  # noqa: E402
from learner.samples import ScoredSample  # noqa: E402
from learner.step import Trainer  # noqa: E402
from protocol.config import RunConfig  # noqa: E402
from protocol.messages import Lease, Rollout, Score  # noqa: E402
from protocol.policy import Policy, load_policy  # noqa: E402

GROUPS, GROUP_SIZE, MAX_TOKENS = 16, 8, 8
TASK = "add2"

LOSSES: dict[str, dict[str, Any]] = {
    "plain clipped": {"name": "grpo"},
    "tis": {"name": "grpo", "off_policy": {"correction": "tis"}},
    "token_mask": {"name": "grpo", "off_policy": {"correction": "token_mask"}},
    "geo_mask": {"name": "grpo", "off_policy": {"correction": "geo_mask"}},
    "decoupled": {"name": "grpo", "off_policy": {"correction": "decoupled"}},
    "decoupled, interpolated": {
        "name": "grpo",
        "off_policy": {"correction": "decoupled", "proximal": "interpolated"},
    },
    "cispo": {"name": "cispo"},
    "dppo": {"name": "dppo"},
}


def make_config(algorithm: dict[str, Any], seed: int, options: argparse.Namespace) -> RunConfig:
    """A run's config; nothing of it is read but what the step and the model need."""
    return RunConfig.model_validate(
        {
            "run": {"seed": seed, "max_steps": options.steps},
            "model": {"path": "builtin:tiny"},
            "data": {"train": ["unused"]},
            "generation": {"group_size": GROUP_SIZE, "max_completion_tokens": MAX_TOKENS},
            "rewards": [{"name": "exact_match"}],
            "algorithm": algorithm,
            "learner": {"optimizer": {"learning_rate": options.learning_rate}},
        }
    )


class Sampler:
    """A policy copy of its own, as an actor has one."""

    def __init__(self, config: RunConfig) -> None:
        self.policy: Policy = load_policy(config)
        self.policy.model.eval()

    def complete(
        self, rows: Sequence[dict[str, Any]], *, samples: int, temperature: float, seed: int
    ) -> list[Completion]:
        """Completions of every row's prompt, in order."""
        model, stopping = self.policy.model, Stopping(self.policy.stop_ids())
        engine = Engine(model, Rows(model), stopping, Room(512), recycle_tokens=10**9)
        engine.policy_version = 0
        tokenizer = self.policy.tokenizer
        for group_id, row in enumerate(rows):
            messages = [{"role": "user", "content": row["prompt"]}]
            prompt_ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
            engine.add(
                Lease(
                    group_id=group_id,
                    attempt=1,
                    purpose="train",
                    prompt_ids=np.array(prompt_ids, np.int32),
                    num_samples=samples,
                    seed=seed + group_id,
                    temperature=temperature,
                    max_completion_tokens=MAX_TOKENS,
                    policy_version=0,
                )
            )
        finished: list[Completion] = []
        while not engine.idle:
            finished += engine.step()
        return sorted(finished, key=lambda c: (c.lease.group_id, c.sample))

    def is_right(self, completion: Completion, row: dict[str, Any]) -> bool:
        """Exact match."""
        text = self.policy.tokenizer.decode(completion.token_ids, skip_special_tokens=True)
        return text.strip() == row["answer"]


def scored(completion: Completion, version: int, reward: float) -> ScoredSample:
    """What the learner gets of a completion."""
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
            "policy_versions": ((version, len(completion.token_ids)),),
            "finish_reason": completion.finish_reason,
            "completion": "",
            "seconds": 0.0,
        }
    )
    score = Score.model_validate({**key, "reward": reward, "rewards": (), "status": "ok"})
    return ScoredSample("prompt", "", completion.lease.prompt_ids, "actor", rollout, score)


def train(algorithm: dict[str, Any], staleness: int, seed: int, options: Any) -> float:  # noqa: ANN401
    """Held-out accuracy after the last step."""
    config = make_config(algorithm, seed, options)
    sampler, policy = Sampler(config), load_policy(config)
    trainer = Trainer(policy, make_algorithm(config.algorithm), config)
    masters = trainer.parameters.masters
    versions = deque([(0, masters.rounded())], maxlen=staleness + 1)
    rows = arithmetic_rows(TASK, "train", GROUPS * options.steps, seed)
    version = 0
    for step in range(options.steps):
        held, weights = versions[0]
        sampler.policy.apply(weights)
        batch = rows[step * GROUPS : (step + 1) * GROUPS]
        completions = sampler.complete(
            batch, samples=GROUP_SIZE, temperature=1.0, seed=(seed + 1) * 10**6 + step * GROUPS
        )
        samples = [
            scored(c, held, float(sampler.is_right(c, batch[c.lease.group_id])))
            for c in completions
        ]
        if not trainer.step(samples, step, version).skipped:
            version += 1
            versions.append((version, masters.rounded()))
    sampler.policy.apply(masters.rounded())
    heldout = arithmetic_rows(TASK, "heldout", min(1024, max_rows(TASK, "heldout")))
    greedy = sampler.complete(heldout, samples=1, temperature=0.0, seed=0)
    return statistics.mean(sampler.is_right(c, heldout[c.lease.group_id]) for c in greedy)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--staleness", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--losses", nargs="*", default=list(LOSSES), choices=LOSSES)
    options = parser.parse_args()
    runs = [("synchronous", LOSSES["plain clipped"], 0)]
    runs += [(name, LOSSES[name], options.staleness) for name in options.losses]
    synchronous = 0.0
    for name, algorithm, staleness in runs:
        began = time.perf_counter()
        found = [train(algorithm, staleness, seed, options) for seed in options.seeds]
        mean = statistics.mean(found)
        synchronous = synchronous or mean
        print(
            f"{name:26} staleness {staleness}  {'  '.join(f'{a:.3f}' for a in found)}  "
            f"mean {mean:.3f}  {mean / synchronous:7.1%}  {time.perf_counter() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
