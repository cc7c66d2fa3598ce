"""One rollout with all its tokens, its group, and what stands before and after it."""

import math
from collections.abc import Iterator
from itertools import islice, repeat
from typing import Any

from learner.run_page.json_values import as_number, as_whole, shown_text
from learner.run_page.query import not_found
from learner.run_page.rollout_files import RolloutFiles
from learner.run_page.rollout_rows import MAX_SHOWN, Row, light_row, mean_advantage, read_row
from learner.run_page.rollout_tokens import TokenTexts

MAX_GROUP_ROWS = 512
_ARRAYS = ("token_ids", "behaviour_logprobs", "logprobs", "policy_versions")


def one_rollout(
    files: RolloutFiles, texts: TokenTexts, model_path: str, step: int, line: int
) -> dict[str, Any]:
    """What /api/rollout says.

    Args:
        files: the run's rollouts.
        texts: the run's tokenizer.
        model_path: of the config.
        step: of the batch.
        line: in the step's file, from 0.

    Raises:
        RequestError: there is no such rollout, or its line is damaged.
    """
    data = files.line(step, line)
    if data is None:
        raise not_found(f"there is no rollout in line {line} of step {step}")
    row = read_row(data)
    if row is None:
        raise not_found(f"line {line} of step {step} is damaged: it holds no JSON object")
    prompt = row.get("prompt")
    return {
        **{key: value for key, value in row.items() if key not in _ARRAYS},
        "step": step,
        "line": line,
        "prompt": shown_text(prompt),
        "messages": prompt if isinstance(prompt, list) else None,
        "completion": shown_text(row.get("completion")),
        "rewards": row.get("rewards") if isinstance(row.get("rewards"), dict) else {},
        "facts": row.get("facts") if isinstance(row.get("facts"), dict) else {},
        "reward": as_number(row.get("reward")),
        "advantage": mean_advantage(row),
        "num_tokens": len(_list(row, "token_ids")),
        "tokens": list(_tokens(row, texts.texts(_list(row, "token_ids"), model_path))),
        "neighbours": _neighbours(files, step, line),
        "group_rows": _group_rows(files, step, line, row.get("group")),
    }


def _tokens(row: Row, texts: list[str | None]) -> Iterator[Row]:
    """One object a token; what the row does not say of it is null."""
    advantage = row.get("advantage")
    each = iter(advantage) if isinstance(advantage, list) else repeat(advantage)
    behaviour, current = _list(row, "behaviour_logprobs"), _list(row, "logprobs")
    versions = _versions(row)
    for index, token_id in enumerate(_list(row, "token_ids")):
        before, now = _at(behaviour, index), _at(current, index)
        yield {
            "text": texts[index],
            "id": as_whole(token_id),
            "behaviour_logprob": before,
            "logprob": now,
            "importance_ratio": _ratio(before, now),
            "advantage": as_number(next(each, None)),
            "policy_version": next(versions, None),
        }


def _ratio(before: float | None, now: float | None) -> float | None:
    if before is None or now is None:
        return None
    return math.exp(now - before) if now - before < 700.0 else None  # a float ends at exp(709)


def _versions(row: Row) -> Iterator[int]:
    """The policy version of each token, from runs of (version, number of tokens)."""
    for run in _list(row, "policy_versions"):
        if isinstance(run, list) and len(run) == 2 and all(as_whole(n) is not None for n in run):
            yield from islice(repeat(run[0]), max(run[1], 0))


def _list(row: Row, key: str) -> list[Any]:
    value = row.get(key)
    return value if isinstance(value, list) else []


def _at(values: list[Any], index: int) -> float | None:
    return as_number(values[index]) if index < len(values) else None


def _neighbours(files: RolloutFiles, step: int, line: int) -> dict[str, Any]:
    """The rollouts before and after, in the order of the list: newest step first, then by line."""
    steps = files.steps()
    newer = next((s for s in steps if s > step and files.num_lines(s)), None)
    older = next((s for s in reversed(steps) if s < step and files.num_lines(s)), None)
    previous: dict[str, int] | None = None
    following: dict[str, int] | None = None
    if line:
        previous = {"step": step, "line": line - 1}
    elif newer is not None:
        previous = {"step": newer, "line": files.num_lines(newer) - 1}
    if line + 1 < files.num_lines(step):
        following = {"step": step, "line": line + 1}
    elif older is not None:
        following = {"step": older, "line": 0}
    return {"previous": previous, "next": following}


def _group_rows(files: RolloutFiles, step: int, line: int, group: object) -> list[Row]:
    """All rollouts of a group; they stand together in their file, as a batch holds whole groups."""
    first = line
    while first > max(line - MAX_GROUP_ROWS, 0) and _is_of(files.line(step, first - 1), group):
        first -= 1
    rows: list[Row] = []
    for number, data in islice(files.lines(step, first), MAX_GROUP_ROWS):
        row = light_row(data)
        if row is None or row.get("group") != group:
            break
        rows.append(
            {
                "line": number,
                "sample": as_whole(row.get("sample")),
                "reward": as_number(row.get("reward")),
                "advantage": mean_advantage(row),
                "completion": shown_text(row.get("completion"))[:MAX_SHOWN],
            }
        )
    return rows


def _is_of(data: bytes | None, group: object) -> bool:
    row = None if data is None else light_row(data)
    return row is not None and row.get("group") == group
