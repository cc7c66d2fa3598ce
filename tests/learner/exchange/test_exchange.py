"""What the exchange does for peers and for training, in real messages on a fake transport."""

import logging

import pytest

from learner.suites import Suite
from protocol.errors import RunStopped
from protocol.messages import (
    Chunk,
    ChunkRequest,
    Goodbye,
    HeartbeatAck,
    HelloWanted,
    LeaseGrant,
    Manifest,
    ManifestRequest,
    Notice,
    RolloutAcks,
    ScoreAcks,
    Welcome,
)
from protocol.transport import Channel
from protocol.weights import digest_of

DEADLINE_SECONDS = 10.0
GROUP_SIZE = 2


def test_a_whole_batch_goes_round(start):
    run = start(learner={"groups_per_step": 2})
    run.publish()
    batch = run.call(run.exchange.next_batch)
    worker = run.peer("worker", capacity=100)
    actor = run.peer("actor", capacity=100)
    leases = actor.leases(2)[:2]
    for lease in leases:
        assert (lease.purpose, lease.num_samples, lease.attempt) == ("train", GROUP_SIZE, 1)
        actor.complete(lease)
    for task in worker.tasks(4):
        worker.score(task)
    got = batch.result(DEADLINE_SECONDS)
    assert [sample.rollout.completion for sample in got.samples] == ["0/0", "0/1", "1/0", "1/1"]
    assert [sample.score.reward for sample in got.samples] == [1.0, 0.0, 1.0, 0.0]
    assert {sample.actor for sample in got.samples} == {"actor"}
    for sample in got.samples:
        entry = run.book.entry(sample.rollout.group_id)
        assert (sample.prompt_id, sample.prompt) == (entry.prompt_id, entry.prompt)
        assert sample.prompt_ids.tolist() == [sample.rollout.token_ids[0]]
    assert got.snapshot.watermark == 2
    assert len(actor.acked(RolloutAcks, 4)) == len(worker.acked(ScoreAcks, 4)) == 4
    run.publish(b"better", trained=True)
    counts = run.exchange.counts()
    assert (counts["trained"], counts["peers/actor"], counts["peers/reward_worker"]) == (2, 1, 1)
    actor.beat()
    assert actor.wait_for(HeartbeatAck, 2)[-1] == HeartbeatAck(run_epoch=3, policy_version=1)
    assert run.metrics.value("mlxrl_policy_version") == 1


def test_messages_gather_while_a_step_is_trained_and_not_while_training_waits(start):
    def waits_while(gathers):
        turns = run.transport.turns
        run.transport.wait_for(
            lambda: run.transport.turns > turns and run.transport.gathers is gathers
        )

    run = start()
    run.publish()
    worker, actor = run.peer("worker", capacity=100), run.peer("actor", capacity=100)
    lease = actor.leases(1)[0]
    waits_while(True)
    batch = run.call(run.exchange.next_batch)
    waits_while(False)
    actor.complete(lease)
    for task in worker.tasks(GROUP_SIZE):
        worker.score(task)
    batch.result(DEADLINE_SECONDS)
    waits_while(True)
    run.publish(b"next", trained=True)
    run.call(run.exchange.evaluate)
    waits_while(False)


def test_an_evaluation_completes_every_held_out_prompt_once_and_greedily(start):
    run = start(heldout=3)
    run.publish()
    worker, actor = run.peer("worker", capacity=100), run.peer("actor", capacity=100)
    for _ in range(2):
        evaluation = run.call(run.exchange.evaluate)
        leases = [lease for lease in actor.leases(3) if lease.purpose == "evaluation"]
        while len(leases) < 3:
            leases += [lease for lease in actor.leases(1) if lease.purpose == "evaluation"]
        for lease in leases:
            assert (lease.num_samples, lease.temperature) == (1, 0.0)
            actor.complete(lease)
        for task in worker.tasks(3):
            worker.score(task)
        [samples] = evaluation.result(DEADLINE_SECONDS)
        assert [sample.prompt_id for sample in samples] == ["h:0", "h:1", "h:2"]


def test_the_completions_of_an_evaluation_come_by_suite(start):
    sampled = Suite(("held",), reward_set="own", num_samples=3, temperature=0.5)
    run = start(heldout=2, further_suites=[sampled])
    run.publish()
    worker, actor = run.peer("worker", capacity=100), run.peer("actor", capacity=100)
    evaluation, leases = run.call(run.exchange.evaluate), []
    while len(leases) < 4:
        leases += [lease for lease in actor.leases(1) if lease.purpose == "evaluation"]
    for lease in leases:
        actor.complete(lease)
    tasks = worker.tasks(8)
    assert sorted(task.suite for task in tasks) == [""] * 2 + ["own"] * 6
    for task in tasks:
        worker.score(task)
    one, three = evaluation.result(DEADLINE_SECONDS)
    assert [sample.prompt_id for sample in one] == ["h:0", "h:1"]
    of_three = [(sample.prompt_id, sample.rollout.sample) for sample in three]
    assert of_three == [(f"h:{prompt}", index) for prompt in range(2) for index in range(3)]


def test_weights_are_announced_in_one_frame_and_served_in_chunks(start):
    run = start()
    data = bytes(range(256)) * 20_000  # two chunks
    run.publish(data)
    digest = digest_of(data)
    notice = Notice(run_id="run-1", run_epoch=3, policy_version=0, digest=digest)
    run.transport.wait_for(lambda: run.transport.published == [notice])
    actor = run.peer("actor", version=-1)
    actor.say(Channel.WEIGHTS, ManifestRequest(peer="actor", held_version=-1))
    [manifest] = actor.wait_for(Manifest)
    assert (manifest.policy_version, manifest.digest, manifest.total_bytes) == (
        0,
        digest,
        len(data),
    )
    for index in (0, 1):
        request = ChunkRequest(policy_version=0, digest=digest, index=index)
        actor.say(Channel.WEIGHTS, request)
    actor.wait_for(Chunk, 2)
    assert b"".join(raw for _, raw in run.transport.to("actor", Chunk)) == data


def one_batch(run, worker, actor, lease):
    """Has a batch of one group handed over."""
    batch = run.call(run.exchange.next_batch)
    actor.complete(lease)
    for task in worker.tasks(GROUP_SIZE):
        worker.score(task)
    return batch.result(DEADLINE_SECONDS)


def test_actors_hear_of_a_version_once_its_bytes_are_there_and_training_goes_on_before(start):
    run = start()
    run.publish(b"first")
    worker, actor = run.peer("worker", capacity=100), run.peer("actor", capacity=100)
    first, second = actor.leases(2)
    one_batch(run, worker, actor, first)
    run.exchange.trained()
    one_batch(run, worker, actor, second)  # the ledger does not wait for the bytes
    assert run.exchange.counts()["trained"] == 1
    actor.beat()
    late = run.peer("actor-late", version=-1)
    assert actor.wait_for(HeartbeatAck, 2)[-1].policy_version == 0
    assert late.wait_for(Welcome)[0].policy_version == 0
    late.say(Channel.WEIGHTS, ManifestRequest(peer="actor-late", held_version=-1))
    assert late.wait_for(Manifest)[0].weights_digest == digest_of(b"first")
    assert len(run.transport.published) == 1
    run.version = 1
    run.publish(b"second")
    run.transport.wait_for(lambda: len(run.transport.published) == 2)
    assert run.transport.published[1].digest == digest_of(b"second")
    actor.beat()
    assert actor.wait_for(HeartbeatAck, 3)[-1].policy_version == 1


def test_an_evaluation_waits_until_actors_can_have_the_newest_version(start):
    run = start(heldout=1, learner={"no_progress_seconds": 5.0})
    run.publish()
    worker, actor = run.peer("worker", capacity=100), run.peer("actor", capacity=100)
    one_batch(run, worker, actor, actor.leases(2)[0])
    run.exchange.trained()
    evaluation = run.call(run.exchange.evaluate)
    run.transport.pass_time(4.0)  # it is being encoded
    actor.beat()
    run.transport.settle()
    assert actor.leases(0) == []  # nothing is granted to who holds an older version
    run.version = 1
    run.publish(b"better")
    run.transport.pass_time(4.0)  # the watchdog counts from the publication
    actor.version = 1
    actor.beat()
    [lease] = actor.leases(1)
    assert (lease.purpose, lease.policy_version) == ("evaluation", 1)
    actor.complete(lease)
    worker.score(worker.tasks(1)[0])
    assert len(evaluation.result(DEADLINE_SECONDS)[0]) == 1


def test_the_exchange_knows_where_actors_are(start):
    run = start()
    assert run.exchange.actor_hosts == frozenset()
    run.transport.pass_time(1.0)
    run.peer("worker")
    actor = run.peer("actor")
    run.transport.pass_time(1.0)
    assert run.exchange.actor_hosts == {"h"}
    actor.say(Channel.CONTROL, Goodbye(reason="told to end", peer="actor"))
    run.transport.pass_time(1.0)
    assert run.exchange.actor_hosts == frozenset()


def test_synchronous_training_grants_nothing_while_a_batch_is_in_hand(start):
    run = start(learner={"max_off_policy_steps": 0})
    run.publish()
    batch = run.call(run.exchange.next_batch)
    worker, actor = run.peer("worker"), run.peer("actor")
    [lease] = actor.leases(1)
    actor.complete(lease)
    for task in worker.tasks(GROUP_SIZE):
        worker.score(task)
    batch.result(DEADLINE_SECONDS)
    actor.beat()
    run.transport.settle()
    assert len(run.transport.to("actor", LeaseGrant)) == 1
    run.publish(b"better", trained=True)
    actor.beat()  # it still holds version 0
    run.transport.settle()
    assert len(run.transport.to("actor", LeaseGrant)) == 1
    actor.version = 1
    actor.beat()
    [following] = actor.leases(1)
    assert (following.group_id, following.policy_version) == (1, 1)


def test_a_skipped_batch_is_dropped_and_the_next_one_is_trained_at_the_same_version(start):
    run = start(learner={"max_off_policy_steps": 0})
    run.publish()
    worker, actor = run.peer("worker"), run.peer("actor")
    batch = run.call(run.exchange.next_batch)
    actor.complete(actor.leases(1)[0])
    for task in worker.tasks(GROUP_SIZE):
        worker.score(task)
    batch.result(DEADLINE_SECONDS)
    run.exchange.skip("non_finite")
    assert actor.leases(1)[0].group_id == 1
    counts = run.exchange.counts()
    assert (counts["dropped/non_finite"], counts["trained"]) == (1, 0)


def test_the_end_of_the_data_is_a_batch_without_samples(start):
    run = start(learner={"groups_per_step": 6, "max_off_policy_steps": 0}, epochs=1)
    run.publish()
    worker, actor = run.peer("worker", capacity=100), run.peer("actor", capacity=100)
    batch = run.call(run.exchange.next_batch)
    for lease in actor.leases(6):
        actor.complete(lease)
    for task in worker.tasks(6 * GROUP_SIZE):
        worker.score(task)
    samples = batch.result(DEADLINE_SECONDS).samples
    assert sorted({sample.prompt_id for sample in samples}) == [f"t:{i}" for i in range(6)]
    run.publish(b"better", trained=True)
    assert run.call(run.exchange.next_batch).result(DEADLINE_SECONDS).samples == ()


def test_the_leases_of_an_actor_that_says_goodbye_are_issued_again_at_once(start):
    run = start()
    run.publish()
    first = run.peer("actor-1", capacity=2)
    lost = first.leases(1)
    second = run.peer("actor-2", capacity=2)
    second.leases(1)
    first.say(Channel.CONTROL, Goodbye(reason="told to end", peer="actor-1"))
    run.transport.settle()
    second.capacity = 100
    second.beat()
    again = {(lease.group_id, lease.attempt) for lease in second.leases(1)}
    assert (lost[0].group_id, 2) in again
    assert run.exchange.counts()["peers/actor"] == 1


def test_a_connection_that_ends_for_good_costs_the_peer_its_leases(start, caplog):
    caplog.set_level(logging.WARNING, "learner.exchange")
    run = start()
    run.publish()
    actor = run.peer("actor-1", connection=17, capacity=2)
    actor.leases(1)
    run.transport.disconnect(17)
    run.transport.settle()
    assert run.exchange.counts()["peers/actor"] == 1
    run.transport.pass_time(1.1)
    counts = run.exchange.counts()
    assert (counts["peers/actor"], counts["discarded/actor_lost"]) == (0, 1)
    assert "lost actor-1: its connection ended" in caplog.text


def test_a_silent_peer_is_lost_and_asked_to_say_hello_when_it_speaks_again(start):
    run = start()
    actor = run.peer("actor-1")
    run.transport.pass_time(10.1)  # ten heartbeats
    assert run.exchange.counts()["peers/actor"] == 0
    actor.beat()
    actor.wait_for(HelloWanted)


def test_a_learner_that_was_stopped_takes_nobody_for_dead_when_it_wakes(start, caplog):
    run = start()
    run.publish()
    actor = run.peer("actor-1", connection=17, capacity=2)
    worker = run.peer("worker-1", connection=18)
    [lease] = actor.leases(1)
    waiting = run.call(run.exchange.next_batch)
    run.transport.settle()
    run.transport.disconnect(17)  # ZeroMQ gave the connections up meanwhile
    run.transport.disconnect(18)
    run.transport.now += 3600.0
    run.transport.settle()
    assert "stood still for 3600 s" in caplog.text
    run.transport.pass_time(3.0)
    for peer, connection in ((actor, 19), (worker, 20)):
        peer.beat(connection=connection)
    run.transport.pass_time(4.0)
    actor.complete(lease)
    for task in worker.tasks(GROUP_SIZE):
        worker.score(task)
    assert len(waiting.result(DEADLINE_SECONDS).samples) == GROUP_SIZE
    counts = run.exchange.counts()
    assert (counts["peers/actor"], counts["peers/reward_worker"]) == (1, 1)
    assert not [name for name in counts if name.startswith("discarded")]


def test_a_peer_that_died_while_the_learner_was_stopped_is_lost_soon_after(start):
    run = start()
    run.peer("actor-1", connection=17)
    run.transport.disconnect(17)
    run.transport.now += 3600.0
    run.transport.settle()
    assert run.exchange.counts()["peers/actor"] == 1
    run.transport.pass_time(5.2)
    assert run.exchange.counts()["peers/actor"] == 0


def test_a_long_step_is_told_while_it_runs_and_not_after_it(start, caplog):
    caplog.set_level(logging.INFO, "learner.watchdog")
    run = start()
    run.publish()
    worker, actor = run.peer("worker"), run.peer("actor")
    batch = run.call(run.exchange.next_batch)
    actor.complete(actor.leases(1)[0])
    for task in worker.tasks(GROUP_SIZE):
        worker.score(task)
    batch.result(DEADLINE_SECONDS)
    run.transport.pass_time(62.0)
    assert caplog.messages.count("a training step has been running for 60 s") == 1
    run.publish(b"better", trained=True)
    caplog.clear()
    run.transport.pass_time(100.0)
    assert "a training step" not in caplog.text


def test_a_heartbeats_odd_figures_do_no_harm(start):
    run = start()
    actor = run.peer("actor-1")
    for odd in (float("nan"), float("inf"), -1e300):
        actor.beat(metrics={"peak_rss_bytes": odd})
        run.transport.settle()
        assert run.exchange.counts()["peers/actor"] == 1


def test_a_worker_with_room_for_everything_gets_all_that_waits(start):
    run = start(learner={"groups_per_step": 6})
    run.publish()
    actor = run.peer("actor", capacity=1_000_000)
    for lease in actor.leases(6):
        actor.complete(lease)
    actor.acked(RolloutAcks, 6 * GROUP_SIZE)
    assert len(run.peer("worker", capacity=1_000_000).tasks(6 * GROUP_SIZE)) >= 6 * GROUP_SIZE


def test_what_a_deterministic_run_cannot_score_ends_it_now_and_for_good(start):
    run = start(
        run={"deterministic": True}, learner={"groups_per_step": 1, "max_off_policy_steps": 0}
    )
    run.publish()
    batch = run.call(run.exchange.next_batch)
    actor, worker = run.peer("actor", capacity=100), run.peer("worker", capacity=100)
    (lease,) = actor.leases(1)
    actor.complete(lease)
    for task in worker.tasks(2):
        (worker.score if task.sample else worker.fail)(task)
    for _ in range(2):  # it is asked for again, twice
        (task,) = worker.tasks(1)
        worker.fail(task)
    wanted = "group 0 sample 0 could not be scored 3 times, .*sandbox_error.*resume"
    for ended in (batch, run.call(run.exchange.next_batch), run.call(run.exchange.evaluate)):
        with pytest.raises(RunStopped, match=wanted):
            ended.result(DEADLINE_SECONDS)
