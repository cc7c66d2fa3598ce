"""Prompts and completions of chosen lengths, for timing: their tokens mean nothing."""

import numpy as np
from numpy.typing import NDArray

from learner.samples import ScoredSample
from protocol.messages import Rollout, Score

_FIRST_TOKEN, _LAST_TOKEN = 1, 16
"""Ids that any vocabulary has."""


def synthetic_prompt(number: int, num_tokens: int) -> NDArray[np.int32]:
    """Token ids, other ones for every number."""
    random = np.random.default_rng(number)
    return random.integers(_FIRST_TOKEN, _LAST_TOKEN, num_tokens).astype(np.int32)


def synthetic_samples(
    num_groups: int, group_size: int, prompt_tokens: int, completion_tokens: int
) -> list[ScoredSample]:
    """Scored completions of one length; no group has equal rewards, so that all are computed."""
    return [
        _sample(group, sample, sample / group_size, prompt_tokens, completion_tokens)
        for group in range(num_groups)
        for sample in range(group_size)
    ]


def _sample(
    group: int, sample: int, reward: float, prompt_tokens: int, completion_tokens: int
) -> ScoredSample:
    key = {"run_epoch": 1, "group_id": group, "attempt": 1, "sample": sample}
    tokens = synthetic_prompt(1000 + group * 1000 + sample, completion_tokens)
    rollout = Rollout.model_validate(
        {
            **key,
            "token_ids": tokens,
            "behaviour_logprobs": np.full(completion_tokens, -1.0, np.float32),
            "policy_versions": ((0, completion_tokens),),
            "finish_reason": "length",
            "completion": "",
            "seconds": 0.0,
        }
    )
    score = Score.model_validate({**key, "reward": reward, "rewards": (), "status": "ok"})
    prompt_ids = synthetic_prompt(group, prompt_tokens)
    return ScoredSample("prompt", "", prompt_ids, "actor", rollout, score)
