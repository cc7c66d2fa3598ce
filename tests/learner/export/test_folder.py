import errno
import json
import os
from functools import partial
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.utils import make_shards, save_model

from learner.export.command import export
from learner.export.folder import make_folder, write_arrays, write_model
from protocol.errors import ConfigError

EXPORT = "---\ntags:\n- mlx\n- mlx-rl-trainer\n---\n\n# mine\n"


def write(text):
    return lambda folder: (folder / "README.md").write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_existing_folder_is_replaced_only_by_force_and_only_an_export(tmp_path):
    out = tmp_path / "new" / "out"
    make_folder(out, write(EXPORT), force=False)
    with pytest.raises(ConfigError, match="exists: choose another folder with --out, or"):
        make_folder(out, write("second"), force=False)
    assert (out / "README.md").read_text() == EXPORT
    make_folder(out, write("second"), force=True)
    assert (out / "README.md").read_text() == "second"
    with pytest.raises(ConfigError, match="no folder of mlx-export"):
        make_folder(out, write("third"), force=True)
    (tmp_path / "empty").mkdir()
    make_folder(tmp_path / "empty", write(EXPORT), force=True)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(out)
    for name in ("file", "link"):
        with pytest.raises(ConfigError, match="is no folder"):
            make_folder(tmp_path / name, write(EXPORT), force=True)
    assert names(tmp_path) == ["empty", "file", "link", "new"]
    assert names(out.parent) == ["out"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyError("x")])
def test_what_fails_halfway_leaves_nothing_and_the_old_one(tmp_path, error):
    out = tmp_path / "out"
    make_folder(out, write(EXPORT), force=False)

    def fails(folder):
        (folder / "model.safetensors").write_text("half")
        raise error

    wanted = ConfigError if isinstance(error, OSError) else KeyError
    with pytest.raises(wanted) as raised:
        make_folder(out, fails, force=True)
    if wanted is ConfigError:
        assert "No space left on device" in str(raised.value)
        assert "bytes are free there" in str(raised.value)
    assert names(tmp_path) == ["out"]
    assert (out / "README.md").read_text() == EXPORT


def test_what_a_killed_export_left_is_cleared_away(tmp_path):
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp" / "half").write_text("")
    make_folder(tmp_path / "out", write(EXPORT), force=False)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["README.md"]


def test_a_place_that_cannot_be_written_is_the_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*/file/out: .* File exists"):
        make_folder(tmp_path / "file" / "out", write(EXPORT), force=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_is_told_as_such(tmp_path, monkeypatch):
    opened = os.open
    monkeypatch.setattr(os, "open", lambda _path, _flags, _mode: opened("/dev/full", os.O_WRONLY))
    with pytest.raises(OSError, match="No space left on device"):
        write_arrays(tmp_path / "file", {"x": mx.zeros((4,))})


def test_large_models_are_cut_into_files_as_mlx_lm_does(tmp_path, monkeypatch):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(8, 4), nn.Linear(4, 2)

    model = Two()
    cut = partial(make_shards, max_file_size_gb=0)  # every tensor into a file of its own
    for module in ("mlx_lm.utils", "learner.export.folder"):
        monkeypatch.setattr(f"{module}.make_shards", cut)
    (tmp_path / "ours").mkdir()
    write_model(tmp_path / "ours", model, {"model_type": "two", "_name_or_path": "/home/ann"})
    save_model(tmp_path / "theirs", model)
    assert names(tmp_path / "ours") == sorted([*names(tmp_path / "theirs"), "config.json"])
    index = "model.safetensors.index.json"
    ours, theirs = (json.loads((tmp_path / who / index).read_text()) for who in ("ours", "theirs"))
    assert ours == theirs
    assert len(set(ours["weight_map"].values())) == 4
    for name, file in ours["weight_map"].items():
        found, wanted = (mx.load(str(tmp_path / who / file)) for who in ("ours", "theirs"))
        assert mx.array_equal(found[name], wanted[name])
    assert json.loads((tmp_path / "ours/config.json").read_text()) == {"model_type": "two"}


def test_a_model_folder_has_the_models_own_files_and_none_of_the_trainers(full_run, tmp_path):
    checkpoint = full_run / "checkpoints/step_000004"
    out = tmp_path / "out"
    assert export([str(full_run), "--out", str(out)]) == 0
    trainers = {"trainer.json", "trainer.safetensors", "groups.msgpack", "manifest.json"}
    made = {"README.md", "curve.svg", "model.safetensors.index.json"}
    assert {*names(out)} == {*names(checkpoint)} - trainers | made
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (checkpoint / name).read_bytes()
