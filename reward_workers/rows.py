"""One completion and its data row, as reward functions see them."""

import json
from dataclasses import dataclass
from typing import Any, cast

from protocol.errors import RewardError
from protocol.messages import ScoreTask

GIVEN = {
    "prompts": "prompt",
    "completions": "completion",
    "completion_tokens": "completion_tokens",
    "finish_reason": "finish_reason",
}
"""Columns that do not come from the data row: name -> the Row's attribute."""


@dataclass(frozen=True)
class Row:
    """A completion with its prompt, two facts of its generation, and the data row's columns."""

    prompt: str | list[dict[str, Any]]
    """A string or chat messages, as in the data."""
    completion: str
    """Always a string, also for chat prompts."""
    completion_tokens: int
    finish_reason: str
    """stop or length."""
    columns: dict[str, Any]


def read_row(task: ScoreTask) -> Row:
    """Row of a task.

    Raises:
        RewardError: prompt or columns are not the JSON that they should be.
    """
    try:
        prompt: object = json.loads(task.prompt)
        columns: object = json.loads(task.columns)
    except (ValueError, RecursionError) as error:
        raise RewardError(f"the task's prompt or columns are no JSON: {error}") from None
    if not isinstance(prompt, str | list) or not isinstance(columns, dict):
        raise RewardError("the task's prompt is no string or list, or its columns no object")
    return Row(
        prompt=cast(str | list[dict[str, Any]], prompt),
        completion=task.completion,
        completion_tokens=task.completion_tokens,
        finish_reason=task.finish_reason,
        columns=cast(dict[str, Any], columns),
    )
