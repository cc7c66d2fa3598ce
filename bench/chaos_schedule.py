"""Which process is killed or stopped when, in bench/chaos.py: a function of a seed."""

import random
from dataclasses import dataclass, replace
from itertools import cycle, islice

LEASE_SECONDS = 3.0
"""Stops are shorter or longer than this."""

PLAN = (
    ("stop short", "actors", "any"),
    ("kill", "actors", "any"),
    ("kill", "learner", "checkpoint"),
    ("kill", "reward_workers", "any"),
    ("stop long", "actors", "any"),
    ("kill", "learner", "start-up"),
    ("stop long", "reward_workers", "any"),
    ("kill", "actors", "evaluation"),
    ("kill", "learner", "evaluation"),
    ("kill", "reward_workers", "evaluation"),
    ("stop short", "learner", "any"),
    ("kill", "actors", "any"),
    ("kill", "learner", "any"),
    ("stop short", "reward_workers", "any"),
    ("kill", "actors", "any"),
    ("stop long", "learner", "any"),
    ("stop long", "actors", "evaluation"),
)
"""(what, whom, when), shuffled; short and long are beside a lease's time."""


@dataclass(frozen=True)
class Fault:
    """One event of the schedule."""

    step: int
    """It comes after this step, or, at start-up, in the start after the fault before it."""
    kind: str
    role: str
    moment: str
    wait_seconds: float
    """From its moment on."""
    stop_seconds: float = 0.0

    def __str__(self) -> str:
        stop = f" for {self.stop_seconds:.1f} s" if self.stop_seconds else ""
        moment = "" if self.moment == "any" else f" at its {self.moment}"
        if self.moment == "evaluation":
            moment = " in an evaluation"
        elif self.moment == "checkpoint":
            moment = " while a checkpoint is written"
        return f"{self.kind.split()[0]} {self.role}{stop}{moment}"


def schedule(num_events: int, num_steps: int, seed: int) -> list[Fault]:
    """Draw the faults of a run, in order; the last comes well before its last step."""
    rng = random.Random(seed)
    chosen = list(islice(cycle(PLAN), num_events))
    rng.shuffle(chosen)
    steps = sorted(rng.choices(range(1, max(num_steps * 4 // 5, 2)), k=num_events))
    faults = [
        _fault(rng, step, *what)
        for step, what in zip(steps, (c for c in chosen if c[2] != "start-up"), strict=False)
    ]
    for what in (c for c in chosen if c[2] == "start-up"):
        ends = [i for i, fault in enumerate(faults) if fault.role == "learner"]
        place = rng.choice([i for i in ends if faults[i].kind == "kill"])
        faults.insert(place + 1, _fault(rng, faults[place].step, *what))
    return faults


def _fault(rng: random.Random, step: int, kind: str, role: str, moment: str) -> Fault:
    longest = {"any": 0.5, "start-up": 3.0, "checkpoint": 0.02, "evaluation": 0.05}[moment]
    fault = Fault(step, kind, role, moment, rng.uniform(0.0, longest))
    leases = {"stop short": (0.1, 0.7), "stop long": (1.2, 2.0)}.get(kind, (0.0, 0.0))
    return replace(fault, stop_seconds=LEASE_SECONDS * rng.uniform(*leases))
