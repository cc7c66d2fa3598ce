import hashlib
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from protocol import smollm2
from protocol.errors import ConfigError

MODEL = b"a tiny stand-in for the GGUF"


def write_wheel(path: Path, member: str = smollm2.GGUF, content: bytes = MODEL) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)


def fake_convert(gguf: Path, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(gguf.read_bytes()[::-1])
    digest = smollm2.sha256_of(folder / "model.safetensors")
    manifest = {"identity": smollm2.identity(), "files": {"model.safetensors": digest}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache that holds a tiny wheel, whose digest is the wanted one; pip is out of reach."""
    monkeypatch.setattr(smollm2, "GGUF_SHA256", hashlib.sha256(MODEL).hexdigest())
    monkeypatch.setattr(smollm2, "convert", fake_convert)
    monkeypatch.setattr(smollm2.subprocess, "run", refuse_to_download)
    write_wheel(tmp_path / smollm2.WHEEL)
    return tmp_path


def refuse_to_download(command, **_):
    return subprocess.CompletedProcess(command, 1, stdout="", stderr="hm\nno index reached\n")


def test_a_wheel_in_the_cache_is_converted_once_without_pip(cache):
    folder = smollm2.smollm2_folder(cache)
    assert smollm2.is_intact(folder)
    written = (folder / "model.safetensors").stat().st_ino
    assert smollm2.smollm2_folder(cache) == folder
    assert (folder / "model.safetensors").stat().st_ino == written
    assert {path.name for path in cache.iterdir()} == {
        folder.name,
        "smollm2.lock",
        smollm2.WHEEL,
    }


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"x" + MODEL[::-1][1:]),
        lambda folder: os.truncate(folder / "model.safetensors", 3),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("[1]"),
        lambda folder: (folder / "manifest.json").write_text('{"identity": '),
    ],
)
def test_a_damaged_folder_is_noticed_and_made_anew(cache, damage):
    folder = smollm2.smollm2_folder(cache)
    damage(folder)
    assert not smollm2.is_intact(folder)
    assert smollm2.is_intact(smollm2.smollm2_folder(cache))
    assert (folder / "model.safetensors").read_bytes() == MODEL[::-1]


def test_a_folder_of_an_older_converter_is_made_anew(cache, monkeypatch):
    folder = smollm2.smollm2_folder(cache)
    monkeypatch.setattr(smollm2, "CONVERTER_VERSION", smollm2.CONVERTER_VERSION + 1)
    assert not smollm2.is_intact(folder)
    assert smollm2.is_intact(smollm2.smollm2_folder(cache))


def test_what_a_killed_process_left_behind_is_cleared_away(cache):
    leftover = cache / ".smollm2-work" / "model" / "half.safetensors"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    assert [path.name for path in sorted(smollm2.smollm2_folder(cache).iterdir())] == [
        "manifest.json",
        "model.safetensors",
    ]
    assert not leftover.exists()


def test_a_model_with_another_digest_is_refused_and_leaves_no_folder(cache):
    write_wheel(cache / smollm2.WHEEL, content=b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(ConfigError, match=f"SHA-256 {found}, wanted {smollm2.GGUF_SHA256}"):
        smollm2.smollm2_folder(cache)
    assert not (cache / "smollm2-135m-instruct").exists()


def test_a_file_that_is_no_wheel_of_this_model_is_refused(cache):
    write_wheel(cache / smollm2.WHEEL, member="other.gguf")
    with pytest.raises(ConfigError, match="no wheel that holds"):
        smollm2.smollm2_folder(cache)
    (cache / smollm2.WHEEL).write_bytes(b"not a zip")
    with pytest.raises(ConfigError, match="no wheel that holds"):
        smollm2.smollm2_folder(cache)


def test_without_network_and_copy_the_error_says_where_to_put_one(cache):
    (cache / smollm2.WHEEL).unlink()
    with pytest.raises(ConfigError, match="no index reached") as caught:
        smollm2.smollm2_folder(cache)
    assert f"put {smollm2.WHEEL} at {cache / smollm2.WHEEL}" in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="MLX_RL_CACHE"):
        smollm2.smollm2_folder(tmp_path / "file" / "cache")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("MLX_RL_CACHE", str(tmp_path))
    assert smollm2.default_cache() == tmp_path
    monkeypatch.delenv("MLX_RL_CACHE")
    assert smollm2.default_cache() == Path.home() / ".cache/mlx-rl-trainer/models"
