import io

import pytest
from rich.console import Console

from learner.plan.machine import Machine
from learner.plan.memory import Memory, RoleMemory
from learner.plan.report import Plan, lines, show, size
from learner.plan.seconds import StepSeconds
from learner.plan.work import Needs, Work

GIB = 1 << 30
MEMORY = Memory(
    (
        RoleMemory("learner", 1, 3 * GIB, {"model": 2 * GIB, "gradient pass": GIB}),
        RoleMemory("actor", 2, GIB, {"model": GIB}),
    ),
    version_bytes=1536,
)
STEP = StepSeconds(1.0, 0.5, 1.25, "the learner", 640.0)


def make(gib=10, seconds: StepSeconds | None = STEP, refusal="", working_set=0, other=""):
    machine = Machine(gib * GIB, 8, has_metal=bool(working_set))
    work = Work(9, 8, Needs())
    return Plan(MEMORY, machine, work, ("as it is",), seconds, refusal, working_set, other)


def test_a_plan_says_what_it_takes_and_what_it_assumes():
    assert list(lines(make())) == [
        "all roles together: 5 GB of this machine's 10 GB (50%)",
        "one published version: 1.5 KB",
        "a step: about 1.25 s, bound by the learner (alone: learner 1 s, each actor 0.5 s, "
        "640 tokens/s)",
        "assumed: as it is",
        "it fits",
    ]


def test_another_way_is_told_after_the_seconds_of_this_one():
    said = list(lines(make(other="colocated: better")))
    assert said[2].startswith("a step: ")
    assert said[3] == "colocated: better"


def test_a_plan_that_does_not_fit_says_what_to_change():
    said = list(lines(make(gib=4, seconds=None, refusal="set learner.tuning=lora")))
    assert said[-1] == "does not fit: set learner.tuning=lora"
    assert not any(line.startswith(("a step", "it fits")) for line in said)


@pytest.mark.parametrize(
    ("plan", "warning"),
    [(make(gib=6), "leaves little"), (make(working_set=4 * GIB), "Metal recommends")],
)
def test_a_tight_fit_is_warned_of(plan, warning):
    assert [warning in line for line in lines(plan) if line.startswith("warning: ")] == [True]


def test_without_a_terminal_there_are_plain_lines():
    console = Console(file=io.StringIO(), width=40)
    show(make(), console)
    said = console.file.getvalue().splitlines()  # pyright: ignore[reportAttributeAccessIssue]
    assert said[0] == "learner x1: 3 GB each, 3 GB in all (model 2 GB, gradient pass 1 GB)"
    assert said[1] == "actor x2: 1 GB each, 2 GB in all (model 1 GB)"


def test_on_a_terminal_there_is_a_table():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    show(make(), console)
    said = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "peak of each" in said
    assert "gradient pass 1 GB" in said


def test_small_sizes_keep_their_figures():
    assert [size(n) for n in (5, 2048, 3 << 20, 5 * GIB)] == ["5 bytes", "2 KB", "3 MB", "5 GB"]
