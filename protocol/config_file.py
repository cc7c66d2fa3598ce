"""YAML -> RunConfig and back, with errors in one sentence.

Precedence: defaults < file < `--set a.b=c`. Choosing another `name` of a plug-in by `--set`
replaces its whole section.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError
from typing_extensions import override

from protocol.config import RunConfig
from protocol.errors import ConfigError

MAX_FOUND = 100
"""Longer values are not repeated in an error."""


class _RepeatedKeyError(Exception):
    """A key that stands twice in one section; YAML itself would forget the first."""


class _Loader(yaml.SafeLoader):
    """YAML of plain values whose keys stand once."""

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                line = key.start_mark.line + 1
                raise _RepeatedKeyError(
                    f"{key.value} stands twice, again in line {line}: merge the two"
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_WANTED = {
    "tuple_type": "wanted a list, such as [a, b]",
    "too_short": "wanted at least one entry",
    "model_type": "wanted a section of keys",
    "dict_type": "wanted a section of keys",
}
"""Kinds of validation errors in a user's words."""


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a YAML file, apply `a.b=c` overrides, validate.

    Raises:
        ConfigError: no such file, no YAML mapping, an unknown key, a value of the wrong type or out
            of bounds; one sentence that names it.
    """
    return validated(_read_yaml(Path(path)), overrides, str(path))


def validated(
    tree: dict[str, Any], overrides: Iterable[str] = (), place: str = "the config"
) -> RunConfig:
    """Config of a tree of sections, after `a.b=c` overrides, which change the tree.

    Raises:
        ConfigError: as for `load_config`; it begins with `place`.
    """
    for setting in overrides:
        _apply(tree, setting)
    try:
        config = RunConfig.model_validate(tree)
        config.model_dump_json()  # peers get it so
    except ValidationError as error:
        raise ConfigError(f"{place}: {_sentence(error)}") from None
    except PydanticSerializationError as error:
        raise ConfigError(f"{place}: a text in it is no Unicode: {error}") from None
    return config


def dump_config(config: RunConfig) -> str:
    """YAML that `load_config` reads back to the same config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree: object = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - safe
    except _RepeatedKeyError as error:
        raise ConfigError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise ConfigError(f"no config file {path}: give --config a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read config file {path}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2020-99-99
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        raise ConfigError(f"{path} is empty: wanted sections such as `run:`")
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds {type(tree).__name__}, wanted sections such as `run:`")
    return cast(dict[str, Any], tree)


def _apply(tree: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not all(dotted.split(".")):
        raise ConfigError(f"--set {override!r}: wanted section.key=value")
    *parents, key = dotted.split(".")
    for parent in parents:
        below = tree.get(parent)
        if below is None:
            below = tree[parent] = {}
        if not isinstance(below, dict):
            raise ConfigError(f"--set {override!r}: {parent} is no section")
        tree = cast(dict[str, Any], below)
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"--set {override!r}: {text!r} is no YAML value") from None
    if key == "name" and "name" in tree and tree["name"] != value and parents[-1:] != ["run"]:
        tree.clear()  # another plug-in: the old one's parameters do not apply
    tree[key] = value


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = get_close_matches(str(first["loc"][-1]), _keys(first["loc"][:-1]), n=1)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"known are {', '.join(_keys(first['loc'][:-1]))}"
        )
        return f"unknown key {where}: {hint}"
    if first["type"] == "missing":
        return f"{where} is missing"
    message = _WANTED.get(first["type"], first["msg"].removeprefix("Value error, "))
    found = f"{first['input']!r}"
    if not where:  # of several sections together
        return message
    return f"{where}: {message}" + (f" (found {found})" if len(found) <= MAX_FOUND else "")


def _keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = RunConfig
    for part in location:
        field = model.model_fields.get(str(part))
        below = field.annotation if field else None
        if not (isinstance(below, type) and issubclass(below, BaseModel)):
            return []
        model = below
    return list(model.model_fields)
