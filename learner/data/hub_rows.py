"""Rows of a data set of the Hugging Face Hub: files in JSON lines, or parquet.

`hub:openai/gsm8k?config=main&split=train` reads the files that the Hub's naming gives that split:
`main/train-*`, `main/train.*`, `data/train-*`, `train.*` and the like. They are fetched once a
machine into the Hub's cache. Parquet is read with pyarrow alone: the package `datasets`, which
brings it, would add pandas, a cache of its own, and code of the data set's.
"""

import json
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from learner.data.jsonl import PlacedRows, parse_jsonl
from protocol.errors import DataError
from protocol.hub_dataset import fetch_dataset

SUFFIXES = (".jsonl", ".parquet")
OPTIONS = ("split", "config", "revision")


def hub_rows(spec: str, repo: str, options: Mapping[str, str]) -> PlacedRows:
    """All rows of one split, in the order of its files.

    Args:
        spec: the source as the config names it, for messages.
        repo: `owner/name`.
        options: `split`, and perhaps `config` (the Hub's word for a variant) and `revision`.

    Returns:
        Places such as "hub:openai/gsm8k/main/train:17", and rows as the files have them.

    Raises:
        DataError: an option is missing or unknown, there is no such data set or split, or a file
            cannot be read.
    """
    split, config = options.get("split", ""), options.get("config", "")
    if not repo or not split or set(options) - set(OPTIONS):
        raise DataError(
            f"source {spec!r}: wanted hub:<owner>/<name>?split=train, perhaps with &config=... and "
            "&revision=..."
        )
    names = patterns(split, config)
    folder = fetch_dataset(repo, options.get("revision", ""), names)
    files = sorted({path for name in names for path in folder.glob(name)})
    if not files:
        kinds = " or ".join(SUFFIXES)
        raise DataError(
            f"source {spec!r}: the data set has no file {', '.join(names[:2])} ... in {kinds}: "
            "look at its files on the Hub for the names of split and config"
        )
    place = "/".join(part for part in (f"hub:{repo}", config, split) if part)
    rows = [row for path in files for row in _read(spec, path)]
    return [(f"{place}:{number}", row) for number, row in enumerate(rows, start=1)]


def patterns(split: str, config: str) -> list[str]:
    """Where the Hub's naming puts the files of a split, as globs."""
    folders = [f"{config}/"] if config else ["", "data/"]
    ends = [f"{end}{suffix}" for suffix in SUFFIXES for end in ("", "-*")]
    return [f"{folder}{split}{end}" for folder in folders for end in ends]


def _read(spec: str, path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [row for _, row in parse_jsonl(path.name, path.read_bytes())]
    if find_spec("pyarrow") is None:
        raise DataError(
            f"source {spec!r}: {path.name} is parquet, which needs the package pyarrow: "
            "pip install -e '.[parquet]'"
        )
    parquet: Any = import_module("pyarrow.parquet")
    try:
        rows = cast(list[dict[str, Any]], parquet.read_table(path).to_pylist())
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise DataError(f"source {spec!r}: {path.name} cannot be read: {error}") from None
    for number, row in enumerate(rows, start=1):
        for name, value in row.items():
            _refuse_what_json_has_not(f"{spec}: {path.name} row {number}", name, value)
    return rows


def _refuse_what_json_has_not(place: str, name: str, value: object) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise DataError(
            f"{place}: column {name!r} holds a {type(value).__name__}, which JSON does not have: "
            "make a JSONL file of the columns that the run needs"
        ) from None
