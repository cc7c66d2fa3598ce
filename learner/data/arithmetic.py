"""Generated arithmetic: prompts with one right answer, for runs that need no data file.

Pure functions of (task, split, count, seed). Which split a prompt belongs to is a fixed property of
its operands, so no choice of seed or count can move a held-out prompt into the training set.

To add a task, add one entry to `TASKS`.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from itertools import product
from typing import Any, Literal

from protocol.errors import DataError

Split = Literal["train", "heldout"]

HELDOUT_ONE_IN = 8
"""One in this many unordered sets of operands is held out."""


@dataclass(frozen=True)
class Task:
    """A family of prompts, one for each choice of operands."""

    name: str
    description: str
    operand_ranges: tuple[range, ...]
    """The values that each operand takes; a prompt exists for every combination."""
    make_row: Callable[..., dict[str, Any]]
    """Operands -> a row with "prompt" (a string or chat messages) and "answer" (a string)."""


def arithmetic_rows(task: str, split: Split, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Draws distinct rows of one split of a task.

    Args:
        task: a key of `TASKS`.
        split: "train" or "heldout"; the two never share a prompt.
        count: how many rows; `max_rows` says how many there are.
        seed: chooses the rows and their order, never the split.

    Returns:
        Rows such as {"prompt": "37+48=", "answer": "85"}.

    Raises:
        DataError: the task or split is unknown, or holds fewer than `count` rows.
    """
    available = max_rows(task, split)
    if not 0 <= count <= available:
        raise DataError(
            f"asked for {count} {split} rows of arithmetic task {task!r}, which has {available}; "
            f"ask for 0 to {available}"
        )
    rng = random.Random(f"{task}/{split}/{seed}")  # noqa: S311 - data, not secrets
    chosen = rng.sample(_operands(task, split), count)
    return [TASKS[task].make_row(*operands) for operands in chosen]


def max_rows(task: str, split: Split) -> int:
    """Counts the distinct prompts in one split of a task.

    Raises:
        DataError: the task or split is unknown.
    """
    if task not in TASKS:
        known = ", ".join(sorted(TASKS))
        raise DataError(f"unknown arithmetic task {task!r}; choose one of: {known}")
    if split not in ("train", "heldout"):
        raise DataError(f"unknown split {split!r}; choose 'train' or 'heldout'")
    return len(_operands(task, split))


@cache
def _operands(task: str, split: Split) -> tuple[tuple[int, ...], ...]:
    """Lists all operands of one split, in counting order."""
    wanted = split == "heldout"
    combinations = product(*TASKS[task].operand_ranges)
    return tuple(operands for operands in combinations if _is_heldout(operands) == wanted)


def _is_heldout(operands: tuple[int, ...]) -> bool:
    """Tells the split from the sorted operands, so that 48+37 is held out whenever 37+48 is."""
    key = ",".join(str(operand) for operand in sorted(operands))
    return blake2b(key.encode(), digest_size=1).digest()[0] % HELDOUT_ONE_IN == 0


def _addition_row(a: int, b: int) -> dict[str, Any]:
    return {"prompt": f"{a}+{b}=", "answer": str(a + b)}


def _chat_addition_row(a: int, b: int) -> dict[str, Any]:
    """Shows one solved sum: the model answers in about 11 tokens, "18 + 27 = 45", and stops."""
    prompt = [
        {"role": "system", "content": "You add numbers."},
        {"role": "user", "content": "What is 45 + 16?"},
        {"role": "assistant", "content": "45 + 16 = 61"},
        {"role": "user", "content": f"What is {a} + {b}?"},
    ]
    return {"prompt": prompt, "answer": str(a + b)}


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="add2",
            description="The sum of two numbers from 0 to 99, prompted as '37+48='.",
            operand_ranges=(range(100), range(100)),
            make_row=_addition_row,
        ),
        Task(
            name="add2_chat",
            description="The sum of two numbers from 10 to 39, asked in a chat after one example.",
            operand_ranges=(range(10, 40), range(10, 40)),
            make_row=_chat_addition_row,
        ),
    )
}
"""Every task by name."""
