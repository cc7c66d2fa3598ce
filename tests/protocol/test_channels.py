"""What a socket may hold fits what our own code sends."""

import numpy as np
import pytest

from learner.exchange.publish import CHUNK_BYTES
from protocol.channels import LEARNER, MIB, PEER, Channel
from protocol.fields import MAX_ITEMS, MAX_TEXT, MAX_TOKENS
from protocol.messages import (
    Chunk,
    ChunkRequest,
    Heartbeat,
    LeaseProgress,
    Manifest,
    ManifestRequest,
    Message,
    Notice,
    Rollout,
    ScoreTask,
    ScoreWork,
    TensorSpec,
    Welcome,
)
from protocol.wire import MAX_FRAME_BYTES, encode, encode_single

NAME = "n" * 200
TEXT = "x" * MAX_TEXT
WHERE = {"group_id": 2**53, "attempt": 2**53, "sample": 4095}


def largest(channel) -> list[Message]:
    """The largest messages to the learner on a channel."""
    progress = LeaseProgress(group_id=2**53, attempt=2**53, tokens=2**53)
    rollout = Rollout(
        run_epoch=2**53,
        **WHERE,
        token_ids=np.zeros(MAX_TOKENS, np.int32),
        behaviour_logprobs=np.zeros(MAX_TOKENS, np.float32),
        policy_versions=((0, MAX_TOKENS),),
        finish_reason="length",
        completion="\N{EURO SIGN}" * MAX_TEXT,
        seconds=1.0,
    )
    return {
        Channel.CONTROL: [
            Heartbeat(
                peer=NAME,
                state=NAME,
                policy_version=0,
                capacity=1_000_000,
                progress=(progress,) * 10_000,
                metrics={f"{NAME}{i}": 1.0 for i in range(200)},
            )
        ],
        Channel.ROLLOUTS: [rollout],
        Channel.WEIGHTS: [
            ManifestRequest(peer=NAME, held_version=0),
            ChunkRequest(policy_version=2**53, digest="d" * 128, index=2**53),
        ],
    }[channel]


@pytest.mark.parametrize("channel", [Channel.CONTROL, Channel.ROLLOUTS, Channel.WEIGHTS])
def test_the_largest_messages_to_the_learner_fit(channel):
    for message in largest(channel):
        assert max(map(len, encode(message))) <= LEARNER[channel].max_frame_bytes


def test_the_largest_messages_to_a_peer_fit():
    welcome = Welcome(
        run_id=NAME, run_epoch=0, policy_version=0, config=TEXT, host=NAME, run_dir=TEXT
    )
    assert len(encode(welcome)[1]) <= PEER[Channel.CONTROL].max_frame_bytes
    task = ScoreTask(
        **WHERE,
        prompt=TEXT,
        completion="\N{EURO SIGN}" * MAX_TEXT,
        completion_tokens=MAX_TOKENS,
        finish_reason="length",
        columns=TEXT,
        suite=NAME,
    )
    work = ScoreWork(run_epoch=0, tasks=(task,))
    assert len(encode(work)[1]) <= PEER[Channel.ROLLOUTS].max_frame_bytes
    tensor = TensorSpec(name="n" * 80, dtype="bfloat16", shape=(2**20, 2**20), num_bytes=2**40)
    manifest = Manifest(
        run_epoch=0,
        policy_version=0,
        kind="full",
        digest="d" * 32,
        base_digest="d" * 32,
        tensors=(tensor,) * MAX_ITEMS,
        chunk_bytes=CHUNK_BYTES,
        total_bytes=2**50,
    )
    assert len(encode(manifest)[1]) <= PEER[Channel.WEIGHTS].max_frame_bytes
    frames = encode(Chunk(policy_version=0, digest="d", index=0), bytes(CHUNK_BYTES))
    assert max(map(len, frames)) <= PEER[Channel.WEIGHTS].max_frame_bytes
    notice = Notice(run_id=NAME, run_epoch=0, policy_version=0, digest="d" * 128)
    assert len(encode_single(notice)) <= PEER[Channel.NOTICE].max_frame_bytes


@pytest.mark.parametrize("side", [LEARNER, PEER])
def test_every_queue_is_bounded_in_bytes_and_no_frame_is_beyond_what_is_decoded(side):
    assert set(side) == set(Channel)
    for bounds in side.values():
        assert 0 < bounds.max_frame_bytes <= MAX_FRAME_BYTES
        assert bounds.receive_messages * bounds.max_frame_bytes <= 4096 * MIB
        assert min(bounds.receive_messages, bounds.send_messages) > 0
