"""An actor that prints the digest of its model's weights after each switch; for test_weights.py.

It is the real one in all else: `python witness_actor.py tcp://HOST:PORT`.
"""

import dataclasses
import os
import sys

import mlx.core as mx

from actors.worker import Actor
from protocol.config import RunConfig
from protocol.messages import Hello
from protocol.peer import PeerLink
from protocol.policy import Policy, load_policy
from protocol.process import this_host
from protocol.telemetry import setup_logging
from protocol.transport import PeerSockets
from protocol.weights import pack


class Witness(Policy):
    """A policy that says what it computes with, as the bytes of a version."""

    def apply(self, weights: dict[str, mx.array]) -> None:
        super().apply(weights)
        held = sorted(self.trained().items())
        packed = pack((name, array.astype(self.weight_dtype)) for name, array in held)
        sys.stdout.write(f"{packed.digest}\n")
        sys.stdout.flush()


def load(config: RunConfig) -> Policy:
    policy = load_policy(config)
    fields = (field.name for field in dataclasses.fields(policy))
    return Witness(**{name: getattr(policy, name) for name in fields})


def main() -> int:
    setup_logging("INFO")
    address = sys.argv[1]
    peer = f"actor-{os.getpid()}"
    hello = Hello(role="actor", peer=peer, host=this_host(), pid=os.getpid())
    link = PeerLink(hello, PeerSockets(address, peer), address)
    link.start()
    try:
        return Actor(peer, link, load, has_log=False).run()
    finally:
        link.close("the actor ends")


if __name__ == "__main__":
    sys.exit(main())
