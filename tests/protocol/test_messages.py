import random

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from protocol import messages as m
from protocol.errors import WireError
from protocol.messages import MESSAGE_TYPES, Rollout, Score
from protocol.wire import decode, encode

# --- any valid message ----------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
NAME = TEXT.filter(bool)
COUNT = st.integers(0, 2**53)
TOKENS = hnp.arrays("<i4", st.integers(0, 50), elements=st.integers(-(2**31), 2**31 - 1))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SAMPLE = {"group_id": COUNT, "attempt": COUNT, "sample": COUNT}
VERSION = {"run_epoch": COUNT, "policy_version": COUNT}


@st.composite
def rollouts(draw):
    runs = draw(st.lists(st.integers(1, 20), min_size=1, max_size=5))
    versions = st.sets(COUNT, min_size=len(runs), max_size=len(runs))
    return Rollout(
        run_epoch=draw(COUNT),
        group_id=draw(COUNT),
        attempt=draw(COUNT),
        sample=draw(st.integers(0, 4095)),
        token_ids=draw(hnp.arrays("<i4", sum(runs), elements=st.integers(0, 2**31 - 1))),
        behaviour_logprobs=draw(
            hnp.arrays(
                "<f4", sum(runs), elements=st.floats(max_value=0.0, width=32) | st.just(0.0)
            ).map(np.nan_to_num)
        ),
        policy_versions=tuple(zip(sorted(draw(versions)), runs, strict=True)),
        finish_reason=draw(st.sampled_from(["stop", "length"])),
        completion=draw(TEXT),
        seconds=draw(st.floats(0.0, 1e9)),
    )


@st.composite
def scores(draw):
    reward = draw(st.none() | FINITE)
    return m.Score(
        run_epoch=draw(COUNT),
        group_id=draw(COUNT),
        attempt=draw(COUNT),
        sample=draw(COUNT),
        reward=reward,
        rewards=draw(many(m.NamedReward, name=NAME, reward=st.none() | FINITE, status=NAME)),
        status="timeout" if reward is None else "ok",
        detail=draw(TEXT),
    )


def many(part, **fields):
    return st.lists(st.builds(part, **fields), max_size=5).map(tuple)


LEASES = many(
    m.Lease,
    group_id=COUNT,
    attempt=COUNT,
    purpose=st.sampled_from(["train", "evaluation"]),
    prompt_ids=TOKENS,
    num_samples=st.integers(1, 4096),
    seed=COUNT,
    temperature=st.floats(0.0, 100.0),
    max_completion_tokens=st.integers(1, 1_000_000),
    policy_version=COUNT,
)
TASKS = many(
    m.ScoreTask,
    **SAMPLE,
    prompt=TEXT,
    completion=TEXT,
    completion_tokens=COUNT,
    finish_reason=st.sampled_from(["stop", "length"]),
    columns=TEXT,
)
TENSORS = many(
    m.TensorSpec,
    name=NAME,
    dtype=st.sampled_from(["bfloat16", "float16", "float32", "uint32", "uint8", "int32"]),
    shape=st.lists(COUNT, max_size=8).map(tuple),
    num_bytes=COUNT,
)
MESSAGES = {
    m.Hello: st.builds(
        m.Hello,
        role=st.sampled_from(["actor", "reward_worker"]),
        peer=NAME,
        host=NAME,
        pid=COUNT,
        run_id=TEXT,
        fingerprint=st.dictionaries(TEXT, TEXT, max_size=5),
    ),
    m.Welcome: st.builds(m.Welcome, run_id=NAME, **VERSION, config=TEXT, host=NAME, run_dir=TEXT),
    m.Refused: st.builds(m.Refused, reason=TEXT),
    m.Goodbye: st.builds(m.Goodbye, reason=TEXT, peer=TEXT),
    m.Heartbeat: st.builds(
        m.Heartbeat,
        peer=NAME,
        state=TEXT,
        policy_version=st.integers(-1, 2**53),
        capacity=st.integers(0, 1_000_000),
        progress=many(m.LeaseProgress, group_id=COUNT, attempt=COUNT, tokens=COUNT),
        metrics=st.dictionaries(TEXT, FINITE, max_size=5),
    ),
    m.HeartbeatAck: st.builds(m.HeartbeatAck, **VERSION),
    m.HelloWanted: st.builds(m.HelloWanted),
    m.LeaseGrant: st.builds(m.LeaseGrant, run_epoch=COUNT, leases=LEASES),
    m.LeaseCancel: st.builds(m.LeaseCancel, group_id=COUNT, attempt=COUNT, reason=NAME),
    m.LeaseFailed: st.builds(
        m.LeaseFailed, run_epoch=COUNT, group_id=COUNT, attempt=COUNT, reason=TEXT
    ),
    m.Rollout: rollouts(),
    m.RolloutAcks: st.builds(
        m.RolloutAcks, acks=many(m.RolloutAck, **SAMPLE, accepted=st.booleans(), reason=TEXT)
    ),
    m.ScoreWork: st.builds(m.ScoreWork, run_epoch=COUNT, tasks=TASKS),
    m.Score: scores(),
    m.ScoreAcks: st.builds(m.ScoreAcks, acks=many(m.SampleAck, **SAMPLE)),
    m.ManifestRequest: st.builds(m.ManifestRequest, peer=NAME, held_version=st.integers(-1, 2**53)),
    m.Manifest: st.builds(
        m.Manifest,
        **VERSION,
        kind=st.sampled_from(["full", "lora"]),
        digest=st.text("0123456789abcdef", max_size=128),
        tensors=TENSORS,
        chunk_bytes=st.integers(1, 2**30),
        total_bytes=COUNT,
    ),
    m.ChunkRequest: st.builds(
        m.ChunkRequest, policy_version=COUNT, digest=st.just("ab"), index=COUNT
    ),
    m.Chunk: st.builds(m.Chunk, policy_version=COUNT, digest=st.just("ab"), index=COUNT),
    m.WeightsGone: st.builds(m.WeightsGone, policy_version=COUNT),
    m.Notice: st.builds(m.Notice, run_id=NAME, **VERSION, digest=st.just("ab")),
}
ANY_MESSAGE = st.one_of(*MESSAGES.values())
# anything that msgpack can say
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | TEXT
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


def decode_or_wire_error(frames):
    """Whatever else comes out of `decode` fails the test."""
    try:
        return decode(frames)
    except WireError as error:
        return error


# --- round trips ------------------------------------------------------------------------------


def test_every_message_type_has_a_strategy_here():
    assert set(MESSAGES) == set(MESSAGE_TYPES.values())


@pytest.mark.parametrize("message_type", MESSAGES, ids=lambda t: t.__name__)
@given(data=st.data())
def test_every_message_comes_back_as_it_was(message_type, data):
    message = data.draw(MESSAGES[message_type])
    received = decode(encode(message))
    assert type(received.message) is message_type
    assert received.message.model_dump() == message.model_dump()
    assert received.raw == b""


def test_arrays_travel_as_little_endian_bytes_and_come_back_as_numpy():
    lease = {
        "group_id": 1,
        "attempt": 0,
        "purpose": "train",
        "num_samples": 1,
        "seed": 0,
        "temperature": 1.0,
    }
    lease |= {"prompt_ids": [1, 256, 70_000], "max_completion_tokens": 4, "policy_version": 0}
    frames = encode(m.LeaseGrant.model_validate({"run_epoch": 0, "leases": [lease]}))
    fields = msgpack.unpackb(bytes(frames[1]))
    assert fields["leases"][0]["prompt_ids"] == bytes.fromhex("01000000 00010000 70110100")
    grant = decode(frames).message
    assert isinstance(grant, m.LeaseGrant)
    assert grant.leases[0].prompt_ids.dtype == np.int32
    assert grant.leases[0].prompt_ids.tolist() == [1, 256, 70_000]


@settings(max_examples=1000)
@given(message=ANY_MESSAGE, seed=st.integers(0, 2**32))
def test_a_valid_message_with_flipped_cut_or_added_bytes_raises_nothing_but_a_wire_error(
    message, seed
):
    rng = random.Random(seed)
    frames = [bytearray(frame) for frame in encode(message)]
    for _ in range(rng.randrange(1, 6)):
        frame = rng.choice(frames)
        place = rng.randrange(len(frame) + 1)
        match rng.randrange(3):
            case 0:
                frame[place : place + 1] = rng.randbytes(1)
            case 1:
                del frame[place : place + rng.randrange(9)]
            case _:
                frame[place:place] = rng.randbytes(rng.randrange(9))
    decode_or_wire_error(list(frames))


@given(message=ANY_MESSAGE, data=st.data())
def test_a_field_of_any_other_type_raises_nothing_but_a_wire_error(message, data):
    fields = message.model_dump()
    name = data.draw(st.sampled_from(sorted(fields) or ["none"]))
    fields[name] = data.draw(VALUES)
    decode_or_wire_error([encode(message)[0], msgpack.packb(fields)])


# --- what a message of its own type must still obey -------------------------------------------

ROLLOUT = {
    "run_epoch": 1,
    "group_id": 2,
    "attempt": 3,
    "sample": 0,
    "token_ids": [5, 6, 7],
    "behaviour_logprobs": [-0.5, 0.0, -2.0],
    "policy_versions": [(4, 1), (6, 2)],
    "finish_reason": "stop",
    "completion": "abc",
    "seconds": 0.25,
}


def test_a_rollout_that_obeys_every_rule_is_taken():
    assert Rollout.model_validate(ROLLOUT).policy_versions == ((4, 1), (6, 2))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"token_ids": [], "behaviour_logprobs": []}, "0 tokens, wanted 1 to 1000000"),
        ({"token_ids": np.zeros(1_000_001, "<i4")}, "1000001 tokens, wanted 1 to 1000000"),
        ({"behaviour_logprobs": [-0.5, 0.0]}, "2 behaviour logprobs for 3 tokens"),
        ({"behaviour_logprobs": [-0.5, float("nan"), 0.0]}, "not finite or above 0"),
        ({"behaviour_logprobs": [-0.5, float("-inf"), 0.0]}, "not finite or above 0"),
        ({"behaviour_logprobs": [-0.5, 1e-6, 0.0]}, "not finite or above 0"),
        ({"policy_versions": [(4, 1), (6, 1)]}, "do not add up"),
        ({"policy_versions": [(4, 1), (6, 3)]}, "do not add up"),
        ({"policy_versions": []}, "at least 1"),
        ({"policy_versions": [(6, 1), (4, 2)]}, "do not rise"),
        ({"policy_versions": [(4, 1), (4, 2)]}, "do not rise"),
        ({"policy_versions": [(4, 3), (6, 0)]}, "greater than 0"),
        ({"policy_versions": [(-1, 1), (6, 2)]}, "greater than or equal to 0"),
        ({"token_ids": [5, -6, 7]}, "a negative token id"),
        ({"token_ids": [[5, 6, 7]]}, "an array of 2 dimensions"),
        ({"token_ids": b"12345"}, "no whole number of <i4"),
        ({"sample": 4096}, "less than 4096"),
        ({"sample": -1}, "greater than or equal to 0"),
        ({"group_id": 2**53 + 1}, "less than or equal to"),
        ({"finish_reason": "tired"}, "'stop' or 'length'"),
        ({"seconds": float("nan")}, "a finite number"),
        ({"seconds": float("inf")}, "a finite number"),
        ({"completion": "x" * 4_000_001}, "at most 4000000"),
    ],
)
def test_a_rollout_that_breaks_a_rule_is_refused_with_the_reason(changes, complaint):
    with pytest.raises(ValidationError, match=complaint):
        Rollout.model_validate(ROLLOUT | changes)


@pytest.mark.parametrize(("reward", "status"), [(None, "ok"), (0.0, "timeout"), (1.0, "")])
def test_a_score_is_ok_with_a_reward_or_has_a_status_that_says_why_not(reward, status):
    fields = {"run_epoch": 0, "group_id": 0, "attempt": 0, "sample": 0, "rewards": []}
    with pytest.raises(ValidationError):
        Score.model_validate(fields | {"reward": reward, "status": status})


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_not_finite_is_refused(reward):
    with pytest.raises(ValidationError, match="finite number"):
        m.NamedReward(name="exact_match", reward=reward)


def test_messages_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        m.Goodbye(reason="x").reason = "y"


def test_facts_of_a_reward_come_back_as_they_were():
    facts = {"passed": 3, "cpu_seconds": 0.5, "verdict": "passed"}
    named = m.NamedReward(name="code", reward=1.0, facts=facts)
    again = m.NamedReward.model_validate(named.model_dump())
    assert again.facts == facts
    assert [type(value) for value in again.facts.values()] == [int, float, str]
    assert m.NamedReward.model_validate({"name": "older"}).facts == {}


@pytest.mark.parametrize(
    "facts",
    [
        {"Upper": 1},
        {"x" * 41: 1},
        {"": 1},
        {"text": "x" * 201},
        {"number": float("inf")},
        {"list": [1]},
        {"x" * (index + 1): 1 for index in range(17)},
    ],
)
def test_facts_are_bounded(facts):
    with pytest.raises(ValidationError):
        m.NamedReward(name="code", reward=1.0, facts=facts)
