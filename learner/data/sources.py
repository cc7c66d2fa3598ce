"""A source of prompts -> rows: a JSONL file, or one of the sources that `SOURCES` names.

A bad row is refused with its file and line and with what was found there; no row is ever skipped
in silence. Only lines of nothing but white space are passed over.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import parse_qsl

import aiofiles

from learner.data.arithmetic import arithmetic_rows, max_rows
from learner.data.code_tasks import code_task_rows
from learner.data.hub_rows import hub_rows
from learner.data.human_eval import human_eval_rows
from learner.data.jsonl import PlacedRows, parse_jsonl, shown
from learner.data.reasoning_rows import reasoning_rows
from learner.data.shaping import shaped
from protocol.config_data import Source, as_source
from protocol.errors import DataError
from protocol.fields import MAX_TEXT

Split = Literal["train", "heldout"]
Prompt: TypeAlias = str | list[dict[str, str]]
"""A string, or chat messages of `role` and `content`."""

CHAT_ROLES = ("system", "user", "assistant", "tool")
HELDOUT_SEED = 0
"""Held-out rows that are made are the same in every run, so that runs of other seeds compare."""


@dataclass(frozen=True)
class Row:
    """One prompt and what its source says of it."""

    prompt_id: str
    """Source and line, such as "train.jsonl:17"; stable for as long as the source is."""
    prompt: Prompt
    columns: dict[str, Any]
    """All other columns, for the reward functions."""
    source: int = 0
    """Place of its source in `data.train` or `data.heldout`."""


async def read_source(given: Source, split: Split, prompt_column: str, seed: int = 0) -> list[Row]:
    """Read all rows of one source, in its order.

    Args:
        given: a JSONL path, `arithmetic:<task>?count=N` (without a count: every row),
            `reasoning_gym:<task>?count=N&<option>=<value>...`, `human_eval?chat=1&count=N`, or
            `hub:<owner>/<name>?split=train`; or one of these with columns, a template or a count.
        split: which side of a generated task; a file and HumanEval are whole on the side that
            names them.
        prompt_column: the column that holds the prompt in a file, or a data set of the Hub.
        seed: chooses training rows of a generated task.

    Raises:
        DataError: the source is missing, empty or has a bad row; the message names the place.
    """
    source = as_source(given)
    spec = source.source
    name, _, query = spec.partition("?")
    kind, _, task = name.partition(":")
    if kind in SOURCES:
        make = SOURCES[kind]
        options = dict(parse_qsl(query, keep_blank_values=True))
        seed = seed if split == "train" else HELDOUT_SEED
        placed = await asyncio.to_thread(make, spec, task, options, split, seed)
        prompt_column = prompt_column if kind == "hub" else "prompt"
    else:
        placed = await _read_jsonl(spec)
    if not placed:
        raise DataError(f"{spec} holds no rows, wanted at least one")
    if source.count is not None and len(placed) < source.count:
        raise DataError(f"{spec} holds {len(placed)} rows, count asks for {source.count} of them")
    made = placed[: source.count]
    return await asyncio.to_thread(
        lambda: [_row(place, *shaped(place, row, source, prompt_column)) for place, row in made]
    )


def _arithmetic(
    spec: str, task: str, options: Mapping[str, str], split: Split, seed: int
) -> PlacedRows:
    count = options.get("count")
    if set(options) - {"count"} or not (count is None or count.isdecimal()):
        raise DataError(f"source {spec!r}: wanted arithmetic:<task> or arithmetic:<task>?count=N")
    number = max_rows(task, split) if count is None else int(count)
    drawn = arithmetic_rows(task, split, number, seed)
    return [(f"arithmetic:{task}/{split}:{line}", row) for line, row in enumerate(drawn, start=1)]


def _human_eval(
    spec: str, task: str, options: Mapping[str, str], split: Split, seed: int
) -> PlacedRows:
    if task:
        raise DataError(f"source {spec!r}: wanted human_eval or human_eval?count=N&chat=1")
    return human_eval_rows(spec, options)


def _code_tasks(
    spec: str, task: str, options: Mapping[str, str], split: Split, seed: int
) -> PlacedRows:
    if task:
        raise DataError(f"source {spec!r}: wanted code_tasks or code_tasks?count=N")
    return code_task_rows(spec, options, split, seed)


def _hub(spec: str, task: str, options: Mapping[str, str], split: Split, seed: int) -> PlacedRows:
    return hub_rows(spec, task, options)


SOURCES: dict[str, Callable[[str, str, Mapping[str, str], Split, int], PlacedRows]] = {
    "arithmetic": _arithmetic,
    "code_tasks": _code_tasks,
    "hub": _hub,
    "human_eval": _human_eval,
    "reasoning_gym": reasoning_rows,
}
"""Source, task, options, split and seed -> rows, by what stands before the colon."""


async def _read_jsonl(spec: str) -> PlacedRows:
    try:
        async with aiofiles.open(spec, "rb") as file:
            text = await file.read()
    except FileNotFoundError:
        raise DataError(f"no data file {spec}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read data file {spec}: {error}") from None
    return await asyncio.to_thread(parse_jsonl, spec, text)


def _row(place: str, found: dict[str, Any], prompt_column: str) -> Row:
    if prompt_column not in found:
        columns = ", ".join(found) or "none"
        raise DataError(f"{place}: no column {prompt_column!r}, found {columns}")
    columns = {name: value for name, value in found.items() if name != prompt_column}
    if len(json.dumps(columns)) > MAX_TEXT:
        raise DataError(f"{place}: columns of more than {MAX_TEXT} characters")
    return Row(place, _prompt(place, found[prompt_column]), columns)


def _prompt(place: str, found: object) -> Prompt:
    if isinstance(found, list) and found:
        return [_chat_message(f"{place}: message {i}", m) for i, m in enumerate(found, start=1)]
    if not isinstance(found, str):
        wanted = "a string or a list of chat messages"
        raise DataError(f"{place}: the prompt is {shown(found)}, wanted {wanted}")
    return _text(f"{place}: the prompt", found)


def _chat_message(place: str, found: object) -> dict[str, str]:
    if not isinstance(found, dict) or set(found) != {"role", "content"}:
        raise DataError(f'{place} is {shown(found)}, wanted {{"role": ..., "content": ...}}')
    message = cast(dict[str, Any], found)
    if message["role"] not in CHAT_ROLES:
        roles = ", ".join(CHAT_ROLES)
        raise DataError(f"{place} has the role {shown(message['role'])}, wanted one of: {roles}")
    return {"role": message["role"], "content": _text(f"{place}: its content", message["content"])}


def _text(place: str, found: object) -> str:
    if not isinstance(found, str) or not found.strip():
        raise DataError(f"{place} is {shown(found)}, wanted a string that is not empty")
    try:
        found.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{place} has half a surrogate pair, which is no character") from None
    return found
