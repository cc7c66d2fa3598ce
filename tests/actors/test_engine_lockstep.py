"""A deterministic run's engine: the same bits for a lease, whatever was decoded before or waits."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest

from actors.completion import Completion
from actors.engine import Engine
from actors.sampler import Sampled
from protocol.messages import Lease

SHORT, LONG = (7, 8, 9), (10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)

Drain = Callable[[Engine], list[Completion]]
Bits = dict[int, tuple[tuple[int, ...], bytes]]
"""Token ids and the bytes of the behaviour logprobs, by sample."""


def bits(completions: list[Completion], group_id: int) -> Bits:
    ours = [each for each in completions if each.lease.group_id == group_id]
    found = {
        each.sample: (tuple(each.token_ids), np.array(each.behaviour_logprobs).tobytes())
        for each in ours
    }
    assert len(found) == len(ours), "a completion was given out twice"
    return found


@pytest.fixture
def lease(make_lease) -> Lease:
    """Rows of it stop at different steps: its temperature is high."""
    return make_lease(99, LONG, 6, max_completion_tokens=30, temperature=1.5)


@pytest.fixture
def lockstep(make_engine) -> Callable[..., Engine]:
    def make(model, stop_ids=(), **options):
        return make_engine(
            model, stop_ids=stop_ids, **{"max_sequences": 64, "lockstep": True, **options}
        )

    return make


@pytest.fixture
def alone(tiny, lease: Lease, lockstep, drain: Drain) -> Bits:
    engine = lockstep(tiny.model, tiny.stop_ids())
    engine.add(lease)
    found = bits(drain(engine), 99)
    assert len({len(tokens) for tokens, _ in found.values()}) > 2
    return found


def decode_after_others(
    engine: Engine, lease: Lease, make_lease: Callable[..., Lease], drain: Drain
):
    engine.add(make_lease(1, SHORT, 5, max_completion_tokens=9))
    engine.add(make_lease(2, LONG * 3, 1, max_completion_tokens=4))
    finished = engine.step()
    engine.add(lease)
    return finished + drain(engine)


def decode_before_others(
    engine: Engine, lease: Lease, make_lease: Callable[..., Lease], drain: Drain
):
    for each in (lease, make_lease(1, LONG, 3), make_lease(2, SHORT, 2)):
        engine.add(each)
    return drain(engine)


def decode_while_others_arrive(
    engine: Engine, lease: Lease, make_lease: Callable[..., Lease], drain: Drain
):
    engine.add(lease)
    finished: list[Completion] = []
    for group_id in range(1, 8):
        finished += engine.step()
        engine.add(make_lease(group_id, LONG, 2))
    return finished + drain(engine)


def decode_after_a_cancel(
    engine: Engine, lease: Lease, make_lease: Callable[..., Lease], drain: Drain
):
    engine.add(make_lease(1, LONG, 4, max_completion_tokens=20))
    engine.add(lease)
    finished = engine.step() + engine.step()
    engine.cancel(1, attempt=1)
    return finished + drain(engine)


def decode_again_from_the_start(
    engine: Engine, lease: Lease, make_lease: Callable[..., Lease], drain: Drain
):
    engine.add(lease)
    for _ in range(5):
        engine.step()
    engine.cancel(lease.group_id, lease.attempt)
    engine.add(lease)
    return drain(engine)


SITUATIONS = (
    decode_after_others,
    decode_before_others,
    decode_while_others_arrive,
    decode_after_a_cancel,
    decode_again_from_the_start,
)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_lease_gets_the_same_bits_whatever_else_there_is(
    tiny, lease, alone, make_lease, situation, lockstep, drain
):
    engine = lockstep(tiny.model, tiny.stop_ids())
    assert bits(situation(engine, lease, make_lease, drain), 99) == alone


def test_without_lockstep_the_same_lease_gets_other_bits(
    tiny, lease, alone, make_lease, lockstep, drain
):
    differ = 0
    for situation in SITUATIONS:
        engine = lockstep(tiny.model, tiny.stop_ids(), lockstep=False)
        differ += bits(situation(engine, lease, make_lease, drain), 99) != alone
    assert differ > 0


def test_another_seed_gets_other_tokens(tiny, lease, alone, lockstep, drain):
    engine = lockstep(tiny.model, tiny.stop_ids())
    engine.add(lease.model_copy(update={"seed": lease.seed + 1}))
    assert bits(drain(engine), 99) != alone


def test_rows_that_ended_stay_unheard_until_the_last_has_ended(tiny, make_lease, lockstep, drain):
    sizes: list[tuple[int, list[int]]] = []
    script = [[5, 9, 9], [5, 9, 5], [9, 9, 9], [5, 9, 9], [7, 7]]

    def sampler(logits_BV, temperatures_B, seeds_B, positions_B):
        sizes.append((logits_BV.shape[0], positions_B.tolist()))
        tokens = script[len(sizes) - 1]
        return Sampled(mx.array(tokens, dtype=mx.int32), mx.full((len(tokens),), -0.5))

    engine = lockstep(tiny.model, {5}, sampler=sampler)
    engine.add(make_lease(1, num_samples=3, max_completion_tokens=4))
    engine.add(make_lease(2, num_samples=2, max_completion_tokens=1))
    reported = []
    for _ in range(2):
        reported += [[(c.lease.group_id, c.sample, c.token_ids) for c in engine.step()]]
    assert engine.progress() == {(1, 1): 2, (2, 1): 0}  # of the row that goes on
    assert engine.tokens_sampled == 5
    for _ in range(2):
        reported += [[(c.lease.group_id, c.sample, c.token_ids) for c in engine.step()]]
    assert reported == [
        [(1, 0, [5])],  # at once, though the row stays
        [(1, 2, [9, 5])],
        [],
        [(1, 1, [9, 9, 9, 9])],
    ]
    assert engine.tokens_sampled == 7
    drain(engine)
    assert [size for size, _ in sizes] == [3, 3, 3, 3, 2]
    assert [positions for _, positions in sizes[:4]] == [[position] * 3 for position in range(4)]


def test_a_cancel_drops_the_whole_lease_with_the_rows_that_ended(tiny, make_lease, lockstep):
    script = iter([[5, 9], [9, 9]])

    def sampler(logits_BV, temperatures_B, seeds_B, positions_B):
        tokens = next(script)
        return Sampled(mx.array(tokens, dtype=mx.int32), mx.full((2,), -0.5))

    engine = lockstep(tiny.model, {5}, sampler=sampler)
    engine.add(make_lease(1, num_samples=2))
    assert [completion.sample for completion in engine.step()] == [0]
    engine.cancel(1, attempt=1)
    assert engine.idle
    assert engine.step() == []


def test_a_group_larger_than_the_batch_is_decoded_whole(tiny, make_lease, lockstep, drain):
    engine = lockstep(tiny.model, max_sequences=2, recycle_tokens=1, max_kv_bytes=1)
    engine.add(make_lease(1, num_samples=5, max_completion_tokens=3))
    engine.add(make_lease(2, num_samples=5, max_completion_tokens=3))
    assert len(drain(engine)) == 10
