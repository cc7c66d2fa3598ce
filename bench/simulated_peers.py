"""Many simulated actors or reward workers in one process: real sockets, real messages, no model.

bench/exchange_load.py starts this with its role and number, and steers it by lines on stdin:

    rate 300    rollouts a second, all actors of this process together; 0: as fast as leases come
    pause       say nothing at all, heartbeats included, until the next line
    end         print what was seen as one line of JSON, and exit

An actor holds each new version as soon as a heartbeat's ack names it. A reward worker gives every
sample its score at once.
"""

import argparse
import json
import os
import sys
import time
from collections import deque
from typing import Any

import msgpack
import numpy as np
import zmq

from protocol.messages import (
    Heartbeat,
    HeartbeatAck,
    Hello,
    HelloWanted,
    LeaseGrant,
    Message,
    Rollout,
    RolloutAcks,
    Score,
    ScoreAcks,
    ScoreWork,
    Welcome,
)
from protocol.transport import Channel, parse_address
from protocol.wire import decode, encode

NUM_TOKENS = 700
TEXT_BYTES = 2400
"""With 8 bytes for each token, a rollout is 8 KB."""
RESEND_SECONDS = 5.0
TURN_SECONDS = 0.01
PAUSED_SECONDS = 0.05


class Peer:
    """One peer: a control and a rollouts socket, and what it holds."""

    def __init__(self, context: "zmq.Context[Any]", address: str, role: str, name: str) -> None:
        host, port = parse_address(address)
        self.name = name
        self.hello = Hello(role=role, peer=name, host="simulated", pid=os.getpid())  # pyright: ignore
        self.sockets: dict[Channel, zmq.Socket[bytes]] = {}
        for channel in (Channel.CONTROL, Channel.ROLLOUTS):
            opened = context.socket(zmq.DEALER)
            opened.setsockopt(zmq.ROUTING_ID, name.encode())
            opened.setsockopt(zmq.LINGER, 0)
            opened.connect(f"tcp://{host}:{port + channel}")
            self.sockets[channel] = opened
        self.registered = False
        self.due = 0.0
        """When the next Hello or heartbeat is."""
        self.epoch = 0
        self.version = 0
        self.asked_at: float | None = None
        """When the heartbeat was sent that is not answered yet."""
        self.unacked: dict[tuple[int, int, int], tuple[float, list[Any]]] = {}

    def say(self, channel: Channel, frames: list[Any]) -> None:
        """Queue a message."""
        self.sockets[channel].send_multipart(frames, zmq.NOBLOCK)


class Crowd:
    """All peers of this process.

    Args:
        options: the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._role = options.role
        self._capacity = options.capacity
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 4 * options.number + 8)
        names = [f"{options.role}-{options.first + i}" for i in range(options.number)]
        self._peers = [Peer(self._context, options.learner, self._role, n) for n in names]
        self._poller = zmq.Poller()
        self._owners: dict[Any, Peer] = {}
        for peer in self._peers:
            for opened in peer.sockets.values():
                self._poller.register(opened, zmq.POLLIN)
                self._owners[opened] = peer
        self._poller.register(sys.stdin, zmq.POLLIN)
        example = example_rollout()
        self._rollout_header, self._template = encode(example)[0], example.model_dump()
        self._to_do: deque[tuple[Peer, dict[str, Any]]] = deque()
        """Completions that were leased and not sent."""
        self._rate = 0.0
        self._paused = False
        self._allowed = 0.0
        self._allowed_at = time.monotonic()
        self.seen: dict[str, Any] = {"sent": 0, "again": 0, "acked": 0, "heartbeats": []}

    def run(self) -> None:
        """Until told to end."""
        ended = False
        while not ended:
            time.sleep(PAUSED_SECONDS if self._paused else TURN_SECONDS)
            for opened, _ in self._poller.poll(0):
                if opened == sys.stdin.fileno():
                    ended = self._obey(sys.stdin.readline().split())
                else:
                    self._drain(self._owners[opened], opened)
            if not self._paused:
                self._send(time.monotonic())
        print(json.dumps(self.seen), flush=True)
        self._context.destroy(linger=0)

    def _obey(self, words: list[str]) -> bool:
        self._paused = words == ["pause"]
        if words[:1] == ["rate"]:
            self._rate = float(words[1])
            self._allowed, self._allowed_at = 0.0, time.monotonic()
        return words in ([], ["end"])

    def _drain(self, peer: Peer, opened: "zmq.Socket[bytes]") -> None:
        while True:
            try:
                frames: list[Any] = opened.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(peer, decode(frames).message)

    def _take(self, peer: Peer, message: Message) -> None:
        match message:
            case Welcome():
                peer.registered, peer.epoch, peer.due = True, message.run_epoch, 0.0
            case HelloWanted():
                peer.registered, peer.due = False, 0.0
            case HeartbeatAck():
                self._heard(peer, message)
            case LeaseGrant():
                for lease in message.leases:
                    where = {"group_id": lease.group_id, "attempt": lease.attempt}
                    for sample in range(lease.num_samples):
                        self._to_do.append((peer, {**where, "sample": sample}))
            case RolloutAcks() | ScoreAcks():
                for ack in message.acks:
                    key = (ack.group_id, ack.attempt, ack.sample)
                    self.seen["acked"] += peer.unacked.pop(key, None) is not None
            case ScoreWork():
                for task in message.tasks:
                    key = (task.group_id, task.attempt, task.sample)
                    self._keep(peer, key, encode(score(peer.epoch, *key)))
            case _:
                pass

    def _heard(self, peer: Peer, ack: HeartbeatAck) -> None:
        if peer.asked_at is not None:
            self.seen["heartbeats"].append((time.time(), time.monotonic() - peer.asked_at))
        peer.asked_at = None
        if peer.version != ack.policy_version:
            peer.version, peer.due = ack.policy_version, 0.0

    def _send(self, now: float) -> None:
        for peer in self._peers:
            if now >= peer.due:
                self._beat(peer, now)
        if self._rate:
            self._allowed += self._rate * (now - self._allowed_at)
        else:
            self._allowed = len(self._to_do)
        self._allowed_at = now
        while self._to_do and self._allowed >= 1.0:
            self._allowed -= 1.0
            peer, where = self._to_do.popleft()
            fields = {**self._template, **where, "run_epoch": peer.epoch}
            fields["policy_versions"] = ((peer.version, NUM_TOKENS),)
            key = (where["group_id"], where["attempt"], where["sample"])
            self._keep(peer, key, [self._rollout_header, msgpack.packb(fields)])
        self._allowed = min(self._allowed, self._rate)  # at most a second's worth at once

    def _beat(self, peer: Peer, now: float) -> None:
        if not peer.registered:
            peer.due = now + 2.0
            peer.say(Channel.CONTROL, encode(peer.hello))
            return
        if not peer.due:  # from here on heartbeats are spread over the second
            peer.due = now
        peer.due = max(peer.due + 1.0, now)
        peer.asked_at = now
        beat = Heartbeat(
            peer=peer.name,
            state="simulated",
            policy_version=peer.version,
            capacity=self._capacity,
            run_epoch=peer.epoch,
        )
        peer.say(Channel.CONTROL, encode(beat))
        for key, (sent_at, frames) in list(peer.unacked.items()):
            if now - sent_at < RESEND_SECONDS:
                break
            del peer.unacked[key]
            self.seen["again"] += 1
            self._keep(peer, key, frames)

    def _keep(self, peer: Peer, key: tuple[int, int, int], frames: list[Any]) -> None:
        self.seen["sent"] += 1
        peer.unacked[key] = (time.monotonic(), frames)
        peer.say(Channel.ROLLOUTS, frames)


def example_rollout() -> Rollout:
    """One of 8 KB on the wire."""
    return Rollout(
        run_epoch=0,
        group_id=0,
        attempt=0,
        sample=0,
        token_ids=np.arange(NUM_TOKENS, dtype=np.int32) % 17,
        behaviour_logprobs=np.full(NUM_TOKENS, -0.5, np.float32),
        policy_versions=((0, NUM_TOKENS),),
        finish_reason="length",
        completion="x" * TEXT_BYTES,
        seconds=1.0,
    )


def score(epoch: int, group_id: int, attempt: int, sample: int) -> Score:
    """Half of a group's samples pass."""
    return Score(
        run_epoch=epoch,
        group_id=group_id,
        attempt=attempt,
        sample=sample,
        reward=float(sample % 2),
        rewards=(),
        status="ok",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("actor", "reward_worker"))
    parser.add_argument("--learner", required=True)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--capacity", type=int, default=32)
    Crowd(parser.parse_args()).run()
