"""Every message that crosses a socket, each with its sender and receiver.

Frozen pydantic models; arrays travel as raw little-endian bytes. A field that this version does
not know is ignored, so that a newer peer of the same protocol version can say more. Delivery is
promised by nobody: what must not be lost is acked (rollouts, scores) or asked for again (the rest).
protocol/README.md is the specification.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from protocol.fields import (
    MAX_GROUP_SIZE,
    MAX_ITEMS,
    MAX_TOKENS,
    Count,
    Digest,
    FinishReason,
    Logprobs,
    Name,
    Role,
    Text,
    TokenIds,
)
from protocol.message_parts import (
    Lease,
    LeaseProgress,
    NamedReward,
    RolloutAck,
    SampleAck,
    ScoreTask,
    TensorSpec,
)

PROTOCOL_VERSION = 3
"""Raised with every change that an older peer would misread."""


class Message(BaseModel):
    """Base of all messages; `code` is the type's number on the wire."""

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)
    code: ClassVar[int]


# --- control: who is there, and which prompts to complete ------------------------------------


class Hello(Message):
    """Peer -> learner: the first message, and again until a Welcome comes."""

    code = 1
    role: Role
    peer: Name
    """Unique for this process: role, host, pid and a random part."""
    host: Name
    pid: Count
    run_id: str = Field(default="", max_length=200)
    """The run that the peer belongs to, from its environment; empty accepts any."""
    fingerprint: dict[str, str] = Field(default_factory=dict, max_length=50)
    """Platform, python, mlx and BLAS, for logs."""


class Welcome(Message):
    """Learner -> peer: registered; everything that a peer needs to begin."""

    code = 2
    run_id: Name
    run_epoch: Count
    policy_version: Count
    config: Text
    """The run's resolved config as JSON."""
    host: Name
    """The learner's host, so that a peer on the same one can share files with it."""
    run_dir: Text
    """Absolute path of the run folder on the learner's host."""
    weights_dir: str = Field(default="", max_length=4000)
    """Folder on the learner's host with whole versions as files; empty where it shares none."""
    heartbeat_seconds: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """Seconds between heartbeats."""


class Refused(Message):
    """Learner -> peer: cannot take part; the peer prints the reason and exits with code 2."""

    code = 3
    reason: Text


class Goodbye(Message):
    """Either way: the sender leaves. From the learner: the run is over, exit 0."""

    code = 4
    reason: Text
    peer: str = Field(default="", max_length=200)


class Heartbeat(Message):
    """Peer -> learner, every second: alive, what it is doing, how far its leases are."""

    code = 5
    peer: Name
    state: str = Field(max_length=200)
    policy_version: int = Field(ge=-1)
    """Held and verified; -1 before the first."""
    capacity: int = Field(ge=0, le=1_000_000)
    """Completions that it can hold at once: to generate (actor) or to score (reward worker)."""
    progress: tuple[LeaseProgress, ...] = Field(default=(), max_length=10_000, fail_fast=True)
    metrics: dict[str, float] = Field(default_factory=dict, max_length=200)
    run_epoch: int = Field(default=-1, ge=-1)
    """The one that policy_version and progress belong to; -1 before the first."""


class HeartbeatAck(Message):
    """Learner -> peer: the learner lives; the version that it would like actors to hold."""

    code = 6
    run_epoch: Count
    policy_version: Count


class HelloWanted(Message):
    """Learner -> peer: I do not know you (I may have restarted); say Hello again."""

    code = 10


class LeaseGrant(Message):
    """Learner -> actor: groups to generate."""

    code = 7
    run_epoch: Count
    leases: tuple[Lease, ...] = Field(max_length=10_000, fail_fast=True)


class LeaseCancel(Message):
    """Learner -> actor: an attempt that is no longer wanted."""

    code = 8
    group_id: Count
    attempt: Count
    reason: Name


class LeaseFailed(Message):
    """Actor -> learner: this attempt cannot be finished."""

    code = 9
    run_epoch: Count
    group_id: Count
    attempt: Count
    reason: str = Field(max_length=2000)


# --- rollouts: completions in, scoring work out, scores in ------------------------------------


class Rollout(Message):
    """Actor -> learner: one finished completion. Kept and sent again until acked."""

    code = 20
    run_epoch: Count
    group_id: Count
    attempt: Count
    sample: int = Field(ge=0, lt=MAX_GROUP_SIZE)
    token_ids: TokenIds
    """[T] sampled tokens, the end token included."""
    behaviour_logprobs: Logprobs
    """[T] nats, under the policy and temperature that sampled them (raw logits when greedy)."""
    policy_versions: tuple[tuple[Count, Annotated[int, Field(gt=0)]], ...] = Field(
        min_length=1, max_length=MAX_ITEMS, fail_fast=True
    )
    """Run-length: (policy version, tokens sampled under it), oldest first."""
    finish_reason: FinishReason
    completion: Text
    """The tokens as text, special tokens left out."""
    seconds: float = Field(ge=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _consistent(self) -> "Rollout":
        tokens, logprobs = self.token_ids, self.behaviour_logprobs
        if not 0 < len(tokens) <= MAX_TOKENS:
            raise ValueError(f"a completion of {len(tokens)} tokens, wanted 1 to {MAX_TOKENS}")
        if len(logprobs) != len(tokens):
            raise ValueError(f"{len(logprobs)} behaviour logprobs for {len(tokens)} tokens")
        if sum(count for _, count in self.policy_versions) != len(tokens):
            raise ValueError("policy_versions do not add up to the number of tokens")
        versions = [version for version, _ in self.policy_versions]
        if sorted(set(versions)) != versions:
            raise ValueError("policy_versions do not rise")
        if int(tokens.min()) < 0:
            raise ValueError("a negative token id")
        if not np.isfinite(logprobs).all() or float(logprobs.max()) > 0.0:
            raise ValueError("a behaviour logprob that is not finite or above 0")
        return self


class RolloutAcks(Message):
    """Learner -> actor: taken (or of no use any more); the actor forgets them."""

    code = 21
    acks: tuple[RolloutAck, ...] = Field(max_length=10_000, fail_fast=True)


class ScoreWork(Message):
    """Learner -> reward worker: completions to score."""

    code = 22
    run_epoch: Count
    tasks: tuple[ScoreTask, ...] = Field(max_length=10_000, fail_fast=True)


class Score(Message):
    """Reward worker -> learner: the rewards of one completion. Kept and sent again until acked."""

    code = 23
    run_epoch: Count
    group_id: Count
    attempt: Count
    sample: Count
    reward: float | None = Field(allow_inf_nan=False)
    """The weighted sum; None masks the sample."""
    rewards: tuple[NamedReward, ...] = Field(max_length=100, fail_fast=True)
    status: Name
    """ok, or why the sample is masked."""
    detail: str = Field(default="", max_length=2000)

    @model_validator(mode="after")
    def _consistent(self) -> "Score":
        if (self.reward is None) != (self.status != "ok"):
            raise ValueError(f"reward {self.reward} with status {self.status!r}")
        return self


class ScoreAcks(Message):
    """Learner -> reward worker: taken (or of no use any more); the worker forgets them."""

    code = 24
    acks: tuple[SampleAck, ...] = Field(max_length=10_000, fail_fast=True)


# --- weights: a version on request, in chunks --------------------------------------------------


class ManifestRequest(Message):
    """Actor -> learner: what is the newest version made of?"""

    code = 40
    peer: Name
    held_version: int = Field(ge=-1)
    held_digest: str = Field(default="", max_length=128)
    """`Manifest.weights_digest` of the version whose bytes it has; empty: send no delta."""


class Manifest(Message):
    """Learner -> actor: how to get a version: its tensors, and the payload that is to be fetched.

    A version's bytes are its tensors one after the other. The payload is these bytes (full, lora),
    or what protocol/delta.py makes of them and those of an older version (delta).
    """

    code = 41
    run_epoch: Count
    policy_version: Count
    kind: Literal["full", "lora", "delta"]
    digest: Digest
    """xxh3-128 of the payload, hexadecimal."""
    weights_digest: Digest = ""
    """xxh3-128 of the version's bytes: names the version, whichever way it comes."""
    from_digest: str = Field(default="", max_length=128)
    """delta: the `weights_digest` of the version that it is to be applied to."""
    base_digest: Digest
    """Of what is not trained, as the learner loaded it: adapters fit one base only."""
    tensors: tuple[TensorSpec, ...] = Field(max_length=MAX_ITEMS, fail_fast=True)
    chunk_bytes: int = Field(gt=0)
    total_bytes: Count
    """Of the payload."""


class ChunkRequest(Message):
    """Actor -> learner: one chunk; the actor keeps a bounded number of them asked for (credit)."""

    code = 42
    policy_version: Count
    digest: Digest
    index: Count


class Chunk(Message):
    """Learner -> actor: one chunk; the bytes are the message's raw frame."""

    code = 43
    policy_version: Count
    digest: Digest
    index: Count


class WeightsGone(Message):
    """Learner -> actor: that version is no longer kept; ask for the manifest again."""

    code = 44
    policy_version: Count


# --- notice -------------------------------------------------------------------------------------


class Notice(Message):
    """Learner -> actors (PUB): a new version exists. Heartbeats say it too, if this one is lost."""

    code = 60
    run_id: Name
    run_epoch: Count
    policy_version: Count
    digest: Digest


def _message_types() -> dict[int, type[Message]]:
    types: dict[int, type[Message]] = {}
    for message_type in Message.__subclasses__():
        assert message_type.code not in types, f"message code {message_type.code} is taken"
        types[message_type.code] = message_type
    return types


MESSAGE_TYPES = _message_types()
"""Wire code -> message type."""
