"""By hand: hidden 8, 2 layers, MLP 16, 2 heads of 4 (one kv head), 10 tokens; 1272 numbers."""

import pytest

from learner.plan.activations import head_bytes, kept_numbers
from learner.plan.memory import (
    actor_parts,
    learner_parts,
    optimizer_bytes,
    predict_memory,
)
from learner.plan.shape import read_shape
from learner.plan.trained import trained_part
from learner.plan.work import Layout, Needs, Work, largest_microbatch

NUMBERS, LARGEST = 1272, 128
WORK = Work(9, 8, Needs())
FOUR = Layout(rows=4, row_tokens=16, completion_tokens=8)


@pytest.fixture
def llama(make_llama):
    folder = make_llama()
    return folder, read_shape(str(folder))


def test_what_a_layer_keeps_by_hand(llama):
    # 64 tokens: 6 x 8 + 2 x 8 + 2 x 4 + 5 x 16 = 152 numbers each; 2 heads see 4 x 16 x 16 pairs
    assert kept_numbers(llama[1], FOUR, lora=False) == 64 * 152 + 2 * 1024
    assert kept_numbers(llama[1], FOUR, lora=True) == 64 * 136 + 2 * 1024


def test_completions_keep_their_prompts_keys_and_values_too(llama):
    # 4 rows of 8 tokens and a prompt of 8: 40 tokens; pairs 4 x 8 x 16 + 64; joined 4 x 16 x 2 x 4
    shared = Layout(rows=4, row_tokens=8, completion_tokens=8, prompts=1, prompt_tokens=8)
    assert kept_numbers(llama[1], shared, lora=False) == 40 * 152 + 2 * 576 + 512


def test_logits_of_one_chunk_stand_four_times(llama, make_run):
    # 32 targets: chunks of 32 x 10 x 4 bytes; embedding 80 and norm 8 are trained: 88 x 4 bytes
    full = make_run(llama[0]).learner
    lora = make_run(llama[0], learner={"tuning": "lora"}).learner
    assert head_bytes(llama[1], FOUR, lora) == 4 * 32 * 10 * 4
    assert head_bytes(llama[1], FOUR, full) == 4 * 32 * 10 * 4 + 88 * 4
    chunks = make_run(llama[0], learner={"tuning": "lora", "logits_chunk_tokens": 8}).learner
    assert head_bytes(llama[1], FOUR, chunks) == 11 * 8 * 10 * 4


def parts(llama, config, work=WORK):
    trained = trained_part(llama[1], config, has_metal=False)
    return learner_parts(llama[1], config, work, trained)


def test_full_tuning_holds_weights_masters_and_two_moments(llama, make_run):
    found = parts(llama, make_run(llama[0]))
    assert found["model"] == 4 * NUMBERS
    assert found["masters and moments"] == 12 * NUMBERS
    assert found["published versions"] == 3 * 2 * NUMBERS  # two retained, one being made


def test_an_optimizer_step_by_hand(llama, make_run):
    # gradients, new masters and moments, and max(clipped gradients + three of the largest,
    # rounded in 2 bytes + new weights in 4)
    config = make_run(llama[0])
    trained = trained_part(llama[1], config, has_metal=False)
    assert 4 * NUMBERS + 3 * 4 * LARGEST < 6 * NUMBERS
    assert optimizer_bytes(config, trained, several=False) == (4 + 12 + 6) * NUMBERS
    # further steps write moments over old ones; only the masters are new
    assert optimizer_bytes(config, trained, several=True) == (4 + 4 + 6) * NUMBERS


def test_further_steps_hold_the_masters_and_moments_before_the_first(llama, make_run):
    config = make_run(llama[0], learner={"microbatch_tokens": 600})
    one = parts(llama, config, Work(256, 256, Needs()))["gradient pass"]
    several = parts(llama, config, Work(256, 256, Needs(optimizer_steps=2)))["gradient pass"]
    assert several - one == 3 * 4 * NUMBERS


@pytest.mark.parametrize(("tuning", "copies"), [("full", 1), ("lora", 0)])
def test_a_reference_model_takes_memory_with_full_tuning_alone(llama, make_run, tuning, copies):
    config = make_run(llama[0], learner={"tuning": tuning})
    found = parts(llama, config, Work(9, 8, Needs(reference=True)))
    assert found.get("reference", 0) == copies * 4 * NUMBERS


@pytest.mark.parametrize("share", [True, False])
def test_gradient_checkpointing_takes_less_in_a_deep_model(make_llama, make_run, share):
    folder = make_llama(layers=12)
    shape = read_shape(str(folder))

    def total(**learner):
        config = make_run(folder, learner={"share_prompts": share, **learner})
        return sum(parts((folder, shape), config, Work(64, 64, Needs())).values())

    assert total(grad_checkpoint=True) < 0.6 * total()


def test_an_actor_holds_the_model_its_caches_and_a_version_on_its_way(llama, make_run):
    config = make_run(
        llama[0],
        generation={"group_size": 8, "max_completion_tokens": 8},
        learner={"groups_per_step": 1, "max_off_policy_steps": 0},
    )
    trained = trained_part(llama[1], config, has_metal=False)
    found = actor_parts(llama[1], config, WORK, trained, has_metal=False)
    cache = 2 * 2 * 8 * 64 * 4 * 4
    # of two layers three quarters stand beside it while completions join
    assert found == {"model": 4 * NUMBERS, "KV cache and logits": cache * 7 // 4 + 2 * NUMBERS}


def test_a_colocated_actor_adds_its_caches_to_the_learner_and_no_model(llama, make_run):
    def config(colocated):
        return make_run(
            llama[0],
            generation={"group_size": 8, "max_completion_tokens": 1000},
            learner={
                "groups_per_step": 1,
                "max_off_policy_steps": 0,
                "colocated_actor": colocated,
            },
        )

    cache = 2 * 2 * 8 * 1024 * 4 * 4  # 8 prompt tokens and 1000 of the completion, by 64
    apart, together = parts(llama, config(False)), parts(llama, config(True))
    assert together["KV cache"] == cache
    assert together["decoding"] == cache * 3 // 4  # rows that join: more than training takes
    common = {"model", "masters and moments", "published versions"}
    assert together.keys() == common | {"KV cache", "decoding"}
    assert {name: together[name] for name in common} == {name: apart[name] for name in common}


def test_training_is_the_peak_beside_caches_where_it_takes_more_than_decoding(llama, make_run):
    config = make_run(llama[0], generation={"group_size": 2}, learner={"groups_per_step": 40})
    colocated = make_run(
        llama[0],
        generation={"group_size": 2, "max_kv_bytes": 1},
        learner={"groups_per_step": 40, "colocated_actor": True},
    )
    work = Work(9, 256, Needs())
    apart, together = parts(llama, config, work), parts(llama, colocated, work)
    cache = 2 * 2 * 320 * 4 * 4  # one completion: 8 + 256 tokens, by 64
    assert together == {**apart, "KV cache": cache}


def test_a_bound_on_the_cache_bounds_an_actors_memory(llama, make_run):
    def actor(max_kv_bytes):
        config = make_run(
            llama[0],
            generation={"group_size": 8, "max_completion_tokens": 8, "max_kv_bytes": max_kv_bytes},
        )
        trained = trained_part(llama[1], config, has_metal=False)
        return actor_parts(llama[1], config, WORK, trained, has_metal=False)["KV cache and logits"]

    token = 2 * 2 * 4 * 4
    assert actor(16 * 64 * token) == 16 * 64 * token * 7 // 4 + 2 * NUMBERS  # 8 + 8 tokens each
    assert actor(0) == 64 * 64 * token * 7 // 4 + 2 * NUMBERS


def test_roles_add_up(llama, make_run):
    config = make_run(llama[0], roles={"actor": 3, "reward_worker": 2})
    memory = predict_memory(llama[1], config, WORK, has_metal=False, num_cores=8)
    assert [(r.role, r.count) for r in memory.roles] == [
        ("learner", 1),
        ("actor", 3),
        ("reward_worker", 2),
        ("mlx-train", 1),
    ]
    assert memory.total_bytes == sum(r.count * sum(r.parts.values()) for r in memory.roles)
    assert memory.version_bytes == 2 * NUMBERS


def test_metal_computes_in_bfloat16_by_default(llama, make_run):
    config = make_run(llama[0], policy={"compute_dtype": "auto"})
    assert trained_part(llama[1], config, has_metal=True).model == 2 * NUMBERS
    assert trained_part(llama[1], config, has_metal=False).model == 4 * NUMBERS


def test_the_largest_microbatch_is_what_counts(llama, make_run):
    config = make_run(llama[0], learner={"microbatch_tokens": 64})
    assert largest_microbatch(config, WORK).tokens <= 64
