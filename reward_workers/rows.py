"""One completion and its data row, as reward functions see them."""

import json
from dataclasses import dataclass
from typing import Any, cast

from protocol.errors import RewardError
from protocol.messages import ScoreTask
from reward_workers.thinking import NO_THOUGHTS, Thinking, split_thought

GIVEN = {
    "prompts": "prompt",
    "completions": "completion",
    "raw_completions": "raw_completion",
    "thoughts": "thought",
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
    """The visible reply; always a string, also for chat prompts."""
    raw_completion: str
    """All that was sampled."""
    thought: str
    """What comes before the visible reply; empty where the model does not think."""
    completion_tokens: int
    finish_reason: str
    """stop or length."""
    columns: dict[str, Any]


def read_row(task: ScoreTask, thinking: Thinking = NO_THOUGHTS) -> Row:
    """Row of a task.

    Args:
        task: as the learner sent it.
        thinking: how the run's model writes thoughts.

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
    thought, reply = split_thought(task.completion, cast(object, prompt), thinking)
    return Row(
        prompt=cast(str | list[dict[str, Any]], prompt),
        completion=reply,
        raw_completion=task.completion,
        thought=thought,
        completion_tokens=task.completion_tokens,
        finish_reason=task.finish_reason,
        columns=cast(dict[str, Any], columns),
    )
