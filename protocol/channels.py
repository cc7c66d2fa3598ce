"""The four kinds of traffic, and how much of each a socket may hold.

ZeroMQ counts messages, so a bound in bytes is a number of messages times the size of the largest.
The sizes are those of the largest message that our own code sends; the queues are as long as the
traffic needs them, and no longer:

- What does not fit into a peer's queue stays with it: rollouts and scores are kept until they are
  acked, and tried again at once (protocol/peer.py). Heartbeats say everything again.
- The learner sends a peer a message or two of a kind each turn, and never more work than it has
  room for; a queue of it is full only for a peer that has stopped reading.
- An actor has at most eight chunks asked for at a time (actors/fetch.py), which all fit, although
  ZeroMQ may notice as late as half a queue afterwards that some of them were read.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

KIB, MIB = 2**10, 2**20


class Channel(IntEnum):
    """One kind of traffic; the value is the offset from the learner's port."""

    CONTROL = 0
    ROLLOUTS = 1
    WEIGHTS = 2
    NOTICE = 3


class Bounds(NamedTuple):
    """What one side's socket holds for each of its connections."""

    max_frame_bytes: int
    """Of what comes in; ZeroMQ ends the connection that sends more."""
    receive_messages: int
    """That have come in and are not read."""
    send_messages: int
    """That wait to go out; what comes on top is refused to the sender."""


LEARNER: Mapping[Channel, Bounds] = {
    # a heartbeat with the progress of 10,000 leases; so many queue up while a learner is stopped
    Channel.CONTROL: Bounds(1 * MIB, 256, 256),
    # a rollout of 1,000,000 tokens and 4,000,000 characters
    Channel.ROLLOUTS: Bounds(32 * MIB, 16, 256),
    Channel.WEIGHTS: Bounds(64 * KIB, 64, 24),
    Channel.NOTICE: Bounds(64 * KIB, 64, 16),
}
PEER: Mapping[Channel, Bounds] = {
    # leases with prompts of 8,000,000 bytes, or the run's config
    Channel.CONTROL: Bounds(16 * MIB, 64, 64),
    # one sample to score, with a prompt, columns and a completion of 4,000,000 characters each
    Channel.ROLLOUTS: Bounds(64 * MIB, 64, 64),
    # a chunk of 1 MiB, or a manifest of 100,000 tensors
    Channel.WEIGHTS: Bounds(32 * MIB, 24, 64),
    Channel.NOTICE: Bounds(64 * KIB, 16, 1),
}
