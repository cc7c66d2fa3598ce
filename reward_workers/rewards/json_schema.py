"""1 where the completion is JSON that fits a JSON Schema."""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NoReturn, Protocol, cast

from protocol.errors import ConfigError, RewardError
from reward_workers.code_blocks import answer_part, last_block
from reward_workers.registry import checked_by, reward, values_of

MAX_JSON = 200_000
"""Characters; more is no answer."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Validator(Protocol):
    """What is used of jsonschema's validators."""

    def is_valid(self, instance: object) -> bool:
        """Whether an instance fits the schema."""
        ...


def _check(schema: dict[str, Any] | None = None, schema_column: str | None = None) -> None:
    if (schema is None) == (schema_column is None):
        raise ConfigError("set one of the parameters schema and schema_column")
    if find_spec("jsonschema") is None:
        raise ConfigError("it needs the package jsonschema: pip install -e '.[rewards]'")
    if schema is not None:
        make_validator(json.dumps(schema))


@reward("json_schema")
@checked_by(_check)
def json_schema(
    completions: list[str],
    *,
    schema: dict[str, Any] | None = None,
    schema_column: str | None = None,
    **columns: list[object],
) -> list[float | None]:
    """1.0 where the completion's JSON fits the schema, else 0.0.

    The JSON is the last fenced block that says JSON (or does not say what it is), or the whole
    completion where there is no such block; thinking up to `</think>` is passed over. JSON is read
    strictly: no NaN, no key twice in one object. `format` is not checked, as the draft has it.

    Args:
        completions: the sampled texts.
        schema: the schema (draft 2020-12) for all prompts.
        schema_column: data column with each prompt's schema, as an object or as JSON text.
        **columns: the data row's columns.

    Returns:
        None where the row's schema is null.

    Raises:
        RewardError: no such column, or a schema in it that cannot be used.
    """
    schemas = [schema] * len(completions)
    if schema_column is not None:
        schemas = values_of(schema_column, columns)
    return [
        None if wanted is None else _fits(completion, wanted)
        for completion, wanted in zip(completions, schemas, strict=True)
    ]


@lru_cache(maxsize=256)
def make_validator(schema_text: str) -> Validator:
    """Validator of a schema given as JSON text; it never fetches anything.

    Raises:
        ConfigError: no schema of draft 2020-12, or one that refers beyond itself or without end.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    schema = json.loads(schema_text)
    try:
        Draft202012Validator.check_schema(
            schema, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        _refuse_foreign(schema)
        validator = Draft202012Validator(schema, registry=Registry())
        validator.is_valid(None)
    except SchemaError as error:
        where = "/".join(str(step) for step in error.absolute_path) or "its top"
        raise ConfigError(f"the schema is not valid at {where}: {error.message[:200]}") from None
    except Unresolvable as error:
        raise ConfigError(f"the schema refers to {error.ref!r}, which it does not hold") from None
    except RecursionError:
        raise ConfigError("the schema refers to itself without end") from None
    except re.error as error:
        raise ConfigError(f"the schema has a bad pattern: {error}") from None
    return cast(Validator, validator)


def _fits(completion: str, schema: object) -> float:
    try:
        text = schema if isinstance(schema, str) else json.dumps(schema)
        validator = make_validator(text)
    except (ConfigError, ValueError) as error:
        raise RewardError(f"the row's schema: {error}") from None
    try:
        instance = parse_json(completion)
        return float(validator.is_valid(instance))
    except (ValueError, RecursionError):
        return 0.0


def parse_json(completion: str) -> object:
    """JSON value of a completion, read strictly.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deep.
    """
    text = answer_part(completion)
    block = last_block(text, "json")
    text = text if block is None else block.code
    if len(text) > MAX_JSON:
        raise ValueError("too long")
    return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _refuse_foreign(schema: object) -> None:
    held = {str(found).rstrip("#") for found in _values(schema, "$id")}
    for name in ("$ref", "$dynamicRef"):
        for found in _values(schema, name):
            if isinstance(found, str) and found.partition("#")[0] not in {"", *held}:
                raise ConfigError(
                    f"the schema refers to {found!r}, which it does not hold: nothing is fetched, "
                    "put it under $defs"
                )
    for found in _values(schema, "$schema"):
        if isinstance(found, str) and found.rstrip("#") != DIALECT:
            raise ConfigError(f"the schema is of {found!r}, wanted {DIALECT}")


def _values(schema: object, name: str) -> Iterator[object]:
    """All values that stand under a name, at any depth."""
    waiting: list[object] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            for key, value in cast(dict[str, object], part).items():
                if key == name:
                    yield value
                waiting.append(value)
        elif isinstance(part, list):
            waiting.extend(cast(list[object], part))
