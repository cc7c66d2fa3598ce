"""The ledger under random histories; world.py makes them and the shadow ledger judges them."""

import pytest

from tests.learner.ledger.world import World


@pytest.mark.parametrize("seed", range(24))
def test_every_prompt_ends_exactly_once_whatever_fails(seed, shadow_type):
    world = World(seed, shadow_type)
    world.run()
    outcomes = world.shadow.done
    assert sorted(outcomes) == world.stream[: world.position]
    counts = world.ledger.counts()
    for name in set(outcomes.values()):
        assert counts[name] == sum(outcome == name for outcome in outcomes.values())
    assert sum(counts[s] for s in ("ready", "leased", "scoring", "scored", "handed_over")) == 0


@pytest.mark.slow
def test_every_prompt_ends_exactly_once_where_checkpoints_keep_scored_groups(shadow_type):
    limits = {"groups_per_step": 1, "max_off_policy_steps": 3, "max_refill_groups": 0}
    num_kept = 0

    def counting_shadow(*start):
        nonlocal num_kept
        shadow = shadow_type(*start)
        num_kept += len(shadow.kept)
        return shadow

    for seed in range(3):
        world = World(seed, counting_shadow, **limits)
        world.fault, world.train_seconds = 0.15, 20.0
        world.run()
        assert sorted(world.shadow.done) == world.stream[: world.position]
    assert num_kept > 3


def test_a_run_whose_every_prompt_retires_ends_with_its_epoch(shadow_type):
    world = World(6, shadow_type, no_resampling_pass_rate=1.0)
    world.num_rows = 7
    world.passes = lambda row, group_id, sample: True
    world.run()
    assert world.ledger.retired_rows == set(range(7))
    assert sorted(world.shadow.done) == world.stream[: world.position]
    assert world.position % 7 == 0
    assert not world.stream_ended


def test_without_faults_every_prompt_is_trained_and_nothing_is_discarded(shadow_type):
    world = World(5, shadow_type, max_refill_groups=0, no_resampling_pass_rate=None)
    world.fault = 0.0
    world.run()
    assert set(world.shadow.done.values()) == {"trained"}
    assert not [name for name in world.ledger.counts() if "discarded" in name or "dropped" in name]


@pytest.mark.slow
def test_deterministic_batches_are_the_same_whatever_fails(shadow_type):
    def batches(seed, fault):
        limits = {"groups_per_step": 3, "group_size": 2, "max_off_policy_steps": 0}
        limits |= {"max_attempts": 10**6, "max_score_attempts": 10**6, "max_refill_groups": 4}
        limits |= {"no_resampling_pass_rate": None, "deterministic": True}
        world = World(seed, shadow_type, **limits)
        world.fault, world.num_rows = fault, 60
        world.stream, world.stream_ended = list(range(300)), True
        world.run()
        names = [name for name in world.ledger.counts() if name.startswith(("dropped", "masked"))]
        assert set(names) <= {"dropped/zero_advantage"}
        return world.batches, world.epoch

    wanted, _ = batches(1, 0.0)
    num_crashes = 0
    for seed in range(2, 8):
        found, epochs = batches(seed, 0.1)
        num_crashes += epochs - 1
        versions = sorted(wanted.keys() & found.keys())[:-1]  # the last one may be cut short
        assert len(versions) > 10
        assert [found[v] for v in versions] == [wanted[v] for v in versions]
    assert num_crashes > 5
