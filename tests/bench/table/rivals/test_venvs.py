"""Which Python a rival's venv is made with, and when it is made anew."""

import json
import sys
from importlib.metadata import version

import pytest

from bench.table.rivals import venvs
from bench.table.rivals.venvs import MLX_LM_LORA, STAMP, TEXTPOLICY, python_of

# pyright: reportPrivateUsage=false


def test_a_rival_runs_on_our_own_mlx():
    assert f"mlx-lm=={version('mlx-lm')}" in TEXTPOLICY.requirements()
    assert any(each.endswith(f"=={version('mlx')}") for each in TEXTPOLICY.requirements())


def test_a_python_that_is_too_old_or_does_not_run_is_passed_over(tmp_path):
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    absent = str(tmp_path / "absent")
    assert venvs._usable((3, 11), [absent, str(shim), sys.executable]) == sys.executable
    assert venvs._usable((99, 0), [sys.executable]) is None


def test_an_installed_rival_is_not_installed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MLX_RL_CACHE", str(tmp_path))
    made: list[str] = []

    def install(folder, rival):
        made.append(rival.name)
        folder.mkdir(exist_ok=True)
        (folder / STAMP).write_text(json.dumps(rival.requirements()))

    monkeypatch.setattr(venvs, "_install", install)
    python = python_of(MLX_LM_LORA)
    assert python == tmp_path / "rivals" / "mlx-lm-lora-5.10.2" / "bin" / "python"
    assert python_of(MLX_LM_LORA) == python
    assert made == ["mlx-lm-lora 5.10.2"]
    (python.parents[1] / STAMP).write_text('["mlx-lm-lora==5.10.2", "mlx==0.1"]')
    python_of(MLX_LM_LORA)  # another mlx of ours
    assert len(made) == 2


def test_without_a_python_it_says_what_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("MLX_RL_CACHE", str(tmp_path))
    monkeypatch.setattr(venvs, "_candidates", list)
    with pytest.raises(RuntimeError, match=r"textpolicy 0\.1\.11 needs Python 3\.12"):
        python_of(TEXTPOLICY)
