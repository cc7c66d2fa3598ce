"""A row as a file has it -> as the run wants it: columns renamed, the prompt made of a template."""

import json
from collections.abc import Mapping
from typing import Any

from protocol.config_data import SourceConfig
from protocol.errors import DataError

PROMPT = "prompt"


def shaped(
    place: str, row: Mapping[str, Any], source: SourceConfig, prompt_column: str
) -> tuple[dict[str, Any], str]:
    """Rename a row's columns and fill the template.

    Args:
        place: of the row, for messages.
        row: its columns.
        source: with `columns` and `template`.
        prompt_column: where neither of these says what the prompt is.

    Returns:
        The row, and which of its columns is the prompt.

    Raises:
        DataError: a column is missing, or two would have one name.
    """
    found = _renamed(place, row, source.columns)
    if source.template:
        found[PROMPT] = _filled(place, source.template, found)
    made = source.template or PROMPT in source.columns
    return found, PROMPT if made else prompt_column


def _renamed(place: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    for new, old in columns.items():
        if old not in row:
            raise DataError(
                f"{place}: no column {old!r} for {new!r}, found {', '.join(row) or 'none'}"
            )
    taken = set(columns.values())
    kept = {name: value for name, value in row.items() if name not in taken}
    for new, old in columns.items():
        if new in kept:
            raise DataError(
                f"{place}: columns takes {new!r} from {old!r}, but the row has a column {new!r} of "
                f"its own: rename that one too, such as {new}_before: {new}"
            )
    return kept | {new: row[old] for new, old in columns.items()}


def _filled(place: str, template: str, row: Mapping[str, Any]) -> str:
    texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in row.items()}
    try:
        return template.format_map(texts)
    except KeyError as error:
        found = ", ".join(row) or "none"
        raise DataError(f"{place}: the template wants column {error}, found {found}") from None
