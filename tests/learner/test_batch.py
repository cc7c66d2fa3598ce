"""Scored completions become padded arrays: by hand, and for any batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.batch import PAD_MULTIPLE, microbatches


def arrays(part):
    """What a microbatch holds, as lists by name."""
    return {
        "inputs": np.array(part.inputs_BT).tolist(),
        "targets": np.array(part.targets_BT).tolist(),
        "behaviour": np.array(part.behaviour_logprobs_BT).tolist(),
        "advantages": np.array(part.advantages_BT).tolist(),
        "mask": np.array(part.mask_BT).tolist(),
    }


def padded(values, fill=0):
    return [*values, *[fill] * (PAD_MULTIPLE - len(values))]


def test_two_completions_by_hand(make_sample):
    # prompt 1 2 3, completion 4 5: inputs 1 2 3 4, targets 2 3 4 5; the completion is predicted
    # in columns 2 and 3. Prompt 6, completion 7 8 9: inputs 6 7 8, targets 7 8 9, columns 0 to 2.
    samples = [
        make_sample((1, 2, 3), (4, 5), logprobs=[-0.25, -0.5]),
        make_sample((6,), (7, 8, 9), logprobs=[-1.0, -2.0, -3.0], sample=1),
    ]
    [part] = microbatches(samples, np.array([0.5, -1.5], np.float32), 1000)
    assert part.indices == (0, 1)
    assert part.starts == (2, 0)
    assert arrays(part) == {
        "inputs": [padded([1, 2, 3, 4]), padded([6, 7, 8])],
        "targets": [padded([2, 3, 4, 5]), padded([7, 8, 9])],
        "behaviour": [padded([0, 0, -0.25, -0.5]), padded([-1.0, -2.0, -3.0])],
        "advantages": [padded([0, 0, 0.5, 0.5]), padded([-1.5, -1.5, -1.5])],
        "mask": [
            padded([False, False, True, True], fill=False),
            padded([True, True, True], fill=False),
        ],
    }


def test_a_masked_reward_leaves_its_completion_out(make_sample):
    samples = [make_sample(reward=1.0), make_sample(reward=None), make_sample(reward=0.0)]
    [part] = microbatches(samples, np.zeros(3, np.float32), 1000)
    assert part.indices == (0, 2)


def test_a_batch_of_masked_rewards_makes_no_microbatch(make_sample):
    assert microbatches([make_sample(reward=None)], np.zeros(1, np.float32), 1000) == []


def test_advantages_by_token_stand_at_their_tokens(make_sample):
    # [B, T]: token t of the completion in column t, and any padding after the last
    advantages = np.array([[1.0, 2.0, 99.0], [3.0, 4.0, 5.0]], np.float32)
    samples = [make_sample((1, 2, 3), (4, 5)), make_sample((6,), (7, 8, 9))]
    [part] = microbatches(samples, advantages, 1000)
    assert arrays(part)["advantages"] == [padded([0, 0, 1.0, 2.0]), padded([3.0, 4.0, 5.0])]


@pytest.mark.parametrize(
    ("budget", "rows"),
    [(1, [1, 1, 1]), (31, [1, 1, 1]), (32, [2, 1]), (47, [2, 1]), (48, [3])],
)
def test_microbatches_fill_the_token_budget_and_never_exceed_it(make_sample, budget, rows):
    samples = [make_sample() for _ in range(3)]  # each takes 16 padded tokens
    parts = microbatches(samples, np.zeros(3, np.float32), budget)
    assert [len(part.indices) for part in parts] == rows


def test_short_completions_are_not_padded_to_the_longest(make_sample):
    samples = [make_sample(token_ids=(9,) * length) for length in (40, 3, 40, 3)]
    parts = microbatches(samples, np.zeros(4, np.float32), 100)
    assert [part.indices for part in parts] == [(1, 3), (0, 2)]
    assert [part.inputs_BT.shape for part in parts] == [(2, 16), (2, 48)]


@st.composite
def batches(draw):
    """(prompt, completion, masked) of each sample; every token of the batch is another number."""
    lengths = draw(
        st.lists(
            st.tuples(st.integers(1, 20), st.integers(1, 40), st.booleans()),
            min_size=1,
            max_size=12,
        )
    )
    return lengths, draw(st.integers(1, 300)), draw(st.booleans())


@given(batches())
def test_every_completion_token_appears_once_with_its_own_numbers(make_sample, batch):
    lengths, budget, by_token = batch
    samples, advantages = [], np.zeros((len(lengths), 40), np.float32)
    for index, (num_prompt, num_tokens, masked) in enumerate(lengths):
        prompt = 1000 * index + np.arange(num_prompt) + 500
        tokens = 1000 * index + np.arange(num_tokens)
        reward = None if masked else 1.0
        samples.append(make_sample(prompt, tokens, reward=reward, logprobs=-tokens - 1.0))
        advantages[index, :num_tokens] = tokens + 0.5 if by_token else index + 0.25
    given_advantages = advantages if by_token else advantages[:, 0]
    seen = []
    for part in microbatches(samples, given_advantages, budget):
        rows, width = part.inputs_BT.shape
        assert rows == 1 or rows * width <= budget
        found = {name: np.array(values) for name, values in arrays(part).items()}
        for row, column in zip(*np.nonzero(found["mask"]), strict=True):
            token = int(found["targets"][row, column])
            index, place = divmod(token, 1000)
            assert part.indices[row] == index
            assert column == part.starts[row] + place
            assert found["behaviour"][row, column] == -token - 1.0
            assert found["advantages"][row, column] == advantages[index, place]
            before = token - 1 if place else samples[index].prompt_ids[-1]
            assert found["inputs"][row, column] == before
            seen.append(token)
        outside = ~found["mask"].astype(bool)
        assert not found["behaviour"][outside].any()
        assert not found["advantages"][outside].any()
    wanted = [
        1000 * index + place
        for index, (_, num_tokens, masked) in enumerate(lengths)
        if not masked
        for place in range(num_tokens)
    ]
    assert sorted(seen) == wanted
