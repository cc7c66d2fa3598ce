import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.engine import Engine
from actors.sampler import Sampled

TOLERANCE = 1e-4
SHORT, LONG = (7, 8, 9), (10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)


def make_engine(model, stop_ids=(), max_sequences=16, **options):
    options = {"recycle_tokens": 10**6, **options}
    engine = Engine(model, stop_ids, max_sequences=max_sequences, **options)
    engine.policy_version = 3
    return engine


def drain(engine, max_steps=200):
    finished = []
    for _ in range(max_steps):
        if engine.idle:
            return finished
        finished += engine.step()
    raise AssertionError("the engine does not come to an end")


def by_key(completions):
    keyed = {(c.lease.group_id, c.sample): c for c in completions}
    assert len(keyed) == len(completions), "a completion was given out twice"
    return keyed


def assert_plain(plain_completion, model, completions, stop_ids=()):
    for completion in completions:
        lease, index = completion.lease, completion.sample
        token_ids, logprobs = plain_completion(model, lease, index, stop_ids)
        assert completion.token_ids == token_ids
        assert completion.behaviour_logprobs == pytest.approx(logprobs, abs=TOLERANCE)


class Scripted:
    """A sampler that gives row after row what the script holds, whatever the logits."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def __call__(self, logits_BV, temperatures_B, seeds_B, positions_B):
        tokens = self.steps.pop(0)
        assert logits_BV.shape[0] == len(temperatures_B) == len(seeds_B) == len(tokens)
        return Sampled(mx.array(tokens, dtype=mx.int32), mx.full((len(tokens),), -0.5))


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_completions_are_those_of_a_plain_loop(tiny, make_lease, plain_completion, temperature):
    stop_ids = tiny.stop_ids()
    engine = make_engine(tiny.model, stop_ids)
    engine.add(make_lease(1, SHORT, 3, temperature=temperature))
    engine.add(make_lease(2, LONG, 2, temperature=temperature))
    finished = drain(engine)
    assert set(by_key(finished)) == {(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)}
    assert_plain(plain_completion, tiny.model, finished, stop_ids)


def test_leases_that_join_and_leave_change_no_completion(tiny, make_lease, plain_completion):
    engine = make_engine(tiny.model)
    finished = []
    arrivals = {
        0: [make_lease(1, LONG, 3, max_completion_tokens=9), make_lease(2, SHORT, 2)],
        2: [make_lease(3, (5,), 2, max_completion_tokens=3)],
        4: [make_lease(4, LONG * 3, 2, temperature=0.0), make_lease(5, SHORT, 1, temperature=1.5)],
        11: [make_lease(6, (30, 31), 4, max_completion_tokens=20)],
    }
    for turn in range(60):
        for lease in arrivals.get(turn, ()):
            engine.add(lease)
        finished += engine.step()
    assert engine.idle
    assert len(by_key(finished)) == 14
    assert_plain(plain_completion, tiny.model, finished)


def test_a_cancelled_attempt_leaves_and_its_neighbours_go_on(tiny, make_lease, plain_completion):
    engine = make_engine(tiny.model, max_sequences=5)
    for lease in (make_lease(1, LONG, 2), make_lease(2, SHORT, 3), make_lease(3, SHORT, 3)):
        engine.add(lease)
    finished = engine.step() + engine.step()
    engine.cancel(2, attempt=2)  # another attempt: nothing to cancel
    assert (2, 1) in engine.progress()
    engine.cancel(1, attempt=1)  # decoding, the first rows: the longest prompt's padding goes
    engine.cancel(3, attempt=1)  # waiting
    assert engine.progress() == {(2, 1): 9}  # 3 rows: 2 tokens from the first step, 1 from the next
    engine.add(make_lease(4, LONG, 2))
    finished += drain(engine)
    assert {key[0] for key in by_key(finished)} == {2, 4}
    assert_plain(plain_completion, tiny.model, finished)


def test_cancelling_the_last_attempt_leaves_the_engine_idle(tiny, make_lease):
    engine = make_engine(tiny.model)
    engine.add(make_lease(1))
    engine.step()
    assert engine.decoding
    engine.cancel(1, attempt=1)
    assert engine.idle and not engine.decoding
    assert engine.step() == []


def test_clear_forgets_what_waits_and_what_decodes(tiny, make_lease, plain_completion):
    engine = make_engine(tiny.model, max_sequences=2)
    engine.add(make_lease(1, LONG))
    engine.add(make_lease(2))
    engine.step()
    engine.clear()
    assert engine.idle and engine.progress() == {}
    engine.add(make_lease(3))
    finished = drain(engine)
    assert set(by_key(finished)) == {(3, 0), (3, 1)}
    assert_plain(plain_completion, tiny.model, finished)


def test_progress_counts_the_tokens_of_live_rows_by_attempt(tiny, make_lease):
    engine = make_engine(tiny.model, max_sequences=4)
    engine.add(make_lease(1, num_samples=3, attempt=2))
    engine.add(make_lease(2, num_samples=2))
    assert engine.progress() == {(1, 2): 0, (2, 1): 0}
    engine.step()  # a first token from the prefill, a second from the step
    assert engine.progress() == {(1, 2): 6, (2, 1): 0}
    engine.step()
    assert engine.progress() == {(1, 2): 9, (2, 1): 0}
    assert engine.tokens_sampled == 9


def test_a_stop_token_ends_a_completion_and_belongs_to_it(tiny, make_lease):
    # prefill: rows 0, 1, 2; then row 1 is gone
    engine = make_engine(tiny.model, {5, 6}, sampler=Scripted([9, 5, 9], [9, 6], [5]))
    engine.add(make_lease(1, num_samples=3, max_completion_tokens=3))
    finished = by_key(drain(engine))
    assert {key: c.token_ids for key, c in finished.items()} == {
        (1, 0): [9, 9, 5],
        (1, 1): [5],
        (1, 2): [9, 6],
    }
    # a stop token that is also the last allowed one is a stop
    assert {c.finish_reason for c in finished.values()} == {"stop"}
    assert finished[1, 2].behaviour_logprobs == [-0.5, -0.5]


def test_the_longest_completion_allowed_ends_for_its_length(tiny, make_lease):
    engine = make_engine(tiny.model, {5}, sampler=Scripted([9, 9], [9], [9]))
    engine.add(make_lease(1, num_samples=1, max_completion_tokens=1))
    engine.add(make_lease(2, num_samples=1, max_completion_tokens=3))
    finished = by_key(drain(engine))
    assert [finished[1, 0].token_ids, finished[2, 0].token_ids] == [[9], [9, 9, 9]]
    assert {c.finish_reason for c in finished.values()} == {"length"}


def test_a_completion_knows_its_version_and_how_long_it_took(tiny, make_lease):
    now = iter(range(100))
    engine = make_engine(
        tiny.model, {5}, sampler=Scripted([9], [9], [5]), clock=lambda: float(next(now))
    )
    engine.add(make_lease(1, num_samples=1))
    [completion] = drain(engine)
    assert completion.policy_version == 3
    assert completion.seconds == 1.0  # the clock is read where it begins and where it ends


def test_without_admission_only_what_was_begun_is_finished(tiny, make_lease):
    engine = make_engine(tiny.model, max_sequences=2)
    engine.add(make_lease(1, max_completion_tokens=4))
    engine.add(make_lease(2, max_completion_tokens=4))
    engine.step()
    finished = []
    for _ in range(10):
        finished += engine.step(admit=False)
    assert {key[0] for key in by_key(finished)} == {1}
    assert not engine.decoding and not engine.idle
    engine.policy_version = 4
    later = drain(engine)
    assert {c.policy_version for c in later} == {4}
    assert {key[0] for key in by_key(later)} == {2}


def test_rows_stay_within_max_sequences_but_a_large_lease_gets_its_turn(tiny, make_lease):
    sizes = []

    def sampler(logits_BV, temperatures_B, seeds_B, positions_B):
        sizes.append((int(positions_B[0]), len(seeds_B)))
        return Sampled(mx.zeros(len(seeds_B), mx.int32), mx.full((len(seeds_B),), -1.0))

    engine = make_engine(tiny.model, max_sequences=4, sampler=sampler)
    for group_id, num_samples in ((1, 3), (2, 2), (3, 6), (4, 4)):
        engine.add(make_lease(group_id, num_samples=num_samples, max_completion_tokens=2))
    drain(engine)
    assert sizes == [(0, 3), (1, 3), (0, 2), (1, 2), (0, 6), (1, 6), (0, 4), (1, 4)]


def test_after_recycle_tokens_the_batch_drains_before_others_enter(tiny, make_lease, monkeypatch):
    cleared = []
    monkeypatch.setattr(mx, "clear_cache", lambda: cleared.append(engine.tokens_sampled))
    engine = make_engine(tiny.model, recycle_tokens=10)
    engine.add(make_lease(1, num_samples=2, max_completion_tokens=8))
    for _ in range(4):
        engine.step()  # the first gives two tokens a row: 10 tokens after the fourth
    engine.add(make_lease(2, num_samples=2, max_completion_tokens=8))
    finished = [completion for _ in range(3) for completion in engine.step()]
    assert engine.progress() == {(2, 1): 0} and not engine.decoding
    assert {key[0] for key in by_key(finished)} == {1}
    assert cleared == [16]
    assert {key[0] for key in by_key(drain(engine))} == {2}
    assert cleared == [16, 32]


def test_behaviour_logprobs_of_prompts_of_many_lengths_are_those_of_a_forward_pass(
    tiny, make_lease, plain_logprobs
):
    chosen = np.random.default_rng(4)
    engine = make_engine(tiny.model, max_sequences=12)
    finished = []
    for group_id in range(12):
        prompt = chosen.integers(6, 35, int(chosen.integers(1, 40))).tolist()
        length = int(chosen.integers(1, 30))
        engine.add(make_lease(group_id, prompt, 3, max_completion_tokens=length))
        finished += engine.step()
    finished += drain(engine)
    assert len(by_key(finished)) == 36
    for completion in finished:
        wanted = plain_logprobs(tiny.model, completion)
        np.testing.assert_allclose(completion.behaviour_logprobs, wanted, atol=TOLERANCE, rtol=0)


NEIGHBOUR = st.tuples(
    st.lists(st.integers(6, 34), min_size=1, max_size=20),  # prompt
    st.integers(1, 3),  # samples
    st.integers(1, 12),  # max_completion_tokens
    st.sampled_from([0.0, 0.7, 1.3]),
    st.integers(0, 6),  # the step before which it arrives
)


@given(
    neighbours=st.lists(NEIGHBOUR, max_size=4), arrival=st.integers(0, 6), limit=st.integers(2, 9)
)
@settings(max_examples=15, deadline=None)
def test_a_completion_does_not_depend_on_its_neighbours(
    tiny, make_lease, neighbours, arrival, limit
):
    lease = make_lease(99, LONG, 2)
    alone = make_engine(tiny.model)
    alone.add(lease)
    wanted = by_key(drain(alone))
    engine = make_engine(tiny.model, max_sequences=limit)
    waiting = [(arrival, lease)]
    for group_id, (prompt, num_samples, length, temperature, at) in enumerate(neighbours):
        fields = {"temperature": temperature, "max_completion_tokens": length}
        waiting.append((at, make_lease(group_id, prompt, num_samples, **fields)))
    finished = []
    for turn in range(7):
        for at, arriving in waiting:
            if at == turn:
                engine.add(arriving)
        finished += engine.step()
    found = by_key(finished + drain(engine))
    assert len(found) == sum(each.num_samples for _, each in waiting)
    for key, completion in wanted.items():
        assert found[key].token_ids == completion.token_ids
        assert found[key].behaviour_logprobs == pytest.approx(
            completion.behaviour_logprobs, abs=TOLERANCE
        )
