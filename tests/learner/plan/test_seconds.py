import pytest

from learner.plan.machine import Machine
from learner.plan.seconds import HANDOVER_SECONDS, Parts, predict_seconds, rows_per_actor

GIB = 1 << 30
TWO_CORES, GPU = Machine(GIB, 2, has_metal=False), Machine(GIB, 8, has_metal=True)

# 4 groups of 8 a step; prefill 0.1 s a prompt, 10 tokens of 0.05 s in one batch of 32:
# one actor works 4 x 0.1 + 10 x 0.05 = 0.9 s
PARTS = Parts(learner=2.0, prefill=0.1, decode=0.05, decode_rows=32)


def make(make_run, actors=1, staleness=1, *, colocated=False):
    learner = {"groups_per_step": 4, "max_off_policy_steps": staleness}
    return make_run(
        "unused",
        roles={"actor": actors},
        generation={"group_size": 8},
        learner={**learner, "colocated_actor": colocated},
    )


def total(config, parts, machine=TWO_CORES):
    return predict_seconds(config, parts, 10, machine).total - HANDOVER_SECONDS


def test_side_by_side_the_slower_one_counts(make_run):
    found = predict_seconds(make(make_run), PARTS, 10, TWO_CORES)
    assert (found.learner, found.actor) == (2.0, pytest.approx(0.9))
    assert found.total - HANDOVER_SECONDS == pytest.approx(2.0)
    assert found.bound_by == "the learner"
    assert found.actor_tokens_per_second == pytest.approx(32 / 0.05)
    quick = Parts(0.5, 0.1, 0.05, 32)
    assert total(make(make_run), quick) == pytest.approx(0.9)


def test_one_after_the_other_both_count(make_run):
    assert total(make(make_run, staleness=0), PARTS) == pytest.approx(2.9)


def test_on_one_gpu_all_work_adds_up(make_run):
    assert total(make(make_run), PARTS, GPU) == pytest.approx(2.9)
    # two actors do half the groups each: 2 x 0.1 + 0.5 (half a batch of 32 takes a whole step)
    assert total(make(make_run, actors=2), PARTS, GPU) == pytest.approx(2.0 + 2 * 0.7)


def test_more_roles_than_cores_slow_each_other(make_run):
    # three actors: (4 / 3) x 0.1 + 0.5 = 0.6333 each; (1 + 3 x 0.6333) / 2 = 1.45
    quick = Parts(1.0, 0.1, 0.05, 32)
    assert total(make(make_run, actors=3), quick) == pytest.approx(1.45)


def test_what_does_not_fit_a_batch_takes_another(make_run):
    # batches of 16: two of them, 4 x 0.1 + 2 x 10 x 0.05 = 1.4
    half = Parts(0.1, 0.1, 0.05, 16)
    assert total(make(make_run), half) == pytest.approx(1.4)


def test_actors_elsewhere_are_not_waited_for(make_run):
    assert total(make(make_run, actors=0), PARTS) == pytest.approx(2.0)


@pytest.mark.parametrize("machine", [TWO_CORES, GPU], ids=["two cores", "gpu"])
@pytest.mark.parametrize("staleness", [0, 1])
def test_a_colocated_actor_takes_turns_with_the_learner(make_run, machine, staleness):
    config = make(make_run, 0, staleness, colocated=True)
    found = predict_seconds(config, PARTS, 10, machine)
    assert found.total - HANDOVER_SECONDS == pytest.approx(2.9)
    assert (found.actor, found.bound_by) == (pytest.approx(0.9), "learner and actors in turn")
    assert found.actor_tokens_per_second == pytest.approx(32 / 0.05)


def test_a_colocated_actor_shares_the_groups_with_others(make_run):
    # two groups each: 2 x 0.1 + 0.5 = 0.7
    config = make(make_run, 1, colocated=True)
    assert total(config, PARTS) == pytest.approx(2.0 + 0.7)
    assert total(config, PARTS, GPU) == pytest.approx(2.0 + 2 * 0.7)


@pytest.mark.parametrize(
    ("actors", "max_rows", "rows"), [(1, 64, 32), (2, 64, 16), (3, 64, 16), (1, 20, 16), (1, 3, 8)]
)
def test_an_actors_batch_is_its_share_in_whole_groups(make_run, actors, max_rows, rows):
    assert rows_per_actor(make(make_run, actors), max_rows) == rows


def test_a_colocated_actors_batch_is_its_share_too(make_run):
    assert rows_per_actor(make(make_run, 0, colocated=True), 64) == 32
    assert rows_per_actor(make(make_run, 1, colocated=True), 64) == 16
