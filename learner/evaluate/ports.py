"""Ports for a run that nobody else needs to find."""

import random
import socket

FIRST, LAST = 20_000, 32_000
"""Below those that kernels hand out."""
TRIES = 200


def free_ports(number: int) -> int:
    """The first of some neighbouring ports on loopback that nobody listens on now.

    Raises:
        OSError: there are none.
    """
    chosen = random.Random()  # noqa: S311 - not seeded: evaluations side by side choose others
    for _ in range(TRIES):
        first = chosen.randrange(FIRST, LAST)
        if all(_is_free(port) for port in range(first, first + number)):
            return first
    raise OSError(f"no {number} neighbouring ports are free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
