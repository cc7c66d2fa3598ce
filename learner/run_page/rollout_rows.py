"""One line of rollouts/step_*.jsonl: read without its arrays, and as a row of the list."""

import json
from typing import Any

from learner.run_page.json_values import as_number, as_text, as_whole, shown_text

MAX_SHOWN = 300
"""Characters of prompt and completion in a list."""

ARRAYS = b', "token_ids": ['
"""Before the arrays of a row that learner/records.py wrote. No string can hold it: in JSON the
quotation mark inside of one comes after a backslash."""
_BEHIND_ARRAYS = b', "rewards": '

Row = dict[str, Any]


def read_row(line: bytes) -> Row | None:
    """The whole row; None where the line is none."""
    try:
        row: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def light_row(line: bytes) -> Row | None:
    """The row without the arrays of its tokens, but with `num_tokens`; None where it is none.

    The arrays are nearly all of a line, and a list shows none of them.
    """
    start = line.find(ARRAYS)
    behind = line.find(_BEHIND_ARRAYS, start)
    ids_end = line.find(b"]", start)
    if 0 <= start < ids_end < behind:
        head = read_row(line[:start] + b"}")
        tail = read_row(b"{" + line[behind + 2 :])
        if head is not None and tail is not None:
            ids = line[start + len(ARRAYS) : ids_end]
            return {**head, **tail, "num_tokens": ids.count(b",") + 1 if ids.strip() else 0}
    row = read_row(line)
    if row is not None:
        ids = row.get("token_ids")
        row["num_tokens"] = len(ids) if isinstance(ids, list) else 0
    return row


def listed(row: Row, step: int, line: int) -> Row:
    """A light row as /api/rollouts shows it."""
    return {
        "step": step,
        "line": line,
        "group": as_whole(row.get("group")),
        "sample": as_whole(row.get("sample")),
        "prompt_id": as_text(row.get("prompt_id")),
        "prompt": shown_text(row.get("prompt"))[:MAX_SHOWN],
        "completion": shown_text(row.get("completion"))[:MAX_SHOWN],
        "num_tokens": row["num_tokens"],
        "reward": as_number(row.get("reward")),
        "rewards": rewards_of(row),
        "advantage": mean_advantage(row),
        "status": as_text(row.get("status")),
        "finish_reason": as_text(row.get("finish_reason")),
        "actor": as_text(row.get("actor")),
    }


def rewards_of(row: Row) -> dict[str, float | None]:
    """Rewards by function."""
    rewards = row.get("rewards")
    return {n: as_number(r) for n, r in rewards.items()} if isinstance(rewards, dict) else {}


def mean_advantage(row: Row) -> float | None:
    """The completion's advantage, or the mean of its tokens'."""
    advantage = row.get("advantage")
    if not isinstance(advantage, list):
        return as_number(advantage)
    numbers = [number for item in advantage if (number := as_number(item)) is not None]
    return as_number(sum(numbers) / len(numbers)) if numbers else None
