"""Parts of messages: what stands in them more than once, or by itself."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from protocol.fields import (
    MAX_GROUP_SIZE,
    MAX_TOKENS,
    Count,
    Facts,
    FinishReason,
    Name,
    Text,
    TokenIds,
)


class LeaseProgress(BaseModel):
    """One lease in an actor's heartbeat."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    group_id: Count
    attempt: Count
    tokens: Count
    """Sampled for this lease so far; the deadline is renewed when it has grown."""


class Lease(BaseModel):
    """One group to generate: a prompt and how to sample its completions."""

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)
    group_id: Count
    attempt: Count
    purpose: Literal["train", "evaluation"]
    prompt_ids: TokenIds
    num_samples: int = Field(gt=0, le=MAX_GROUP_SIZE)
    seed: Count
    """Sampling keys come from (seed, sample, position)."""
    temperature: float = Field(ge=0.0, le=100.0)
    """0 is greedy."""
    max_completion_tokens: int = Field(gt=0, le=MAX_TOKENS)
    policy_version: Count
    """Evaluation: exactly this version. Training: this version or a newer one."""


class SampleAck(BaseModel):
    """One rollout or score that need not come again."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    group_id: Count
    attempt: Count
    sample: Count


class RolloutAck(SampleAck):
    """One rollout, and whether it was of use."""

    accepted: bool
    reason: str = Field(default="", max_length=200)


class ScoreTask(BaseModel):
    """One completion to score."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    group_id: Count
    attempt: Count
    sample: Count
    prompt: Text
    """JSON: a string or a list of chat messages, as in the data row."""
    completion: Text
    completion_tokens: Count
    finish_reason: FinishReason
    columns: Text
    """JSON object: the data row's other columns."""
    suite: str = Field(default="", max_length=200)
    """Which rewards score it: the run's, or those that the config's evaluator of this name has."""


class NamedReward(BaseModel):
    """What one reward function said of one completion."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: Name
    reward: float | None = Field(default=None, allow_inf_nan=False)
    """None: does not apply, or failed (then `status` is not ok)."""
    status: Name = "ok"
    seconds: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    facts: Facts = {}
    """What else it said of this completion: numbers and short texts by name."""


class TensorSpec(BaseModel):
    """One tensor in a version's byte string."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: Name
    dtype: Literal["bfloat16", "float16", "float32", "uint32", "uint8", "int32"]
    shape: tuple[Count, ...] = Field(max_length=8, fail_fast=True)
    num_bytes: Count
