"""By hand: 2 layers, one kv head of 4: a token takes 2 x 2 x 4 x 4 bytes in float32."""

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import mlx.core as mx
import numpy as np
import pytest

from actors.batches import rows
from actors.make_engine import make_engine
from learner.plan import kv_caches
from learner.plan.kv_caches import (
    SHARED_PROMPT_TOKENS,
    cache_bytes,
    largest_batch,
    max_rows,
    shares_prompts,
)
from learner.plan.shape import read_shape
from learner.plan.work import Needs, Work
from protocol.messages import Lease
from protocol.policy import load_policy

TOKEN = 2 * 2 * 4 * 4
SHORT = Work(9, 8, Needs())
LONG = Work(300, 8, Needs())  # two steps of 256


@pytest.fixture
def shape(make_llama):
    return read_shape(str(make_llama()))


@pytest.fixture
def make(make_run):
    def config(**generation):
        return make_run(
            "unused",
            generation={"group_size": 8, "max_completion_tokens": 8, **generation},
            learner={"groups_per_step": 2, "max_off_policy_steps": 1},
        )

    return config


def test_what_the_plan_takes_for_granted_is_what_actors_do():
    assert kv_caches.SHARED_PROMPT_TOKENS == rows.SHARED_PROMPT_TOKENS
    assert kv_caches.GROWTH_TOKENS == rows.GROWTH_TOKENS


def test_a_row_grows_by_64_tokens_and_never_keeps_its_last_one(shape, make):
    for completion, tokens in ((56, 64), (57, 128)):
        config = make(max_completion_tokens=completion)
        assert cache_bytes(shape, config, SHORT, 5, 8, 4) == 5 * tokens * TOKEN


def test_a_long_prompt_is_kept_once_and_a_short_one_by_every_row(shape, make):
    config = make(max_completion_tokens=64)
    copied = Work(SHARED_PROMPT_TOKENS, 64, Needs())  # 127 and 64 tokens: three steps of 64
    shared = Work(SHARED_PROMPT_TOKENS + 1, 64, Needs())
    assert cache_bytes(shape, config, copied, 16, 8, 4) == 16 * 192 * TOKEN
    assert cache_bytes(shape, config, shared, 16, 8, 4) == (2 * 256 + 16 * 64) * TOKEN


def test_prompts_are_shared_in_fp32_alone_and_not_where_caches_are_computed_again(make):
    assert shares_prompts(make(), LONG, 4)
    assert not shares_prompts(make(), LONG, 2)
    assert not shares_prompts(make(recompute_kv_cache_after_weight_updates=True), LONG, 4)


@pytest.mark.parametrize(
    ("max_sequences", "num_heldout", "rows"),
    [(64, 0, 32), (16, 0, 16), (64, 40, 40), (4, 0, 4)],
    ids=["in flight", "bounded", "evaluated", "part of a group"],
)
def test_an_actor_decodes_what_there_is_up_to_its_bound(
    shape, make, max_sequences, num_heldout, rows
):
    # 2 groups of 8 for this step and for the one before: 32
    config = make(max_sequences=max_sequences)
    found = largest_batch(shape, config, Work(9, 8, Needs(), num_heldout), 4)
    assert (found.rows, found.cache_bytes) == (rows, rows * 64 * TOKEN)


def test_held_out_prompts_that_are_long_take_more_than_groups_of_as_many_rows(shape, make):
    # 32 rows of 4 prompts: 32 x 64 + 4 x 512 tokens; 20 prompts, one row each: 20 x (64 + 512)
    found = largest_batch(shape, make(), Work(300, 8, Needs(), 20), 4)
    assert (found.rows, found.cache_bytes) == (20, 20 * 576 * TOKEN)


@pytest.mark.parametrize(
    ("work", "tokens", "rows"),
    [
        (SHORT, 20 * 64, 20),  # 8 + 8 tokens a row, one step of its place
        (SHORT, 20 * 64 - 1, 19),
        (LONG, 2 * 512 + 16 * 64, 16),  # 299 tokens of a prompt, two steps, once for eight rows
        (LONG, 2 * 512 + 13 * 64, 13),
        (LONG, 2 * 512 + 9 * 64 - 1, 8),
        (LONG, 0.001, 1),
    ],
)
def test_a_bound_in_bytes_counts_what_is_kept_at_the_longest(shape, make, work, tokens, rows):
    config = make(max_kv_bytes=max(1, int(tokens * TOKEN)))
    assert max_rows(shape, config, work, 4, 8) == rows
    assert largest_batch(shape, config, work, 4).rows == rows


def test_max_sequences_still_counts_beside_a_bound_in_bytes(shape, make):
    config = make(max_kv_bytes=1 << 40, max_sequences=16)
    assert max_rows(shape, config, SHORT, 4, 8) == 16


def test_a_deterministic_run_decodes_one_group_whatever_its_bounds(shape, make_run):
    config = make_run(
        "unused",
        run={"deterministic": True},
        generation={"group_size": 8, "max_sequences": 4, "max_kv_bytes": 1},
        learner={"groups_per_step": 2, "max_off_policy_steps": 0},
    )
    assert max_rows(shape, config, SHORT, 4, 8) == 8
    assert largest_batch(shape, config, Work(9, 8, Needs(), 40), 4).rows == 8


# --- the engine itself ---------------------------------------------------------------------------


@pytest.fixture
def decoded_rows(_uncompiled):
    """(config, prompt tokens) -> rows that an actor's engine decodes when it has more than enough.

    Prompts of one group each; nothing ends.
    """

    def rows(config, prompt_tokens):
        policy = load_policy(config)
        policy.model.eval()
        policy.tokenizer.eos_token_ids.clear()
        engine = make_engine(policy, config)
        engine.policy_version = 0
        for group_id in range(4):
            engine.add(_lease(config, group_id, prompt_tokens))
        for _ in range(3):  # how much a token takes is known after the first
            engine.step()
        before = engine.tokens_sampled
        engine.step()
        return engine.tokens_sampled - before

    return rows


@pytest.fixture
def _uncompiled():
    mx.disable_compile()
    yield
    mx.enable_compile()


def _lease(config, group_id, prompt_tokens):
    return Lease.model_validate(
        {
            "group_id": group_id,
            "attempt": 1,
            "purpose": "train",
            "prompt_ids": np.full(prompt_tokens, 3, np.int32),
            "num_samples": config.generation.group_size,
            "seed": group_id,
            "temperature": 1.0,
            "max_completion_tokens": config.generation.max_completion_tokens,
            "policy_version": 0,
        }
    )


@pytest.mark.parametrize(
    ("prompt_tokens", "completion_tokens", "max_kv_tokens", "others"),
    [
        (9, 16, 10 * 64, {}),
        (9, 16, 10 * 64 - 1, {}),
        (60, 16, 10 * 64, {}),  # 59 + 16 tokens: two steps of 64
        (SHARED_PROMPT_TOKENS, 16, 10 * 192, {}),
        (SHARED_PROMPT_TOKENS + 1, 16, 2 * 256 + 7 * 64, {}),  # two groups, the second in part
        (SHARED_PROMPT_TOKENS + 1, 70, 2 * 256 + 6 * 128 - 1, {}),
        (300, 16, 3 * 512 + 11 * 64, {}),
        (300, 16, 2000, {"recompute_kv_cache_after_weight_updates": True}),
        (300, 16, 0, {}),
        (9, 16, 1, {}),
    ],
)
def test_an_actor_decodes_as_many_rows_as_the_plan_counts(
    make_run, decoded_rows, prompt_tokens, completion_tokens, max_kv_tokens, others
):
    shape = read_shape("builtin:tiny")
    assert shape
    token = 2 * shape.num_layers * shape.kv_size * 4
    config = make_run(
        "builtin:tiny",
        generation={
            "group_size": 5,
            "max_completion_tokens": completion_tokens,
            "max_sequences": 14,
            "max_kv_bytes": max_kv_tokens * token,
            "prefill_step_tokens": 1 << 16,
            **others,
        },
    )
    work = Work(prompt_tokens, completion_tokens, Needs())
    planned = max_rows(shape, config, work, 4, config.generation.group_size)
    assert decoded_rows(config, prompt_tokens) == planned
    bounded = 1 < planned < 14
    assert bounded == (max_kv_tokens > 1)


def test_a_deterministic_actor_decodes_what_the_plan_counts(make_run, decoded_rows):
    config = make_run(
        "builtin:tiny",
        run={"deterministic": True},
        generation={
            "group_size": 5,
            "max_completion_tokens": 16,
            "max_sequences": 3,
            "max_kv_bytes": 1,
        },
        learner={"max_off_policy_steps": 0},
    )
    shape = read_shape("builtin:tiny")
    assert shape
    planned = max_rows(shape, config, SHORT, 4, 5)
    assert decoded_rows(config, 9) == planned == 5
