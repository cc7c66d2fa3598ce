"""Small programming tasks of our own making, for rewards that run code.

A task is a family with values for its parameters: "returns x plus 7". Which split a task belongs to
is a fixed property of the two, so no seed, count or wording can move a held-out task into training.
Held-out tasks are of the same families with values that the family is never trained with: what is
measured is whether the model has learned to write such functions, not whether it invents others.
"""

import json
import random
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import product
from typing import Any, Literal

from learner.data.code_families import FAMILIES, Family
from protocol.errors import DataError

Split = Literal["train", "heldout"]

HELDOUT_ONE_IN = 4
"""One in this many tasks is held out."""
NUM_CASES = 8
OPTIONS = ("count", "families", "solution")
ENDINGS = (
    "Answer with the code only, in one Python code block.",
    "Reply with one Python code block and nothing else.",
)


def code_task_rows(
    spec: str, options: Mapping[str, str], split: Split, seed: int
) -> list[tuple[str, dict[str, Any]]]:
    """Distinct tasks of one split, with the columns prompt, cases, entry_point and family.

    Args:
        spec: the source as the config names it, for messages.
        options: count=N (default: every task once), families=a,b (default: all), solution=1 adds
            the column canonical_solution.
        split: "train" or "heldout"; the two never share a task.
        seed: chooses the tasks, their order, wording and inputs, never the split.

    Returns:
        Places such as "code_tasks:add/k=7", and rows.

    Raises:
        DataError: an option is unknown, has a bad value, or asks for more tasks than there are.
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        known = ", ".join(OPTIONS)
        raise DataError(f"source {spec!r}: no option {unknown[0]!r}, known are {known}")
    tasks = [
        task
        for task in _tasks(_families(spec, options))
        if _is_heldout(task) == (split == "heldout")
    ]
    count = options.get("count", str(len(tasks)))
    if not count.isdecimal() or not 0 < int(count) <= len(tasks):
        raise DataError(f"source {spec!r}: count is {count!r}, wanted 1 to {len(tasks)}")
    random.Random(f"code_tasks/{split}/{seed}").shuffle(tasks)  # noqa: S311 - no secret
    with_solution = options.get("solution") == "1"
    return [
        (f"code_tasks:{_name(task)}", _row(task, seed, with_solution=with_solution))
        for task in tasks[: int(count)]
    ]


Task = tuple[Family, dict[str, Any]]


def _families(spec: str, options: Mapping[str, str]) -> Sequence[Family]:
    by_name = {family.name: family for family in FAMILIES}
    names = options["families"].split(",") if "families" in options else list(by_name)
    for name in names:
        if name not in by_name:
            known = ", ".join(by_name)
            raise DataError(f"source {spec!r}: no family {name!r}, known are {known}")
    return [by_name[name] for name in names]


def _tasks(families: Sequence[Family]) -> list[Task]:
    return [
        (family, dict(zip(family.values, values, strict=True)))
        for family in families
        for values in product(*family.values.values())
        if family.makes_sense(*values)
    ]


def _name(task: Task) -> str:
    family, values = task
    return "/".join([family.name, *(f"{name}={value}" for name, value in values.items())])


def _is_heldout(task: Task) -> bool:
    return blake2b(_name(task).encode(), digest_size=1).digest()[0] % HELDOUT_ONE_IN == 0


def _row(task: Task, seed: int, *, with_solution: bool) -> dict[str, Any]:
    family, values = task
    chosen = random.Random(f"{_name(task)}/{seed}")  # noqa: S311 - no secret
    statement = chosen.choice(family.statements).format(**values)
    prompt = (
        f"Write a Python function {family.signature} that {statement}. {chosen.choice(ENDINGS)}"
    )
    solution = family.solution.format(**values)
    row = {
        "prompt": [{"role": "user", "content": prompt}],
        "entry_point": family.signature.partition("(")[0],
        "cases": json.loads(json.dumps(_cases(family, values, solution))),
        "family": family.name,
    }
    return {**row, "canonical_solution": solution} if with_solution else row


def _cases(family: Family, values: Mapping[str, Any], solution: str) -> list[dict[str, Any]]:
    """Inputs of a fixed seed; what is expected comes from the reference solution itself."""
    chosen = random.Random(f"cases/{family.name}/{sorted(values.items())}")  # noqa: S311 - no secret
    scope: dict[str, Any] = {}
    exec(solution, scope)  # noqa: S102 - our own text
    function = scope[family.signature.partition("(")[0]]
    while True:
        inputs = _inputs(family, values, chosen)
        cases = [{"args": given, "expected": function(*given)} for given in inputs]
        if any(case["expected"] != cases[0]["expected"] for case in cases):  # no constant passes
            return cases


def _inputs(family: Family, values: Mapping[str, Any], chosen: random.Random) -> list[list[Any]]:
    """Arguments of calls, all different."""
    inputs: list[list[Any]] = []
    while len(inputs) < NUM_CASES:
        arguments = list(family.inputs(chosen, *values.values()))
        if arguments not in inputs:
            inputs.append(arguments)
    return inputs
