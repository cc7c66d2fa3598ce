"""The config schema as a Markdown table: `python -m protocol.config_docs > docs/config.md`."""

import sys
from collections.abc import Iterator
from typing import cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from protocol.config import RunConfig
from protocol.config_section import PluginConfig, Section

_HEAD = """\
# Config

Made from the schema in protocol/config*.py by `python -m protocol.config_docs > docs/config.md`.
Precedence: defaults < file < `--set a.b=c`. An unknown key is refused.

| key | default | meaning |
|---|---|---|
"""


def config_markdown() -> str:
    """Table of every key with its default and its meaning."""
    return _HEAD + "".join(
        f"| `{key}` | {_default(field)} | {_meaning(field)} |\n"
        for key, field in _fields(RunConfig)
    )


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        below = field.annotation
        if isinstance(below, type) and issubclass(below, Section):
            yield from _fields(below, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    default = field.default
    if isinstance(default, tuple):
        shown = (_shown(item) for item in cast("tuple[object, ...]", default))
        return f"`[{', '.join(shown)}]`"
    return f"`{_shown(default)}`"


def _shown(value: object) -> str:
    return f"{{name: {value.name}}}" if isinstance(value, PluginConfig) else str(value)


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(config_markdown())
