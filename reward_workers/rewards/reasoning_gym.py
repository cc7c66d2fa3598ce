"""The scorer of a reasoning-gym task, on rows of the data source `reasoning_gym:<task>`."""

import json
import math
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import Field

from protocol.errors import ConfigError, RewardError
from reward_workers.alarm import OutOfTime, time_limit
from reward_workers.code_blocks import answer_part
from reward_workers.reasoning_guard import may_be_scored
from reward_workers.registry import checked_by, reward
from reward_workers.rewards.numeric_match import last_number

Scorer = Callable[[str, dict[str, Any]], object]


class _Entry(NamedTuple):
    task: str
    options: str
    fields: dict[str, Any]
    """question, answer and metadata, as the task made them."""


def _check(**_parameters: object) -> None:
    if find_spec("reasoning_gym") is None:
        raise ConfigError("it needs the package reasoning-gym: pip install -e '.[reasoning-gym]'")


@reward("reasoning_gym")
@checked_by(_check)
def reasoning_gym(
    completions: list[str],
    reasoning_gym_task: list[object],
    entry: list[object],
    reasoning_gym_options: list[object],
    *,
    untagged: Literal["last_number", "last_line", "text", "none"] = "last_line",
    max_seconds: Annotated[float, Field(gt=0.0, le=60.0)] = 5.0,
) -> list[float]:
    """What the task's own scorer says of each completion's answer, mostly 0.0 to 1.0.

    The answer is what stands between the last <answer> and </answer>, after any thinking. An
    answer that makes the scorer fail, run out of time, or say what is no number, gets 0.0; so does
    one that the scorer would run as a program (reward_workers/reasoning_guard.py).

    Args:
        completions: the sampled texts.
        reasoning_gym_task: the task's name.
        entry: question, answer and metadata, as the task made them.
        reasoning_gym_options: the task's options in the data source.
        untagged: the answer where there are no tags. Small models never write them.
        max_seconds: for one answer.

    Raises:
        RewardError: a row that is not of the data source, or not in the main thread.
    """
    rows = [
        _read(task, fields, options)
        for task, fields, options in zip(
            reasoning_gym_task, entry, reasoning_gym_options, strict=True
        )
    ]
    return [
        _score(row, find_answer(completion, untagged), max_seconds)
        for completion, row in zip(completions, rows, strict=True)
    ]


def find_answer(
    completion: str, untagged: Literal["last_number", "last_line", "text", "none"]
) -> str | None:
    """The answer that a completion gives, or None."""
    text = answer_part(completion)
    before, ended, _ = text.rpartition("</answer>")
    _, began, tagged = before.rpartition("<answer>")
    if ended and began:
        return tagged.strip()
    if untagged == "last_number":
        number = last_number(text)
        return None if number is None else format(number, "f")
    if untagged == "last_line":
        return text.strip().rpartition("\n")[2].strip()
    return text.strip() if untagged == "text" else None


def _score(row: _Entry, answer: str | None, max_seconds: float) -> float:
    if not answer or not may_be_scored(row.task, answer, row.fields["metadata"]):
        return 0.0
    scorer = _scorer(row.task, row.options)
    try:
        with time_limit(max_seconds):
            found = float(cast(Any, scorer(answer, row.fields)))
    except OutOfTime:
        return 0.0
    except Exception as error:  # noqa: BLE001 - untrusted text in foreign code
        _refuse_broken(scorer, row, error)
        return 0.0
    return found if math.isfinite(found) else 0.0


def _refuse_broken(scorer: Scorer, row: _Entry, error: Exception) -> None:
    """Tell an answer's fault from the row's, which shows with the right answer too."""
    try:
        scorer(row.fields["answer"], row.fields)
    except Exception:  # noqa: BLE001 - as above
        raise RewardError(f"the scorer of task {row.task!r} cannot read the row: {error}") from None


def _read(task: object, fields: object, options: object) -> _Entry:
    if not isinstance(task, str) or not isinstance(fields, dict) or not isinstance(options, dict):
        raise RewardError("the row is not of the data source reasoning_gym:<task>")
    known = cast(dict[str, Any], fields)
    if not {"question", "answer", "metadata"} <= set(known) or not isinstance(
        known["metadata"], dict
    ):
        raise RewardError(f"the entry has {sorted(known)}, wanted question, answer and metadata")
    return _Entry(task, json.dumps(options, sort_keys=True), known)


@lru_cache(maxsize=64)
def _scorer(task: str, options: str) -> Scorer:
    datasets = import_module("reasoning_gym.factory").DATASETS
    if task not in datasets:
        raise RewardError(f"reasoning-gym has no task {task!r} here: another version of it?")
    dataset, config = datasets[task]
    try:
        return dataset(config=config(**json.loads(options))).score_answer
    except (TypeError, AssertionError, ValueError) as error:
        raise RewardError(f"task {task!r} does not take {options}: {error}") from None
