import mlx.core as mx
import numpy as np
import pytest

from actors.batches.rows import Rows
from actors.sampler import Sampled

TOLERANCE = 1e-4
SHORT, LONG = (7, 8, 9), (10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)


def by_key(completions):
    keyed = {(c.lease.group_id, c.sample): c for c in completions}
    assert len(keyed) == len(completions), "a completion was given out twice"
    return keyed


@pytest.fixture
def assert_plain(plain_completion):
    def check(model, completions, stop_ids=()):
        for completion in completions:
            lease, index = completion.lease, completion.sample
            token_ids, logprobs = plain_completion(model, lease, index, stop_ids)
            assert completion.token_ids == token_ids
            assert completion.behaviour_logprobs == pytest.approx(logprobs, abs=TOLERANCE)

    return check


class Scripted:
    """A sampler that gives row after row what the script holds, whatever the logits."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def __call__(self, logits_BV, temperatures_B, seeds_B, positions_B):
        tokens = self.steps.pop(0)
        assert logits_BV.shape[0] == len(temperatures_B) == len(seeds_B) == len(tokens)
        return Sampled(mx.array(tokens, dtype=mx.int32), mx.full((len(tokens),), -0.5))


class Watching:
    """A sampler that always chooses token 9, and remembers each step's positions."""

    def __init__(self):
        self.positions = []

    def __call__(self, logits_BV, temperatures_B, seeds_B, positions_B):
        self.positions.append(positions_B.tolist())
        return Sampled(mx.full((len(seeds_B),), 9, mx.int32), mx.full((len(seeds_B),), -0.5))


@pytest.mark.parametrize("look_ahead", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_completions_are_those_of_a_plain_loop(
    tiny, make_engine, make_lease, drain, assert_plain, temperature, look_ahead
):
    stop_ids = tiny.stop_ids()
    engine = make_engine(tiny.model, stop_ids=stop_ids, look_ahead=look_ahead)
    engine.add(make_lease(1, SHORT, 3, temperature=temperature))
    engine.add(make_lease(2, LONG, 2, temperature=temperature))
    finished = drain(engine)
    assert set(by_key(finished)) == {(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)}
    assert_plain(tiny.model, finished, stop_ids)


def test_leases_that_join_and_leave_change_no_completion(
    tiny, make_engine, make_lease, assert_plain
):
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
    assert_plain(tiny.model, finished)


@pytest.mark.parametrize("look_ahead", [False, True])
def test_a_cancelled_attempt_leaves_and_its_neighbours_go_on(
    tiny, make_engine, make_lease, drain, assert_plain, look_ahead
):
    engine = make_engine(tiny.model, max_sequences=5, look_ahead=look_ahead)
    for lease in (make_lease(1, LONG, 2), make_lease(2, SHORT, 3), make_lease(3, SHORT, 3)):
        engine.add(lease)
    finished = engine.step() + engine.step()
    engine.cancel(2, attempt=2)  # another attempt: nothing to cancel
    assert (2, 1) in engine.progress()
    engine.cancel(1, attempt=1)  # decoding, the first rows
    engine.cancel(3, attempt=1)  # waiting
    assert engine.progress() == {(2, 1): 6}
    engine.add(make_lease(4, LONG, 2))
    finished += drain(engine)
    assert {key[0] for key in by_key(finished)} == {2, 4}
    assert_plain(tiny.model, finished)


@pytest.mark.parametrize("look_ahead", [False, True])
def test_cancelling_the_last_attempt_leaves_the_engine_idle(
    tiny, make_engine, make_lease, drain, assert_plain, look_ahead
):
    engine = make_engine(tiny.model, look_ahead=look_ahead)
    engine.add(make_lease(1))
    engine.step()
    assert engine.decoding
    engine.cancel(1, attempt=1)
    assert engine.idle and not engine.decoding
    assert engine.step() == []
    engine.add(make_lease(1))  # the same attempt, from the start
    finished = drain(engine)
    assert len(by_key(finished)) == 2
    assert_plain(tiny.model, finished)


@pytest.mark.parametrize("look_ahead", [False, True])
def test_clear_forgets_what_waits_enters_and_decodes(
    tiny, make_engine, make_lease, drain, assert_plain, look_ahead
):
    engine = make_engine(tiny.model, max_sequences=3, prefill_step_tokens=2, look_ahead=look_ahead)
    for lease in (make_lease(1, LONG), make_lease(2, LONG), make_lease(3)):
        engine.add(lease)
    engine.step()
    engine.clear()
    assert engine.idle and engine.progress() == {}
    assert engine.step() == []
    engine.add(make_lease(3))
    finished = drain(engine)
    assert set(by_key(finished)) == {(3, 0), (3, 1)}
    assert_plain(tiny.model, finished)


def test_progress_counts_the_tokens_of_live_rows_by_attempt(tiny, make_engine, make_lease):
    engine = make_engine(tiny.model, max_sequences=3)
    engine.add(make_lease(1, num_samples=3, attempt=2))
    engine.add(make_lease(2, num_samples=2))
    assert engine.progress() == {(1, 2): 0, (2, 1): 0}
    engine.step()
    assert engine.progress() == {(1, 2): 3, (2, 1): 0}
    engine.step()
    assert engine.progress() == {(1, 2): 6, (2, 1): 0}
    assert engine.tokens_sampled == 6
    assert [lease.group_id for lease in engine.leases] == [1, 1, 1, 2]


def test_a_stop_token_ends_a_completion_and_belongs_to_it(tiny, make_engine, make_lease, drain):
    script = Scripted([9, 5, 9], [9, 6], [5])
    engine = make_engine(tiny.model, stop_ids={5, 6}, sampler=script)
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


def test_with_look_ahead_a_row_that_stopped_is_computed_once_in_vain(
    tiny, make_engine, make_lease, drain
):
    script = Scripted([9, 5], [9, 7], [9])
    engine = make_engine(tiny.model, stop_ids={5}, sampler=script, look_ahead=True)
    engine.add(make_lease(1, num_samples=2, max_completion_tokens=3))
    finished = engine.step()
    assert [c.token_ids for c in finished] == [[5]]
    finished += drain(engine)
    assert by_key(finished)[1, 0].token_ids == [9, 9, 9]
    assert script.steps == []  # and rows at their longest length are not
    assert engine.tokens_sampled == 4


@pytest.mark.parametrize("look_ahead", [False, True])
def test_the_longest_completion_allowed_ends_for_its_length(
    tiny, make_engine, make_lease, drain, look_ahead
):
    script = Scripted([9, 9], [9], [9])
    engine = make_engine(tiny.model, stop_ids={5}, sampler=script, look_ahead=look_ahead)
    engine.add(make_lease(1, num_samples=1, max_completion_tokens=1))
    engine.add(make_lease(2, num_samples=1, max_completion_tokens=3))
    finished = by_key(drain(engine))
    assert [finished[1, 0].token_ids, finished[2, 0].token_ids] == [[9], [9, 9, 9]]
    assert {c.finish_reason for c in finished.values()} == {"length"}


def test_a_completion_knows_its_version_and_how_long_it_took(tiny, make_engine, make_lease, drain):
    now = iter(range(100))
    engine = make_engine(
        tiny.model, stop_ids={5}, sampler=Scripted([9], [9], [5]), clock=lambda: float(next(now))
    )
    engine.add(make_lease(1, num_samples=1))
    [completion] = drain(engine)
    assert completion.policy_versions == [(3, 3)]
    assert completion.seconds == 1.0  # the clock is read where it begins and where it ends


def test_without_admission_only_what_was_begun_is_finished(tiny, make_engine, make_lease, drain):
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
    assert [c.policy_versions for c in later] == [[(4, 4)], [(4, 4)]]
    assert {key[0] for key in by_key(later)} == {2}


def test_samples_of_a_lease_join_as_rows_leave(tiny, make_engine, make_lease, drain):
    watching = Watching()
    engine = make_engine(tiny.model, max_sequences=4, sampler=watching)
    for group_id, num_samples in ((1, 3), (2, 2), (3, 6)):
        engine.add(make_lease(group_id, num_samples=num_samples, max_completion_tokens=2))
    found = by_key(drain(engine))
    assert set(found) == {(g, i) for g, n in ((1, 3), (2, 2), (3, 6)) for i in range(n)}
    assert watching.positions == [[0] * 4, [1] * 4] * 2 + [[0] * 3, [1] * 3]


def test_after_recycle_tokens_the_batch_drains_before_others_enter(
    tiny, make_engine, make_lease, drain, monkeypatch
):
    cleared = []
    monkeypatch.setattr(mx, "clear_cache", lambda: cleared.append(engine.tokens_sampled))
    engine = make_engine(tiny.model, recycle_tokens=10)
    engine.add(make_lease(1, num_samples=2, max_completion_tokens=8))
    for _ in range(5):
        engine.step()  # 10 tokens
    engine.add(make_lease(2, num_samples=2, max_completion_tokens=8))
    finished = [completion for _ in range(3) for completion in engine.step()]
    assert engine.progress() == {(2, 1): 0} and not engine.decoding
    assert {key[0] for key in by_key(finished)} == {1}
    assert cleared == [16]
    assert {key[0] for key in by_key(drain(engine))} == {2}
    assert cleared == [16, 32]


def test_while_a_long_prompt_enters_every_step_yields_a_token(
    tiny, make_engine, make_lease, drain, assert_plain
):
    engine = make_engine(tiny.model, prefill_step_tokens=4)
    engine.add(make_lease(1, SHORT, 1, max_completion_tokens=30))
    finished = engine.step()
    engine.add(make_lease(2, LONG * 3, 1))  # 32 tokens to compute: 8 parts
    joined_after = 0
    for _ in range(12):
        before = engine.progress()[1, 1]
        finished += engine.step()
        assert engine.progress()[1, 1] == before + 1
        joined_after += engine.progress()[2, 1] == 0
    assert joined_after == 7
    finished += drain(engine)
    assert len(by_key(finished)) == 2
    assert_plain(tiny.model, finished)


def test_a_lone_long_prompt_is_computed_within_one_step(tiny, make_engine, make_lease):
    engine = make_engine(tiny.model, prefill_step_tokens=4)
    engine.add(make_lease(1, LONG * 3, 1))
    engine.step()
    assert engine.progress() == {(1, 1): 1}


@pytest.mark.parametrize("shared_prompt_tokens", [None, 1])
def test_behaviour_logprobs_of_prompts_of_many_lengths_are_those_of_a_forward_pass(
    tiny, make_engine, make_lease, drain, plain_logprobs, shared_prompt_tokens
):
    chosen = np.random.default_rng(4)
    engine = make_engine(tiny.model, Rows(tiny.model, shared_prompt_tokens), max_sequences=12)
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
