"""JSON lines -> placed rows; a bad line is refused with its place and what was found there."""

import json
from typing import Any, NoReturn, TypeAlias, cast

from protocol.errors import DataError

PlacedRows: TypeAlias = list[tuple[str, dict[str, Any]]]
"""Where a row is from, and what it holds, the prompt included."""


def parse_jsonl(spec: str, text: bytes) -> PlacedRows:
    """Rows of a file's bytes; lines of nothing but white space are passed over.

    Args:
        spec: the file's name, for places such as "train.jsonl:17".
        text: the whole file.

    Raises:
        DataError: a line is no JSON object in UTF-8.
    """
    return [
        (f"{spec}:{number}", _parse_line(f"{spec}:{number}", line))
        for number, line in enumerate(text.split(b"\n"), start=1)
        if line.strip()
    ]


def _parse_line(place: str, line: bytes) -> dict[str, Any]:
    try:
        found: object = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not UTF-8: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"{place}: found {shown(found)}, wanted a JSON object")
    return cast(dict[str, Any], found)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def shown(value: object) -> str:
    """A value as JSON, cut after 80 characters."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
