from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from actors.batches.merged import Merged
from actors.batches.rows import Rows
from actors.batches.single import Single
from actors.completion import Completion
from actors.entrance import Entrance, Room


class Model:
    """Counts what it is given."""

    def __init__(self):
        self.parts = []

    def __call__(self, inputs, cache=None):
        self.parts.append(np.array(inputs).tolist())
        return mx.zeros((*inputs.shape, 4))


class Names:
    """A batch whose rows are names of prompts; a token takes a byte."""

    def __init__(self, *, prompts_together=True, bytes_per_token: float | None = 1.0):
        self.prompts_together = prompts_together
        self.bytes_per_token = bytes_per_token
        self.rows = []

    def open(self, num_prompts):
        return []

    def join(self, prompts, prompt_of_row):
        assert not prompts.remaining
        self.rows += [
            (int(prompts.token_ids_PT[p, 0]), prompts.policy_version) for p in prompt_of_row
        ]

    def tokens_to_hold(self, needs):
        return sum((n.prompt_tokens + n.completion_tokens) * n.rows for n in needs)


class Hall:
    """An entrance with its batch and the rows that came in."""

    def __init__(self, *leases, max_sequences=99, batch: Any = None, **room):
        self.model = Model()
        self.batch: Any = batch or Names()
        self.entrance = Entrance(self.model, self.batch, Room(max_sequences, **room))
        for lease in leases:
            self.entrance.add(lease)
        self.rows = []

    def enter(self, version=0):
        joined = self.entrance.enter(self.rows, version)
        self.rows += [Completion(lease, sample, 0, 0.0) for lease, sample in joined]
        return [(lease.group_id, sample) for lease, sample in joined]

    def leave(self, group_id):
        self.rows = [row for row in self.rows if row.lease.group_id != group_id]

    def waiting(self):
        return [lease.group_id for lease in self.entrance]


@pytest.fixture
def lease(make_lease):
    """Its prompt begins with its group id."""

    def make(group_id, length=3, num_samples=1, **fields):
        return make_lease(group_id, [group_id, *range(10, 9 + length)], num_samples, **fields)

    return make


def test_prompts_of_one_length_are_computed_together_without_their_last_token(lease):
    hall = Hall(lease(1), lease(2, num_samples=2), lease(3, length=2))
    assert hall.enter() == [(1, 0), (2, 0), (2, 1), (3, 0)]
    assert hall.model.parts == [[[1, 10], [2, 10]], [[3]]]
    assert hall.batch.rows == [(1, 0), (2, 0), (2, 0), (3, 0)]
    assert hall.waiting() == []


def test_prompts_go_with_the_first_of_their_length_and_no_further_than_there_is_room(lease):
    lengths = {1: 3, 2: 5, 3: 3, 4: 4, 5: 5, 6: 3, 7: 3}
    hall = Hall(*(lease(*each) for each in lengths.items()), max_sequences=6)
    assert [group for group, _ in hall.enter()] == [1, 3, 6, 7, 2, 5]
    assert hall.waiting() == [4]
    assert [len(part) for part in hall.model.parts] == [4, 2]
    hall = Hall(*(lease(*each) for each in lengths.items()), max_sequences=3)
    assert [group for group, _ in hall.enter()] == [1, 3, 6]
    assert hall.waiting() == [2, 4, 5, 7]
    hall.rows.clear()
    assert [group for group, _ in hall.enter()] == [2, 4, 5]  # 2 had begun alone


def test_prompts_are_computed_one_by_one_where_the_batch_wants_it(lease):
    hall = Hall(lease(1), lease(2), batch=Names(prompts_together=False))
    assert hall.enter() == [(1, 0), (2, 0)]
    assert hall.model.parts == [[[1, 10]], [[2, 10]]]


def test_prompts_together_stay_within_prefill_step_tokens(lease):
    hall = Hall(*map(lease, range(1, 6)), prefill_step_tokens=6)
    hall.enter()
    assert [len(part) for part in hall.model.parts][:2] == [2, 2]


def test_samples_join_as_there_is_room_and_their_prompt_is_computed_once(lease):
    hall = Hall(lease(1, num_samples=3), lease(2, num_samples=3), lease(3), max_sequences=4)
    assert hall.enter() == [(1, 0), (1, 1), (1, 2), (2, 0)]
    assert hall.enter() == [] and hall.waiting() == [2, 3]
    hall.rows = hall.rows[1:]
    assert hall.enter() == [(2, 1)]
    hall.leave(1)
    assert hall.enter() == [(2, 2), (3, 0)]
    assert sorted(token for part in hall.model.parts for token, *_ in part) == [1, 2, 3]


def test_a_prompt_is_computed_in_parts_beside_rows(lease):
    hall = Hall(lease(1, length=2), prefill_step_tokens=4)
    hall.enter()
    hall.entrance.add(lease(2, length=12))
    hall.entrance.add(lease(3, length=4))
    assert [hall.enter() for _ in range(4)] == [[], [], [(2, 0)], [(3, 0)]]
    assert [len(part[0]) for part in hall.model.parts] == [1, 4, 4, 3, 1, 2]


def test_a_prompt_is_computed_at_once_where_no_row_waits(lease):
    hall = Hall(lease(1, length=12), prefill_step_tokens=4)
    assert hall.enter() == [(1, 0)]
    assert [len(part[0]) for part in hall.model.parts] == [4, 4, 3]


def test_prompts_of_one_token_need_no_computation(lease):
    hall = Hall(lease(1, length=1, num_samples=2), lease(2, length=1), lease(3))
    assert hall.enter() == [(1, 0), (1, 1), (2, 0), (3, 0)]
    assert hall.model.parts == [[[3, 10]]]


def test_what_is_half_computed_under_an_older_version_is_begun_anew(lease):
    hall = Hall(lease(1), prefill_step_tokens=4)
    hall.enter(version=5)
    hall.entrance.add(lease(2, length=8))
    assert hall.enter(version=5) == []
    assert hall.enter(version=6) == []
    assert hall.enter(version=6) == [(2, 0)]
    assert hall.batch.rows == [(1, 5), (2, 6)]
    assert [part[0][0] for part in hall.model.parts] == [1, 2, 2, 13]


def test_what_waits_for_room_is_computed_anew_after_a_switch(lease):
    hall = Hall(lease(1, num_samples=3), max_sequences=2)
    assert hall.enter(version=5) == [(1, 0), (1, 1)]
    hall.rows = []
    assert hall.enter(version=6) == [(1, 2)]
    assert hall.batch.rows == [(1, 5), (1, 5), (1, 6)]


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_cancelled_lease_that_was_entering_leaves_the_others(lease, gone):
    hall = Hall(lease(9, length=1), prefill_step_tokens=9)
    hall.enter()
    for group_id in (1, 2, 3):
        hall.entrance.add(lease(group_id, num_samples=2))
    hall.entrance.cancel(gone, attempt=2)
    assert hall.waiting() == [1, 2, 3]
    hall.entrance.cancel(gone, attempt=1)
    others = [group for group in (1, 2, 3) if group != gone]
    assert hall.enter() == [(group, sample) for group in others for sample in (0, 1)]
    assert [name for name, _ in hall.batch.rows[1:]] == [each for each in others for _ in (0, 1)]


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_cancel_among_leases_that_have_joined_in_part(lease, gone):
    # a row takes 3 + 12 bytes at its end: there is room for 4
    hall = Hall(*(lease(group_id, num_samples=3) for group_id in (1, 2, 3)), max_kv_bytes=65)
    assert hall.enter()[-1] == (2, 0)
    hall.entrance.cancel(gone, attempt=1)
    hall.rows = []
    joined = hall.enter()
    wanted = [(2, 1), (2, 2)] * (gone != 2) + [(3, 0), (3, 1), (3, 2)] * (gone != 3)
    assert joined == wanted[:4]
    assert [name for name, _ in hall.batch.rows[4:]] == [group for group, _ in wanted[:4]]


def test_clear_forgets_what_enters_and_what_waits(lease):
    hall = Hall(lease(1, num_samples=3), lease(2, length=4), max_sequences=2)
    hall.enter()
    hall.entrance.clear()
    assert hall.waiting() == []
    hall.rows = []
    hall.entrance.add(lease(1, num_samples=2))
    assert hall.enter() == [(1, 0), (1, 1)]


def test_in_lockstep_one_lease_enters_whole_into_an_empty_batch(lease):
    hall = Hall(lease(1, num_samples=5), lease(2), max_sequences=2, max_kv_bytes=1, lockstep=True)
    assert hall.enter() == [(1, index) for index in range(5)]
    assert hall.enter() == []
    hall.leave(1)
    assert hall.enter() == [(2, 0)]


def test_rows_stay_within_max_kv_bytes(lease):
    # a row takes 3 + 12 bytes at its end
    hall = Hall(lease(1, num_samples=3), lease(2, num_samples=3), max_kv_bytes=65)
    assert hall.enter() == [(1, 0), (1, 1), (1, 2), (2, 0)]
    hall.leave(1)
    assert hall.enter() == [(2, 1), (2, 2)]
    assert [name for name, _ in hall.batch.rows] == [1, 1, 1, 2, 2, 2]
    assert len(hall.model.parts) == 1  # both prompts together, once


def test_while_a_tokens_bytes_are_not_known_one_row_goes_ahead(lease):
    hall = Hall(lease(1, num_samples=3), max_kv_bytes=1000, batch=Names(bytes_per_token=None))
    assert hall.enter() == [(1, 0)]
    assert hall.enter() == []
    hall.batch.bytes_per_token = 1.0
    assert hall.enter() == [(1, 1), (1, 2)]


def test_layers_that_do_not_grow_are_no_bound(lease):
    hall = Hall(lease(1, num_samples=3), max_kv_bytes=1, batch=Names(bytes_per_token=0.0))
    assert hall.enter() == [(1, 0), (1, 1), (1, 2)]


def test_a_single_row_always_goes(lease):
    hall = Hall(lease(1, length=50, num_samples=2), max_kv_bytes=1)
    assert hall.enter() == [(1, 0)]
    assert hall.enter() == []
    hall.rows = []
    assert hall.enter() == [(1, 1)]


SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
A_TOKEN = 2 * 2 * 2 * 8 * 4
"""Bytes: keys and values, 2 layers, 2 heads of 8 numbers in fp32."""


def bytes_held(batch: Any):
    """Of all arrays with keys and values, at their full capacity."""
    inside = vars(batch)
    caches = [*inside["_caches"]] if "_caches" in inside else []
    if isinstance(batch, Rows):
        segments = inside["_layout"].segments
        prompts = {id(segment.prompts): segment.prompts for segment in segments if segment.prompts}
        caches += [cache for each in prompts.values() for cache in each.caches]
    elif isinstance(batch, Single):
        caches += [cache for row in inside["_rows"] for cache in row]
    return sum(a.nbytes for c in caches for a in (c.keys, c.values) if a is not None)


@pytest.mark.parametrize(
    ("fields", "make_batch"),
    [
        ({}, lambda model: Rows(model, None)),
        ({}, lambda model: Rows(model, 128)),
        (SLIDING, Merged),
        (SLIDING, Single),
    ],
)
def test_the_caches_of_a_real_batch_never_exceed_max_kv_bytes(
    make_model, make_engine, make_lease, fields, make_batch
):
    chosen = np.random.default_rng(0)
    model = make_model("llama", **fields)
    batch, bound = make_batch(model), 2500 * A_TOKEN
    engine = make_engine(model, batch, max_sequences=64, max_kv_bytes=bound)
    for group_id in range(8):
        length, tokens = int(chosen.choice([10, 150, 300])), int(chosen.choice([3, 40]))
        prompt = chosen.integers(6, 40, length)
        engine.add(make_lease(group_id, prompt, 3, max_completion_tokens=tokens))
    most_rows = count = 0
    while not engine.idle:
        before = engine.tokens_sampled
        count += len(engine.step())
        assert bytes_held(batch) <= bound
        most_rows = max(most_rows, engine.tokens_sampled - before)
    assert count == 24 and most_rows > 2
