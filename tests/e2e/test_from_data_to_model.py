"""The tutorial's commands, in their order, as they stand there but for sizes, folders and ports."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorials" / "from_data_to_model.md"
FOLDERS = ("runs", "evals", "exported")
FEW = "reasoning_gym:basic_arithmetic?count=2&max_terms=2&max_digits=1"
SPREAD = """
import zlib

def spread(completions, **columns):
    return [zlib.crc32(text.encode()) / 2**32 for text in completions]
"""
"""A reward that differs wherever texts do: a single small batch must teach something."""
SMALL = (
    "run.max_steps=1",
    "generation.group_size=4",
    "generation.max_completion_tokens=8",
    "learner.groups_per_step=2",
    "generation.temperature=1.0",
    "evaluation.before_training=false",
    f'data.heldout=["{FEW}"]',
)


def commands() -> list[list[str]]:
    """The words of every command in a block of shell."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_its_commands_run_one_after_the_other(start, port, tmp_path):
    (tmp_path / "spread.py").write_text(SPREAD)
    ours = (
        f"network.port={port}",
        "network.http_port=0",
        f"rewards=[{{name: reasoning_gym, untagged: last_number}}, "
        f"{{name: '{tmp_path / 'spread.py'}:spread'}}]",
    )
    sizes = {
        "mlx-train": [word for each in (*SMALL, *ours) for word in ("--set", each)],
        "mlx-eval": ["--data", FEW],
        "mlx-export": [],
        "mlx_lm.generate": ["--max-tokens", "8"],
    }
    seen = []
    for words in commands():
        program, *rest = (
            str(tmp_path / word) if word.split("/")[0] in FOLDERS else word for word in words
        )
        name = Path(program).name
        run = start(Path(sys.executable).with_name(name), *rest, *sizes[name])
        run.succeeds(seconds=180)
        seen.append((name, run.stdout))
    assert [name for name, _ in seen] == ["mlx-train", *sizes]  # the dry run, then each once
    assert json.loads((tmp_path / "runs/basic_arithmetic/metrics.jsonl").read_text())["step"] == 1
    assert "p = " in seen[2][1] or "p-value" in seen[2][1]
    assert (tmp_path / "exported/basic_arithmetic/model.safetensors").is_file()
    assert "==========" in seen[4][1]
