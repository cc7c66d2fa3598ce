"""New weights while completions are being decoded: tokens of one come from several versions."""

import pytest

from learner.audit import audit

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STEPS, MAX_OFF_POLICY_STEPS = 8, 1
LONG = (
    # So hot that an end token seldom comes, and few at once: training steps end in their middle.
    "generation.max_completion_tokens=64",
    "generation.temperature=3.0",
    "generation.group_size=4",
    "learner.groups_per_step=4",
    f"learner.max_off_policy_steps={MAX_OFF_POLICY_STEPS}",
    "roles.actor=1",
    "generation.max_sequences=4",
    f"run.max_steps={STEPS}",
    "data.heldout=[]",
    "checkpoints.interval=0",
)


@pytest.mark.parametrize(
    ("in_flight", "recompute"), [(True, False), (True, True), (False, False)], ids=str
)
def test_completions_change_their_version_only_where_that_is_wanted(
    train, in_flight: bool, recompute: bool
):
    run = train(
        *LONG,
        f"generation.in_flight_weight_updates={in_flight}",
        f"generation.recompute_kv_cache_after_weight_updates={recompute}",
    )
    run.succeeds()
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations
    rollouts = run.rollouts()
    assert len(rollouts) == STEPS * 16
    mixed = [row for row in rollouts if len(row["policy_versions"]) > 1]
    assert bool(mixed) == in_flight
    for row in mixed:
        versions = [version for version, _ in row["policy_versions"]]
        assert versions == sorted(set(versions))
        assert sum(count for _, count in row["policy_versions"]) == len(row["token_ids"])
    ages = [row["staleness/max"] for row in run.rows()]
    assert len(ages) == STEPS
    assert max(ages) <= MAX_OFF_POLICY_STEPS
