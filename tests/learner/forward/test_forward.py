"""The lean way through a model gives the numbers and gradients of the plain way."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.forward.forward import scatter
from protocol.policy import token_logprobs

GROUPS = [(20, [3, 9, 1, 4]), (1, [4, 12]), (30, [5, 6])]
"""A prompt of one token among them, and a completion of one; prompts are worth sharing."""

CASES = [
    ("llama", "full"),
    ("llama", "lora"),
    ("llama_untied", "full"),
    ("llama_untied", "lora"),
    ("llama_window", "full"),
    ("llama_window", "lora"),
    ("qwen3", "full"),
    ("qwen3", "lora"),
    ("quantised", "lora"),
    ("gemma2", "full"),
    ("gemma4", "full"),
    ("gemma4", "lora"),
    ("granite", "full"),
    ("cohere", "full"),
    ("mamba2", "full"),
    ("whole", "full"),
    ("whole", "lora"),
]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("name", "tuning"), CASES)
def test_a_step_is_that_of_the_plain_computation(
    make_policy, make_batch, make_critic, same_step, name, tuning, recompute
):
    policy = make_policy(name, tuning)
    section = {"microbatch_tokens": 120, "logits_chunk_tokens": 4, "grad_checkpoint": recompute}
    same_step(policy, make_batch(GROUPS), make_critic(policy), **section)


def test_so_is_a_step_of_the_built_in_policy(tiny_policy, make_batch, same_step):
    same_step(tiny_policy, make_batch(GROUPS, vocabulary=35), None, logits_chunk_tokens=7)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ["llama", "llama_window"])
@pytest.mark.parametrize(
    "groups",
    [
        [(17, [3, 4]), (17, [5, 2])],  # prompts without padding, each as often
        [(17, [3, 4, 2]), (17, [5])],  # each another number of times
        [(17, [3, 4]), (18, [5, 2])],  # with padding, each as often
    ],
)
def test_and_a_step_of_prompts_that_fit_together_in_one_way_or_another(
    make_policy, make_batch, make_parts, same_step, groups, name, recompute
):
    batch = make_batch(groups)
    [part] = make_parts(batch)
    assert part.prompts is not None
    same_step(make_policy(name), batch, None, grad_checkpoint=recompute)


def test_and_a_step_of_prompts_of_one_token_that_leave_nothing_to_share(
    make_policy, make_batch, same_step
):
    same_step(make_policy(), make_batch([(1, [3, 4]), (1, [2])]), None)


COMPLETIONS = st.lists(st.integers(1, 10), min_size=1, max_size=4)
BATCHES = st.lists(st.tuples(st.integers(1, 40), COMPLETIONS), min_size=1, max_size=4)
SECTIONS = st.fixed_dictionaries(
    {
        "microbatch_tokens": st.integers(1, 300),
        "logits_chunk_tokens": st.integers(1, 40),
        "grad_checkpoint": st.booleans(),
        "share_prompts": st.booleans(),
    }
)
POLICIES = st.sampled_from(
    [
        ("llama", "full"),
        ("llama_untied", "full"),
        ("llama_untied", "lora"),
        ("llama_window", "full"),
    ]
)


@settings(max_examples=30)
@given(POLICIES, BATCHES, SECTIONS, st.integers(0, 100), st.data())
def test_whatever_the_groups_and_the_settings(
    make_policy, make_batch, make_critic, same_step, named, groups, section, seed, data
):
    policy = make_policy(*named)
    batch = make_batch(groups, seed=seed)
    some = st.sets(st.integers(0, len(batch[0]) - 1), min_size=1)
    indices = sorted(data.draw(some, "samples that are not masked"))
    same_step(policy, batch, make_critic(policy), indices, **section)


def logprobs_by_sample(forward, parts, **asked):
    found = {}
    for part in parts:
        found |= part.rows(np.array(forward(part, **asked).logprobs_BT))
    return found


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("llama", True),
        ("llama_window", True),
        ("qwen3", True),
        ("gemma4", True),
        ("whole", True),
        ("mamba2", False),  # keeps a state, and no keys
        ("gemma2", False),  # its attention cannot take a mask for each row
    ],
)
def test_prompts_are_shared_where_the_model_allows_it(make_policy, make_forward, name, shares):
    policy = make_policy(name)
    assert make_forward(policy).shares_prompts == shares
    assert not make_forward(policy, share_prompts=False).shares_prompts


def test_the_groups_above_are_computed_both_ways(make_batch, make_parts):
    parts = make_parts(make_batch(GROUPS), token_budget=120)
    assert len(parts) > 1
    lengths = [part.prompts.lengths_N for part in parts if part.prompts]
    assert any(len(set(each)) > 1 for each in lengths)


def test_a_shared_prompt_is_computed_once(make_batch, make_parts):
    # 16 tokens of 17 once, and 4 rows of 8; by themselves 4 rows of 16 + 8, padded to 24
    batch = make_batch([(17, [8, 8, 8, 8])])
    [shared] = make_parts(batch)
    [alone] = make_parts(batch, share_prompts=False)
    assert (shared.num_tokens, alone.num_tokens) == (16 + 4 * 8, 4 * 24)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_logprobs_are_at_the_temperature_that_is_asked_for(
    make_policy, make_batch, make_forward, make_parts, temperature
):
    policy = make_policy()
    batch = make_batch(GROUPS)
    forward = make_forward(policy, temperature=temperature)
    other = make_forward(policy, temperature=0.7)
    found = logprobs_by_sample(forward, make_parts(batch))
    asked = logprobs_by_sample(other, make_parts(batch), temperature=temperature)
    for index, sample in enumerate(batch[0]):
        tokens = np.concatenate([sample.prompt_ids, sample.rollout.token_ids])
        logits_TV = policy.model(mx.array(tokens[None, :-1]))[0, len(sample.prompt_ids) - 1 :]
        wanted = token_logprobs(logits_TV, mx.array(sample.rollout.token_ids), temperature)
        np.testing.assert_allclose(found[index], np.array(wanted), atol=1e-5)
        np.testing.assert_array_equal(found[index], asked[index])


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_what_stands_in_the_padding_reaches_nothing(
    make_policy, make_batch, make_forward, make_parts, lean_step, garbage
):
    policy = make_policy()
    batch = make_batch(GROUPS)
    spoilt = [_spoilt(part, garbage) for part in make_parts(batch)]
    assert any(part.prompts and len(set(part.prompts.lengths_N)) > 1 for part in spoilt)
    forward = make_forward(policy)
    clean = lean_step(policy, forward, batch, make_parts(batch))
    found = lean_step(policy, forward, batch, spoilt)
    assert found.loss == clean.loss
    assert found.sums == clean.sums
    for name, array in clean.arrays["policy"].items():
        assert mx.array_equal(found.arrays["policy"][name], array), name


def _spoilt(part, garbage):
    """Garbage in all figures outside the mask, and other tokens in all padding."""
    mask_BT = part.mask_BT
    lengths_B = mask_BT.sum(axis=1)[:, None] + mx.array(part.first_B)[:, None]
    columns_L = mx.arange(part.inputs_BL.shape[1])[None]
    prompts = part.prompts
    if prompts is not None:
        padding_NP = mx.arange(prompts.tokens_NP.shape[1]) >= mx.array(prompts.lengths_N)[:, None]
        prompts = replace(prompts, tokens_NP=mx.where(padding_NP, 13, prompts.tokens_NP))
    return replace(
        part,
        prompts=prompts,
        inputs_BL=mx.where(columns_L < lengths_B, part.inputs_BL, 7),
        targets_BT=mx.where(mask_BT, part.targets_BT, 11),
        behaviour_logprobs_BT=mx.where(mask_BT, part.behaviour_logprobs_BT, garbage),
        staleness_BT=mx.where(mask_BT, part.staleness_BT, garbage),
        extra={name: mx.where(mask_BT, array, garbage) for name, array in part.extra.items()},
    )


def test_figures_are_0_outside_the_mask_and_hidden_states_stand_in_its_order(
    make_policy, make_batch, make_forward, make_parts
):
    policy = make_policy()
    forward = make_forward(policy)
    assert forward.has_hidden_states
    assert forward.hidden_size == 32
    [part] = make_parts(make_batch([(3, [2, 4])]), share_prompts=False)
    figures = forward(part)
    outside_BT = ~np.array(part.mask_BT)
    assert not np.array(figures.logprobs_BT)[outside_BT].any()
    assert not np.array(figures.entropy_BT)[outside_BT].any()
    # rows of 2 and 4 tokens, of 8 columns
    assert figures.positions_N.tolist() == [0, 1, 8, 9, 10, 11]
    hidden_BLD = policy.model.model(part.inputs_BL)
    wanted_ND = mx.concatenate([hidden_BLD[0, 2:4], hidden_BLD[1, 2:6]])
    np.testing.assert_allclose(np.array(figures.hidden_ND), np.array(wanted_ND), atol=1e-6)


def test_a_model_that_is_not_split_has_no_hidden_states(make_policy, make_forward):
    assert not make_forward(make_policy("whole")).has_hidden_states


def test_a_forward_pass_leaves_the_models_own_arrays_in_it(
    make_policy, make_batch, make_forward, make_parts
):
    policy = make_policy()
    before = policy.trained()
    logprobs_by_sample(make_forward(policy, grad_checkpoint=True), make_parts(make_batch(GROUPS)))
    after = policy.trained()
    assert all(after[name] is before[name] for name in before)


def test_scattered_figures_by_hand():
    found = scatter(mx.array([1.0, 2.0, 3.0]), mx.array([0, 1, 4]), (2, 3))
    assert found.tolist() == [[1.0, 2.0, 0.0], [0.0, 3.0, 0.0]]
