"""Scored completions become padded arrays: by hand, and for any batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.batch import microbatches


def batched(samples, indices=None, *, budget=1000, shared=False, version=0, extra=None):
    return microbatches(
        samples,
        range(len(samples)) if indices is None else indices,
        policy_version=version,
        token_budget=budget,
        share_prompts=shared,
        extra=extra,
    )


def by_token(values, samples):
    """One figure for each sample, at all its tokens."""
    lengths = [len(sample.rollout.token_ids) for sample in samples]
    return [np.full(n, value, np.float32) for value, n in zip(values, lengths, strict=True)]


def arrays(part):
    """What a microbatch holds, as lists by name."""
    found = {
        "inputs": part.inputs_BL,
        "targets": part.targets_BT,
        "mask": part.mask_BT,
        "behaviour": part.behaviour_logprobs_BT,
        "staleness": part.staleness_BT,
        **part.extra,
    }
    return {name: np.array(array).tolist() for name, array in found.items()}


def filled(values, fill=0):
    """To the 8 columns of short rows."""
    return [*values, *[fill] * (8 - len(values))]


def two_completions(make_sample):
    """Prompt 1 2 3 with completion 4 5, of version 6; prompt 6 with 7 8 9, of 4 and then 5."""
    return [
        make_sample((1, 2, 3), (4, 5), logprobs=[-0.25, -0.5], versions=((6, 2),)),
        make_sample(
            (6,), (7, 8, 9), logprobs=[-1.0, -2.0, -3.0], sample=1, versions=((4, 1), (5, 2))
        ),
    ]


COMPLETIONS = {
    "targets": [filled([4, 5]), filled([7, 8, 9])],
    "mask": [filled([True, True], fill=False), filled([True, True, True], fill=False)],
    "behaviour": [filled([-0.25, -0.5]), filled([-1.0, -2.0, -3.0])],
    # the learner is at version 7
    "staleness": [filled([1, 1]), filled([3, 2, 2])],
    "advantages": [filled([0.5, 0.5]), filled([-1.5, -1.5, -1.5])],
}


def test_two_completions_by_hand(make_sample):
    # inputs are prompt and completion without its last token: 1 2 3 4, whose columns 2 and 3
    # predict 4 and 5; and 6 7 8, whose columns 0 to 2 predict 7 8 9
    samples = two_completions(make_sample)
    extra = {"advantages": by_token([0.5, -1.5], samples)}
    [part] = batched(samples, version=7, extra=extra)
    assert part.indices == (0, 1)
    assert part.first_B == (2, 0)
    assert part.prompts is None
    assert part.num_tokens == 16
    assert arrays(part) == {"inputs": [filled([1, 2, 3, 4]), filled([6, 7, 8])], **COMPLETIONS}


def test_completions_of_shared_prompts_by_hand(make_sample):
    # 16 tokens before the last of prompt A, 2 before that of prompt B: 2 * 16 + 3 * 8 tokens,
    # where rows by themselves would take 3 * 20 or, by length, 2 * 20 + 8 in two microbatches
    prompt_a, prompt_b = tuple(range(100, 117)), (1, 2, 3)
    samples = [
        make_sample(prompt_a, (7, 8, 9)),
        make_sample(prompt_b, (4, 5)),
        make_sample(prompt_a, (6,)),
    ]
    [part] = batched(samples, shared=True)
    assert part.prompts is not None
    assert part.indices == (2, 1, 0)
    assert part.first_B == (0, 0, 0)
    assert part.prompts.lengths_N == (16, 2)
    assert part.prompts.prompt_of_B == (0, 1, 0)
    found = np.array(part.prompts.tokens_NP)
    assert found.tolist() == [list(range(100, 116)), [1, 2, *[0] * 14]]
    assert arrays(part)["inputs"] == [filled([116]), filled([3, 4]), filled([116, 7, 8])]
    assert arrays(part)["targets"] == [filled([6]), filled([4, 5]), filled([7, 8, 9])]
    assert part.num_tokens == 2 * 16 + 3 * 8


def test_prompts_are_shared_only_where_that_computes_less(make_sample):
    # of one completion each: 16 + 8 tokens apart, 24 together
    alone = [make_sample(range(17), (7, 8, 9))]
    assert batched(alone, shared=True)[0].prompts is None
    group = [make_sample(range(17), (7, 8, 9), sample=i) for i in range(2)]
    assert batched(group, shared=True)[0].prompts is not None
    assert batched(group, shared=False)[0].prompts is None


def test_prompts_of_one_token_have_nothing_to_share(make_sample):
    [part] = batched([make_sample((7,), (8, 9)), make_sample((7,), (5,), sample=1)], shared=True)
    assert part.prompts is None
    assert part.first_B == (0, 0)


def test_only_the_samples_that_are_asked_for_are_computed(make_sample):
    samples = [make_sample((7,), (8,) * n) for n in (3, 1, 2)]
    [part] = batched(samples, (2, 0))
    assert part.indices == (2, 0)
    assert batched(samples, ()) == []


def test_figures_of_tokens_stand_at_their_tokens_and_none_is_0(make_sample):
    samples = [make_sample((1, 2, 3), (4, 5)), make_sample((6,), (7, 8, 9))]
    figures = [np.array([1.0, 2.0]), None]
    [part] = batched(samples, extra={"values": figures})
    assert arrays(part)["values"] == [filled([1.0, 2.0]), filled([])]


def test_figures_of_a_microbatch_are_cut_back_into_samples(make_sample):
    samples = [make_sample((1,), (4, 5, 6)), make_sample((6,), (7,))]
    [part] = batched(samples)
    rows = part.rows(np.arange(16).reshape(2, 8))
    assert {index: row.tolist() for index, row in rows.items()} == {1: [0], 0: [8, 9, 10]}


@pytest.mark.parametrize(
    ("budget", "rows"),
    [(1, [1, 1, 1]), (15, [1, 1, 1]), (16, [2, 1]), (23, [2, 1]), (24, [3])],
)
def test_microbatches_fill_the_token_budget_and_never_exceed_it(make_sample, budget, rows):
    samples = [make_sample() for _ in range(3)]  # each takes 8 padded tokens
    parts = batched(samples, budget=budget)
    assert [len(part.indices) for part in parts] == rows


@pytest.mark.parametrize(
    ("budget", "rows"),
    # a prompt of 16, and 8 for each completion: 24, 32, 40; alone, a sample takes 24
    [(31, [1, 1, 1]), (32, [2, 1]), (39, [2, 1]), (40, [3])],
)
def test_a_shared_prompt_counts_once(make_sample, budget, rows):
    samples = [make_sample(range(17), (7, 8, 9), sample=i) for i in range(3)]
    parts = batched(samples, budget=budget, shared=True)
    assert [len(part.indices) for part in parts] == rows


def test_short_completions_are_not_padded_to_the_longest(make_sample):
    samples = [make_sample(token_ids=(9,) * length) for length in (40, 3, 40, 3)]
    parts = batched(samples, budget=100)
    assert [part.indices for part in parts] == [(1, 3), (0, 2)]
    # of 3 and 40 tokens, and a prompt's first token before them
    assert [part.inputs_BL.shape for part in parts] == [(2, 8), (2, 48)]
    assert [part.targets_BT.shape for part in parts] == [(2, 8), (2, 40)]


@st.composite
def batches(draw):
    """Groups of (prompt length, completion lengths); which samples; budget; shared or not."""
    lengths = st.lists(st.integers(1, 30), min_size=1, max_size=4)
    groups = draw(st.lists(st.tuples(st.integers(1, 20), lengths), min_size=1, max_size=4))
    num_samples = sum(len(lengths) for _, lengths in groups)
    indices = draw(st.sets(st.integers(0, num_samples - 1)))
    return groups, sorted(indices), draw(st.integers(1, 300)), draw(st.booleans())


def inputs_of(part, row):
    """The tokens that a row's completion follows and is made of, without padding."""
    inputs = np.array(part.inputs_BL)[row].tolist()
    if part.prompts is None:
        return inputs
    number = part.prompts.prompt_of_B[row]
    length = part.prompts.lengths_N[number]
    return [*np.array(part.prompts.tokens_NP)[number, :length].tolist(), *inputs]


@given(batches())
def test_every_completion_token_appears_once_with_its_own_numbers(make_sample, batch):
    # every token of the batch is another number
    groups, indices, budget, shared = batch
    samples = []
    for group, (num_prompt, lengths) in enumerate(groups):
        prompt = -1000 * (group + 1) + np.arange(num_prompt)
        for num_tokens in lengths:
            tokens = 1000 * len(samples) + np.arange(num_tokens)
            samples.append(make_sample(prompt, tokens, logprobs=-tokens - 1.0))
    extra = {"advantages": [sample.rollout.token_ids + 0.5 for sample in samples]}
    seen = []
    for part in batched(samples, indices, budget=budget, shared=shared, extra=extra):
        assert len(part.indices) == 1 or part.num_tokens <= budget
        found = {name: np.array(values) for name, values in arrays(part).items()}
        for row, index in enumerate(part.indices):
            sample = samples[index]
            tokens = sample.rollout.token_ids.tolist()
            whole = [*sample.prompt_ids.tolist(), *tokens[:-1]]
            assert inputs_of(part, row)[: len(whole)] == whole
            own = np.array(part.inputs_BL)[row].tolist()
            assert own[part.first_B[row]] == sample.prompt_ids[-1]
            mask = found["mask"][row].astype(bool)
            assert mask.sum() == len(tokens) and mask[: len(tokens)].all()
            assert found["targets"][row][mask].tolist() == tokens
            assert found["behaviour"][row][mask].tolist() == [-token - 1.0 for token in tokens]
            assert found["advantages"][row][mask].tolist() == [token + 0.5 for token in tokens]
            seen.append(index)
        outside = ~found["mask"].astype(bool)
        assert not found["behaviour"][outside].any()
        assert not found["advantages"][outside].any()
    assert sorted(seen) == indices
