"""The next peer to be served is the one that a look at every peer would choose."""

import random

import pytest

from learner.ledger.peers import Peers
from protocol.messages import Role

ROLES: tuple[Role, ...] = ("actor", "reward_worker")


def chosen_by_a_look_at_all(known, role, size, oldest_version, avoid):
    """The rule of `most_free`, peer by peer in the order in which they joined."""
    chosen, best = None, (False, 0, 0)
    for peer in known.values():
        room = peer.capacity - peer.load
        fits = room >= size or (room > 0 and not peer.load)
        if peer.role != role or room <= 0 or peer.policy_version < oldest_version or not fits:
            continue
        rank = (peer.name != avoid, room, -peer.last_served)
        if chosen is None or rank > best:
            chosen, best = peer, rank
    return chosen


class Changes:
    """Random changes to some peers, and the names of those that are there."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.peers = Peers()
        self.known = {}
        self.held = []

    def change(self):
        rng = self.rng
        name = f"peer-{rng.randrange(12)}"
        kind = rng.randrange(6)
        if kind == 0 and name not in self.known:
            self.peers.join(name, rng.choice(ROLES))
            self.known[name] = self.peers.get(name)
        elif kind == 1 and rng.random() < 0.2:
            self.peers.remove(name)
            self.known.pop(name, None)
        elif kind == 2 and (peer := self.peers.get(name)):
            peer.capacity = rng.choice([0, 1, 3, 3, 8])
            peer.policy_version = rng.randint(-1, 2)
        elif kind == 3 and self.held:
            self.peers.deliver(*rng.choice(self.held))
        elif kind == 4 and self.held:
            self.peers.release(*self.held.pop(rng.randrange(len(self.held))))

    def serve(self):
        """Compares one choice, and gives the chosen peer work."""
        rng = self.rng
        question = (
            rng.choice(ROLES),
            rng.choice([1, 1, 2, 5]),
            rng.randint(-1, 2),
            f"peer-{rng.randrange(12)}",
        )
        found = self.peers.most_free(*question)
        assert found is chosen_by_a_look_at_all(self.known, *question)
        if found is not None and rng.random() < 0.7:
            work = (len(self.held), rng.randrange(1000))
            self.peers.give(found, work, question[1])
            self.held.append((found.name, work))


@pytest.mark.parametrize("seed", range(20))
def test_it_chooses_as_a_look_at_every_peer_would(seed):
    changes = Changes(seed)
    for _ in range(2000):
        changes.change()
        changes.serve()


def test_nothing_is_kept_of_peers_that_are_gone():
    peers = Peers()
    for number in range(100):
        name = f"peer-{number}"
        peers.join(name, "actor")
        peer = peers.get(name)
        assert peer is not None
        peer.capacity, peer.policy_version = 4, number
        assert peers.most_free("actor") is peer
        assert peers.remove(name) is peer
        assert peers.remove(name) is None
    assert peers.most_free("actor") is None
    assert not [value for value in vars(peers).values() if isinstance(value, dict) and value]


def test_among_equals_the_one_served_longest_ago_is_next_and_at_first_the_one_that_joined_first():
    peers = Peers()
    for name in ("first", "zeroth", "last"):
        peers.join(name, "actor")
        peer = peers.get(name)
        assert peer is not None
        peer.capacity = 2
    served = []
    for turn in range(6):
        peer = peers.most_free("actor")
        assert peer is not None
        served.append(peer.name)
        peers.give(peer, (turn, -1))
        peers.release(peer.name, (turn, -1))
    assert served == ["first", "zeroth", "last"] * 2
