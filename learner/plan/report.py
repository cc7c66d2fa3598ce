"""A plan as text: a table on a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from learner.plan.fit import WARN_SHARE, gib
from learner.plan.machine import Machine
from learner.plan.memory import Memory
from learner.plan.seconds import StepSeconds
from learner.plan.work import Work

_PARTS = 4
"""A role's largest parts that are shown."""


@dataclass(frozen=True)
class Plan:
    """All that is said about a run before it."""

    memory: Memory
    machine: Machine
    work: Work
    assumptions: tuple[str, ...]
    seconds: StepSeconds | None
    """None where the run does not fit, and so was not timed."""
    refusal: str = ""
    """Why the run does not fit, and what to change; empty where it fits."""
    working_set_bytes: int = 0
    """Metal's recommendation; 0 where there is none."""
    other_way: str = ""
    """What another place for generation would take instead; empty where there is none."""


def show(plan: Plan, console: Console) -> None:
    """Print a plan."""

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    if console.is_terminal:
        console.print(_table(plan.memory))
    else:
        for row in _rows(plan.memory):
            say(f"{row[0]} x{row[1]}: {row[2]} each, {row[3]} in all ({row[4]})")
    for line in lines(plan):
        say(line)


def lines(plan: Plan) -> Iterator[str]:
    """What is said below the table."""
    total, has = plan.memory.total_bytes, plan.machine.memory_bytes
    yield f"all roles together: {gib(total)} of this machine's {gib(has)} ({total / has:.0%})"
    if plan.working_set_bytes and total > plan.working_set_bytes:
        yield f"warning: Metal recommends to keep to {gib(plan.working_set_bytes)}"
    if WARN_SHARE * has < total <= has:
        yield "warning: that leaves little for the system and other programs"
    yield f"one published version: {size(plan.memory.version_bytes)}"
    if plan.seconds is not None:
        step = plan.seconds
        yield (
            f"a step: about {step.total:.3g} s, bound by {step.bound_by} (alone: learner "
            f"{step.learner:.3g} s, each actor {step.actor:.3g} s, "
            f"{step.actor_tokens_per_second:.4g} tokens/s)"
        )
    if plan.other_way:
        yield plan.other_way
    for assumption in plan.assumptions:
        yield f"assumed: {assumption}"
    if plan.refusal:
        yield f"does not fit: {plan.refusal}"
    else:
        yield "it fits"


def size(num_bytes: int) -> str:
    """In the largest unit that leaves a number above 1."""
    for unit, scale in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.3g} {unit}"
    return f"{num_bytes} bytes"


def _table(memory: Memory) -> Table:
    table = Table("role", "processes", "peak of each", "in all", "of which")
    for row in _rows(memory):
        table.add_row(*row)
    return table


def _rows(memory: Memory) -> Iterator[tuple[str, str, str, str, str]]:
    for role in memory.roles:
        largest = sorted(role.parts.items(), key=lambda part: -part[1])[:_PARTS]
        parts = ", ".join(f"{name} {size(count)}" for name, count in largest if count)
        yield role.role, str(role.count), size(role.peak_bytes), size(role.total_bytes), parts
