"""Rows of a run folder's JSONL files, each checked for what an audit needs of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocol.errors import ConfigError

Rows = list[dict[str, Any]]
Number = Annotated[int, Field(ge=0)]


class _Row(BaseModel):
    model_config = ConfigDict(strict=True)


class MetricsRow(_Row):
    """Of metrics.jsonl."""

    step: Annotated[int, Field(gt=0)]
    policy_version: Number
    skipped: str
    run_epoch: Annotated[int, Field(gt=0)] = 1


class EvaluationRow(_Row):
    """Of eval.jsonl."""

    step: Number
    policy_version: Number
    evaluator: str


class RolloutRow(_Row):
    """Of a file in rollouts/."""

    group: Number
    sample: Number
    attempt: Number
    prompt_id: str
    prompt: object
    actor: str
    policy_versions: Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1)]
    reward: float | None
    status: str


def read_rows(content: bytes, path: Path, kind: type[BaseModel]) -> Rows:
    """Rows of a JSONL file's bytes.

    Args:
        content: of the file.
        path: how errors name it.
        kind: what each row must have at least.

    Raises:
        ConfigError: a line that is no such row.
    """
    lines = content.split(b"\n")
    return [
        _read_row(line, f"{path}:{number}", kind)
        for number, line in enumerate(lines, start=1)
        if line or number < len(lines)
    ]


def whole_lines(content: bytes) -> bytes:
    """A file that grows without its last line, where a crash cut that short."""
    return content[: content.rfind(b"\n") + 1]


def _read_row(line: bytes, where: str, kind: type[BaseModel]) -> dict[str, Any]:
    try:
        row = json.loads(line)
        kind.model_validate(row)
    except ValidationError as error:
        raise ConfigError(f"{where} is damaged: {'; '.join(_told(error))}") from None
    except ValueError as error:
        raise ConfigError(f"{where} is damaged: no JSON: {error}") from None
    return row


def _told(error: ValidationError) -> Iterator[str]:
    for found in error.errors(include_url=False, include_input=False):
        yield f"{'.'.join(map(str, found['loc'])) or 'row'}: {found['msg']}"
