"""What a card may say: a config without the machine and the person that it was run by."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protocol.config import RunConfig
from protocol.model_folder import BUILTIN

_PRIVATE_SECTIONS = ("roles", "network", "metal", "report_to", "reward_worker", "sandbox")
"""About machines and accounts, not about training."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_INNER_PATH = re.compile(r"(?<=[\s:=,;'\"(\[])(?:file://)?(?:~[^/\s]*|\.\.)?(?:/[^\s:,;?&'\"/]+)+")
_WHOLE_PATH = re.compile(r"(?:file://)?(?:/|~|\.\.?/)")


def public_config(config: RunConfig) -> dict[str, Any]:
    """The sections that say how a policy was trained, every local path cut to its file's name."""
    tree = config.model_dump(mode="json")
    return _public({key: tree[key] for key in tree if key not in _PRIVATE_SECTIONS})


def public_text(text: str) -> str:
    """A text without folders of this machine; relative paths, Hub ids and URLs stay."""
    if _WHOLE_PATH.match(text):
        path, mark, query = text.partition("?")
        text = (path.rstrip("/").rpartition("/")[2] or "folder") + mark + query
    return _INNER_PATH.sub(lambda found: found[0].rpartition("/")[2], text)


def hub_id(path: str) -> str | None:
    """The id on the Hub that a model.path is, or None for all else."""
    return path if _HUB_ID.fullmatch(path) and not Path(path).exists() else None


def base_argument(path: str) -> str:
    """How the card's commands name the base model."""
    scheme, colon, name = path.partition(":")
    if colon and scheme == "builtin":
        return f"protocol/{BUILTIN.name}/{name}"
    if colon and scheme == "pypi":
        return "~/.cache/mlx-rl-trainer/models/smollm2-135m-instruct"
    return hub_id(path) or f"path/to/{public_text(path).rpartition('/')[2]}"


def _public(value: Any) -> Any:  # noqa: ANN401 - any config value
    if isinstance(value, str):
        return public_text(value)
    if isinstance(value, Mapping):
        return {public_text(str(key)): _public(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_public(item) for item in value]
    return value
