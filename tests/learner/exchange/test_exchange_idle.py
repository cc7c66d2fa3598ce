"""How idle each role was, as the training thread hears it with the counts."""

from protocol.messages import Goodbye, HeartbeatAck
from protocol.transport import Channel


def beat(run, peer, busy, alive, number):
    """Say how long a peer was busy, and wait until that was heard."""
    peer.beat(metrics={"busy_seconds": busy, "alive_seconds": alive})
    peer.wait_for(HeartbeatAck, number)
    run.transport.settle()


def idle(run):
    counts = run.exchange.counts()
    return {name: counts[name] for name in counts if name.startswith("idle/")}


def test_counts_tell_how_idle_each_role_was_since_they_were_last_asked_for(start):
    run = start()
    actor, worker = run.peer("actor"), run.peer("worker")
    beat(run, actor, 1.0, 2.0, 2)
    beat(run, worker, 0.0, 2.0, 2)
    assert idle(run) == {}
    beat(run, actor, 4.0, 6.0, 3)
    beat(run, worker, 1.0, 12.0, 3)
    assert idle(run) == {"idle/actor": 0.25, "idle/reward_worker": 0.9}
    beat(run, actor, 4.0, 7.0, 4)
    assert idle(run) == {"idle/actor": 1.0, "idle/reward_worker": 0.9}


def test_an_actor_that_left_says_nothing_more(start):
    run = start()
    actor = run.peer("actor")
    beat(run, actor, 1.0, 2.0, 2)
    run.exchange.counts()
    beat(run, actor, 1.0, 4.0, 3)
    actor.say(Channel.CONTROL, Goodbye(reason="told to end", peer="actor"))
    run.transport.settle()
    assert idle(run) == {}
