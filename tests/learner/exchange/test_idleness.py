"""What heartbeats count -> the share of its time in which a role had nothing to do."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.exchange.idleness import Idleness, idle_share


def said(busy: float, alive: float) -> dict[str, float]:
    return {"busy_seconds": busy, "alive_seconds": alive, "tokens_sampled": 9.0}


@pytest.fixture
def idleness():
    """One that has seen an actor `a`, busy for 30 of 40 seconds."""
    fresh = Idleness()
    assert fresh.look("actor", {"a": said(30.0, 40.0)}) is None
    return fresh


def test_only_the_time_since_the_last_look_counts(idleness):
    assert idleness.look("actor", {"a": said(31.0, 44.0)}) == pytest.approx(0.75)  # 1 of 4 s
    assert idleness.look("actor", {"a": said(33.0, 46.0)}) == 0.0


def test_a_role_is_the_mean_of_its_peers(idleness):
    idleness.look("actor", {"a": said(30.0, 40.0), "b": said(0.0, 5.0)})
    # a: busy 1 of 4 s; b: busy all the time
    found = idleness.look("actor", {"a": said(31.0, 44.0), "b": said(3.0, 8.0)})
    assert found == pytest.approx(0.375)


def test_roles_do_not_mix(idleness):
    assert idleness.look("reward_worker", {"a": said(35.0, 45.0)}) is None
    assert idleness.look("actor", {"a": said(31.0, 42.0)}) == 0.5
    assert idleness.look("reward_worker", {"a": said(35.0, 47.0)}) == 1.0


def test_a_peer_that_joined_is_not_heard_of_before_the_next_look(idleness):
    found = idleness.look("actor", {"a": said(31.0, 42.0), "new": said(0.0, 1000.0)})
    assert found == 0.5
    found = idleness.look("actor", {"a": said(31.0, 42.0), "new": said(0.0, 1001.0)})
    assert found == 0.75


def test_a_peer_that_left_is_forgotten(idleness):
    assert idleness.look("actor", {}) is None
    assert idleness.look("actor", {"a": said(31.0, 44.0)}) is None


def test_a_peer_that_counts_anew_is_compared_with_its_new_start(idleness):
    assert idleness.look("actor", {"a": said(0.5, 1.0)}) is None
    assert idleness.look("actor", {"a": said(0.5, 3.0)}) == 1.0


def test_steps_that_are_shorter_than_a_heartbeat_repeat_its_figure(idleness):
    assert idleness.look("actor", {"a": said(30.0, 40.0)}) is None  # nothing to tell yet
    for _ in range(3):
        assert idleness.look("actor", {"a": said(31.0, 44.0)}) == 0.75
    assert idleness.look("actor", {"a": said(33.0, 46.0)}) == 0.0


@pytest.mark.parametrize(
    "figures",
    [
        {},
        {"busy_seconds": 31.0},
        {"alive_seconds": 44.0},
        said(math.nan, 44.0),
        said(31.0, math.nan),
        said(31.0, math.inf),
        said(math.inf, math.inf),
        said(-1.0, 44.0),
        said(-2.0, -1.0),
        said(45.0, 44.0),  # busier than alive
    ],
    ids=str,
)
def test_figures_that_make_no_sense_are_left_out(idleness, figures):
    idleness.look("actor", {"a": said(30.0, 40.0), "b": said(0.0, 0.0)})
    assert idleness.look("actor", {"a": said(31.0, 42.0), "b": figures}) == 0.5
    assert idleness.look("actor", {"b": figures}) is None


def test_a_peer_that_lies_moves_no_more_than_its_own_share(idleness):
    idleness.look("actor", {"a": said(30.0, 40.0), "liar": said(0.0, 1.0)})
    found = idleness.look("actor", {"a": said(32.0, 42.0), "liar": said(0.0, 1e300)})
    assert found == 0.5


def test_more_work_than_time_is_not_less_than_idle(idleness):
    assert idleness.look("actor", {"a": said(39.0, 41.0)}) == 0.0  # 9 s of work in 1 s


NUMBERS = st.floats() | st.sampled_from([0.0, 5e-324, 1.0, 1e308, -0.0])
PEERS = st.dictionaries(
    st.sampled_from(["a", "b"]),
    st.fixed_dictionaries({"busy_seconds": NUMBERS, "alive_seconds": NUMBERS}),
)


@given(st.lists(PEERS, max_size=6))
def test_whatever_peers_say_the_figure_is_a_share_or_nothing(looks):
    idleness = Idleness()
    for peers in looks:
        found = idleness.look("actor", peers)
        assert found is None or 0.0 <= found <= 1.0


@pytest.mark.parametrize(
    ("busy", "alive", "share"),
    [(1.0, 4.0, 0.75), (5.0, 4.0, 0.0), (-1.0, 4.0, 1.0), (0.0, 0.0, None), (math.nan, 1.0, None)],
)
def test_a_share_by_hand(busy, alive, share):
    assert idle_share(busy, alive) == share
