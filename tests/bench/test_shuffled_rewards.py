"""The control's rewards: the same in each group, in other places."""

from pathlib import Path

import numpy as np

from learner.algorithm import BatchRewards, make_algorithm
from protocol.config_learner import AlgorithmSection

PLUGIN = Path(__file__).resolve().parents[2] / "bench" / "shuffled_rewards.py:grpo_shuffled"
SIZE = 8


def batch_of(num_groups):
    rewards: list[float | None] = [float(i % SIZE < 3) for i in range(num_groups * SIZE)]
    rewards[1] = None
    return BatchRewards(
        rewards_B=tuple(rewards),
        groups_B=tuple(i // SIZE for i in range(num_groups * SIZE)),
        completion_tokens_B=(4,) * (num_groups * SIZE),
        max_completion_tokens=4,
    )


def test_advantages_change_places_within_their_group_alone():
    batch = batch_of(200)
    plain = make_algorithm(AlgorithmSection(name="grpo")).advantages(batch)
    control = make_algorithm(AlgorithmSection(name=str(PLUGIN))).advantages(batch)
    before, after = plain.reshape(-1, SIZE), control.reshape(-1, SIZE)
    np.testing.assert_allclose(np.sort(before, axis=1), np.sort(after, axis=1), atol=1e-6)
    assert control[1] == plain[1] == 0.0
    # what was best is best again about as often as chance has it: 3 of 8
    kept = np.mean((before > 0) & (after > 0)) / np.mean(before > 0)
    assert abs(kept - 3 / 8) < 0.06


def test_it_repeats():
    batch = batch_of(4)
    first, again = (
        make_algorithm(AlgorithmSection(name=str(PLUGIN))).advantages(batch) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
