import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Row = dict[str, Any]


def make_row(group: int = 0, sample: int = 0, **changes: Any) -> Row:
    """A rollout as learner/records.py writes it, in its order."""
    row: Row = {
        "group": group,
        "prompt_id": f"data/train:{group}",
        "sample": sample,
        "attempt": 1,
        "actor": "actor-a",
        "prompt": "80+91=",
        "completion": "171",
        "token_ids": [7, 13, 7, 5],
        "behaviour_logprobs": [-0.5, -0.25, -1.0, -2.0],
        "logprobs": [-0.5, -0.5, -1.0, -1.0],
        "rewards": {"exact_match": 1.0},
        "reward": 1.0,
        "advantage": 0.5,
        "policy_versions": [[3, 2], [4, 2]],
        "finish_reason": "stop",
        "status": "ok",
    }
    return {**row, **changes}


@pytest.fixture
def row() -> Callable[..., Row]:
    return make_row


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run folder that has a config and nothing else."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(
        "run: {name: mine, max_steps: 10}\nmodel: {path: 'builtin:tiny'}\n"
        "algorithm: {name: grpo}\nrewards: [{name: exact_match}, {name: length}]\n"
        "learner: {max_off_policy_steps: 2}\n"
    )
    return folder


@pytest.fixture
def write_rollouts(run_dir: Path) -> Callable[..., Path]:
    def write(step: int, *rows: Row | bytes) -> Path:
        path = run_dir / "rollouts" / f"step_{step:06d}.jsonl"
        path.parent.mkdir(exist_ok=True)
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    return write
