import pytest

from learner.plan.colocated import other_way
from learner.plan.comparison import Cost, comparison

GIB = 1 << 30


@pytest.fixture
def colocated(make_run):
    found = other_way(make_run("unused"))
    assert found is not None
    return found


@pytest.fixture
def separate(make_run):
    found = other_way(make_run("unused", roles={"actor": 0}, learner={"colocated_actor": True}))
    assert found is not None
    return found


def verdict(way, cost: tuple[float, float], now: tuple[float, float], has: float = 64) -> str:
    """Of (GB, seconds) there and here."""
    there, here = (Cost(int(gib * GIB), seconds) for gib, seconds in (cost, now))
    return comparison(way, there, here, int(has * GIB))


def test_what_the_other_way_takes_is_said_beside_what_this_one_does(colocated):
    assert verdict(colocated, (3.1, 12.3), (4.4, 11.0)) == (
        "colocated (learner.colocated_actor=true, roles.actor=0): 3.1 GB instead of 4.4 GB, about "
        "12.3 s a step instead of 11 s: separate actors are faster, colocated takes less memory"
    )


def test_a_colocated_run_is_told_the_same_the_other_way_round(separate):
    assert verdict(separate, (4.4, 11.0), (3.1, 12.3)) == (
        "separate actors (learner.colocated_actor=false, roles.actor=1): 4.4 GB instead of 3.1 GB, "
        "about 11 s a step instead of 12.3 s: separate actors are faster, colocated takes less "
        "memory"
    )


@pytest.mark.parametrize(
    ("cost", "now", "said"),
    [
        ((3, 10), (4, 10.4), "about as fast, and colocated takes less memory"),
        ((3, 8), (4, 10), "colocated is faster and takes less memory"),
        ((4, 12), (4.1, 10), "separate actors are faster, with about as much memory"),
        ((4, 10), (3, 8), "separate actors are faster and take less memory"),
        ((4, 10), (4, 10), "about the same"),
    ],
)
def test_a_verdict_says_who_is_faster_and_who_is_smaller(colocated, cost, now, said):
    assert verdict(colocated, cost, now).endswith(f" s: {said}")


def test_a_way_that_does_not_fit_is_no_choice(separate):
    assert verdict(separate, (9, 5), (7, 10), has=8).endswith(": more memory than this machine has")
