"""How waiting ends: the watchdog, a failure of the exchange thread, the end of the run."""

import logging

import pytest

from protocol.errors import RunStopped
from protocol.messages import Goodbye, Hello, ScoreAcks
from protocol.transport import Channel

DEADLINE_SECONDS = 10.0
GROUP_SIZE = 2


@pytest.mark.parametrize("name", ["next_batch", "evaluate"])
def test_the_watchdog_ends_the_wait_with_who_is_missing(start, name):
    run = start()
    waiting = run.call(getattr(run.exchange, name))
    run.transport.settle()
    run.transport.pass_time(59.0)
    assert not waiting.done()
    run.transport.pass_time(1.2)
    with pytest.raises(RunStopped, match="no progress for 60 s: no actor is registered"):
        waiting.result(DEADLINE_SECONDS)


def test_the_watchdog_does_not_count_the_time_of_a_training_step(start):
    run = start()
    run.transport.settle()
    run.transport.pass_time(100.0)
    waiting = run.call(run.exchange.next_batch)
    run.transport.settle()
    run.transport.pass_time(30.0)
    assert not waiting.done()


def test_a_batch_that_comes_after_the_watchdog_gave_up_ends_nothing(start):
    run = start(learner={"no_progress_seconds": 5.0})
    run.publish()
    waiting = run.call(run.exchange.next_batch)
    worker, actor = run.peer("worker"), run.peer("actor")
    [lease, *_] = actor.leases(1)
    run.transport.pass_time(5.2)
    with pytest.raises(RunStopped, match="no progress for 5 s: groups: "):
        waiting.result(DEADLINE_SECONDS)
    actor.complete(lease)
    for task in worker.tasks(GROUP_SIZE):
        worker.score(task)
    worker.acked(ScoreAcks, GROUP_SIZE)
    assert run.exchange.counts()["handed_over"] == 1


def test_everyone_hears_goodbye_at_the_end_and_who_comes_late_too(start):
    run = start()
    actor, worker = run.peer("actor"), run.peer("worker")
    closing = run.call(run.exchange.close, "the run is complete")
    for peer in (actor, worker):
        assert peer.wait_for(Goodbye) == [Goodbye(reason="the run is complete")]
    late = run.stranger("actor-late")
    late.say(Channel.CONTROL, Hello(role="actor", peer="actor-late", host="h", pid=1))
    assert late.wait_for(Goodbye) == [Goodbye(reason="the run is complete")]
    assert not closing.done()  # two peers are still there
    for peer in (actor, worker):
        peer.say(Channel.CONTROL, Goodbye(reason="the run is over", peer=peer.name))
    closing.result(DEADLINE_SECONDS)
    assert run.transport.closed


def test_the_end_does_not_wait_long_for_peers_that_do_not_go(start):
    run = start()
    run.peer("actor")
    closing = run.call(run.exchange.close, "the run is complete")
    run.transport.settle()
    run.transport.now += 2.0
    closing.result(DEADLINE_SECONDS)
    assert run.transport.closed


CALLS = {
    "next_batch": lambda run: run.exchange.next_batch(),
    "evaluate": lambda run: run.exchange.evaluate(),
    "counts": lambda run: run.exchange.counts(),
    "trained": lambda run: run.exchange.trained(),
    "skip": lambda run: run.exchange.skip("masked"),
    "halt": lambda run: run.exchange.halt("no more"),
    "publish": lambda run: run.publish(),
}


@pytest.mark.parametrize("waiting", ["next_batch", "evaluate"])
def test_a_failure_of_the_exchange_reaches_the_call_that_waits_and_every_later_one(start, waiting):
    run = start()
    call = run.call(CALLS[waiting], run)
    run.transport.settle()
    run.transport.failure = OSError("the sockets are gone")
    with pytest.raises(RunStopped, match="the exchange failed: OSError: the sockets are gone"):
        call.result(DEADLINE_SECONDS)
    for name in CALLS:
        later = run.call(CALLS[name], run)
        with pytest.raises(RunStopped, match="the sockets are gone"):
            later.result(DEADLINE_SECONDS)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_after_the_exchange_failed_does_not_hang(start, name):
    run = start()
    run.transport.failure = OSError("the sockets are gone")
    run.transport.wake()
    while not run.transport.closed:
        run.transport.wake()
    with pytest.raises(RunStopped, match="the sockets are gone"):
        run.call(CALLS[name], run).result(DEADLINE_SECONDS)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_after_the_end_does_not_hang(start, name):
    run = start()
    run.exchange.close("the run is complete")
    with pytest.raises(RunStopped, match="the exchange is closed"):
        run.call(CALLS[name], run).result(DEADLINE_SECONDS)


@pytest.mark.parametrize("name", ["next_batch", "evaluate"])
def test_a_halt_ends_the_wait_and_every_later_one_with_its_reason(start, name):
    run = start()
    waiting = run.call(CALLS[name], run)
    run.transport.settle()
    assert not waiting.done()
    run.exchange.halt("publishing failed: MemoryError: ")
    for call in (waiting, run.call(run.exchange.next_batch)):
        with pytest.raises(RunStopped, match="publishing failed: MemoryError"):
            call.result(DEADLINE_SECONDS)
    assert run.exchange.counts()["trained"] == 0  # the exchange itself lives, to say goodbye


def test_a_mistake_of_the_training_thread_is_told_to_it(start):
    run = start()
    run.exchange.trained()  # there is no batch in hand
    with pytest.raises(RunStopped, match="AssertionError: a batch was trained"):
        run.call(run.exchange.counts).result(DEADLINE_SECONDS)


def test_the_data_ends_once_every_prompt_is_retired(start, caplog):
    caplog.set_level(logging.INFO)
    run = start(learner={"groups_per_step": 3, "max_off_policy_steps": 0}, pass_rate=0.5)
    run.publish()
    worker, actor = run.peer("worker", capacity=100), run.peer("actor", capacity=100)
    seen = set()
    for version in (1, 2):  # six prompts, an endless stream; one of two samples passes
        batch = run.call(run.exchange.next_batch)
        for lease in actor.leases(3):
            actor.complete(lease)
        for task in worker.tasks(3 * GROUP_SIZE):
            worker.score(task)
        seen |= {sample.prompt_id for sample in batch.result(DEADLINE_SECONDS).samples}
        run.publish(b"better", trained=True)
        run.transport.settle()
        actor.version = version
        actor.beat()
    assert seen == {f"t:{i}" for i in range(6)}
    assert run.call(run.exchange.next_batch).result(DEADLINE_SECONDS).samples == ()
    assert "every prompt is retired" in caplog.text
    counts = run.exchange.counts()
    assert (counts["trained"], counts["ready"]) == (6, 0)
    assert counts["dropped/retired"] % 6 == 0  # whole epochs
