import pytest

from learner.exchange.roster import Roster
from learner.exchange.view import LISTED_SECONDS, MAX_LOST, REPLACED_SECONDS, Lost, take_view
from protocol.messages import Heartbeat, Hello, Role


@pytest.fixture
def roster():
    return Roster(10.0)


def join(roster, name, now, role: Role = "actor", host="mac-a"):
    hello = Hello(role=role, peer=name, host=host, pid=1)
    return roster.register(hello, connection=1, now=now)


def lose(roster, lost, member, now):
    roster.remove(member.name, now, "its connection ended")
    lost.add(member, now)


def test_a_view_has_each_peer_as_it_last_said(roster):
    member = join(roster, "actor-1", 0.0)
    said = Heartbeat(
        peer="actor-1", state="idle", policy_version=3, capacity=8, metrics={"tokens_sampled": 5.0}
    )
    roster.heard(member, said, 1, 2.0)
    view = take_view(roster, Lost(), {"ready": 1}, 2.5)
    (peer,) = view.peers.values()
    assert (peer.name, peer.role, peer.host, peer.state) == ("actor-1", "actor", "mac-a", "idle")
    assert (peer.policy_version, peer.capacity, peer.heard_at) == (3, 8, 2.0)
    assert peer.figures == {"tokens_sampled": 5.0}
    assert peer.lost_at is None
    assert view.counts == {"ready": 1}


def test_a_lost_peer_is_named_for_a_while(roster):
    lost = Lost()
    lose(roster, lost, join(roster, "actor-1", 0.0), 1.0)
    named = take_view(roster, lost, {}, 1.0 + LISTED_SECONDS - 0.1).peers
    assert named["actor-1"].lost_at == 1.0
    assert take_view(roster, lost, {}, 1.0 + LISTED_SECONDS).peers == {}


def test_one_that_said_goodbye_is_not_missed(roster):
    join(roster, "actor-1", 0.0)
    roster.remove("actor-1", 1.0, "it said 'told to end'")
    assert take_view(roster, Lost(), {}, 1.0).peers == {}


@pytest.mark.parametrize(
    ("role", "host", "is_replaced"),
    [
        ("actor", "mac-a", True),
        ("actor", "mac-b", False),
        ("reward_worker", "mac-a", False),
    ],
)
def test_one_that_was_started_again_is_named_shortly(roster, role, host, is_replaced):
    lost = Lost()
    lose(roster, lost, join(roster, "actor-1", 0.0), 1.0)
    join(roster, "new", 2.0, role, host)
    assert "actor-1" in take_view(roster, lost, {}, 1.0 + REPLACED_SECONDS - 0.1).peers
    later = take_view(roster, lost, {}, 1.0 + REPLACED_SECONDS).peers
    assert ("actor-1" not in later) == is_replaced


def test_an_older_neighbour_replaces_nobody(roster):
    lost = Lost()
    member = join(roster, "actor-1", 1.0)
    join(roster, "actor-2", 0.0)
    lose(roster, lost, member, 2.0)
    assert "actor-1" in take_view(roster, lost, {}, 2.0 + REPLACED_SECONDS).peers


def test_one_that_came_back_is_no_longer_lost(roster):
    lost = Lost()
    lose(roster, lost, join(roster, "actor-1", 0.0), 1.0)
    join(roster, "actor-1", 2.0)
    assert take_view(roster, lost, {}, 3.0).peers["actor-1"].lost_at is None


def test_peers_that_come_and_go_do_not_fill_the_memory(roster):
    lost = Lost()
    for number in range(3 * MAX_LOST):
        lose(roster, lost, join(roster, f"actor-{number}", 0.0), 1.0)
    named = take_view(roster, lost, {}, 1.0).peers
    assert len(named) == MAX_LOST
    assert f"actor-{3 * MAX_LOST - 1}" in named
