"""Which is better on this machine: to generate in the learner's process, or beside it."""

from typing import NamedTuple

from learner.plan.colocated import COLOCATED, SEPARATE, Way
from learner.plan.fit import gib

NEAR = 0.05
"""A plan does not tell apart what differs by less."""

_ARE = {COLOCATED: "is", SEPARATE: "are"}
_TAKE = {COLOCATED: "takes", SEPARATE: "take"}


class Cost(NamedTuple):
    """What a way takes."""

    total_bytes: int
    """Of all roles."""
    seconds: float
    """Of a step."""


def comparison(way: Way, cost: Cost, now: Cost, memory_bytes: int) -> str:
    """What another way would take instead, and which one is better.

    Args:
        way: the other one.
        cost: of it.
        now: of the config as it is.
        memory_bytes: the machine's.
    """
    said = (
        f"{way.name} ({way.setting}): {gib(cost.total_bytes)} instead of "
        f"{gib(now.total_bytes)}, about {cost.seconds:.3g} s a step instead of {now.seconds:.3g} s"
    )
    if cost.total_bytes > memory_bytes:
        return f"{said}: more memory than this machine has"
    here = SEPARATE if way.name == COLOCATED else COLOCATED
    faster = _less(way.name, cost.seconds, here, now.seconds)
    smaller = _less(way.name, cost.total_bytes, here, now.total_bytes)
    return f"{said}: {_verdict(faster, smaller)}"


def _verdict(faster: str, smaller: str) -> str:
    """Which one is better, from who is faster and who is smaller; empty is neither."""
    if not faster and not smaller:
        return "about the same"
    if not faster:
        return f"about as fast, and {smaller} {_TAKE[smaller]} less memory"
    if not smaller:
        return f"{faster} {_ARE[faster]} faster, with about as much memory"
    if faster == smaller:
        return f"{faster} {_ARE[faster]} faster and {_TAKE[faster]} less memory"
    return f"{faster} {_ARE[faster]} faster, {smaller} {_TAKE[smaller]} less memory"


def _less(one: str, its: float, other: str, others: float) -> str:
    if abs(its - others) <= NEAR * max(its, others):
        return ""
    return one if its < others else other
