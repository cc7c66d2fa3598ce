import pytest

from reward_workers.calling import Outcome
from reward_workers.combine import Weighted, combine


@pytest.fixture
def score(make_task):
    """Combines (weight, outcome) pairs of one sample in run epoch 3; rewards are a, b, ..."""

    def run(*said: tuple[float, Outcome | float | None]):
        rewards = [Weighted(name, weight) for name, (weight, _) in zip("abcd", said, strict=False)]
        outcomes = [o if isinstance(o, Outcome) else Outcome(o, 0.25) for _, o in said]
        return combine(3, make_task("85", 2), rewards, outcomes)

    return run


def test_the_score_is_the_weighted_sum_by_hand(score):
    # 2.0 * 1.0 - 0.5 * 0.5 = 1.75
    scored = score((2.0, 1.0), (-0.5, 0.5))
    assert (scored.reward, scored.status, scored.run_epoch, scored.sample) == (1.75, "ok", 3, 2)
    said = [(named.name, named.reward, named.seconds) for named in scored.rewards]
    assert said == [("a", 1.0, 0.25), ("b", 0.5, 0.25)]


def test_weights_that_add_up_to_1_give_1(score):
    assert 0.6 + 0.3 + 0.1 < 1.0  # as one adds them in turn
    assert score((0.6, 1.0), (0.3, 1.0), (0.1, 1.0)).reward == 1.0


def test_a_reward_that_does_not_apply_is_left_out_of_the_sum(score):
    scored = score((1.0, 0.5), (1.0, None))
    assert (scored.reward, scored.status) == (0.5, "ok")
    assert (scored.rewards[1].reward, scored.rewards[1].status) == (None, "ok")


def test_a_sample_that_no_reward_applies_to_is_masked(score):
    scored = score((1.0, None))
    assert (scored.reward, scored.status, scored.detail) == (None, "no_reward_applies", "")


def test_a_failed_reward_masks_the_sample_and_is_never_a_zero(score):
    bad = score((1.0, 1.0), (1.0, Outcome(None, 0.0, "reward_timeout", "idle for 30 s")))
    assert (bad.reward, bad.status, bad.detail) == (None, "reward_timeout", "b: idle for 30 s")
    assert [(named.reward, named.status) for named in bad.rewards] == [
        (1.0, "ok"),
        (None, "reward_timeout"),
    ]


def test_of_several_failures_the_first_gives_the_status_and_all_are_told(score):
    failed = [Outcome(None, 0.0, status, f"why {status}") for status in ("sandbox_error", "other")]
    scored = score((1.0, failed[0]), (1.0, failed[1]))
    assert scored.status == "sandbox_error"
    assert scored.detail == "a: why sandbox_error; b: why other"


def test_facts_stay_with_their_reward(score):
    scored = score((1.0, Outcome(1.0, 0.0, facts={"passed": 3, "verdict": "ok"})), (1.0, 0.0))
    assert [named.facts for named in scored.rewards] == [{"passed": 3, "verdict": "ok"}, {}]


def test_a_weighted_sum_that_is_not_finite_masks_the_sample(score):
    scored = score((1e300, 1e9))
    assert (scored.status, scored.detail) == ("reward_error", "the weighted sum is inf")
