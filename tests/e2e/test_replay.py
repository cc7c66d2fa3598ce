"""mlx-replay confirms a real run, and finds and names whatever is changed in it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from learner.audit import audit
from learner.replay.command import replay
from protocol.errors import ConfigError

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MLX_REPLAY = Path(sys.executable).with_name("mlx-replay")
SMALL = (
    "run.max_steps=4",
    "data.heldout=[]",
    "checkpoints.interval=2",
    "generation.group_size=4",
    "learner.groups_per_step=8",
)
STEP = 3
"""Tampered with; the step after a checkpoint, so that little is computed again."""

Rows = list[dict[str, Any]]


def taught(rows: Rows) -> int:
    """A row that the step learned from, whose first token can be another digit."""
    return next(
        index
        for index, row in enumerate(rows)
        if row["advantage"] and row["completion"][:1].isdigit()
    )


def other_token(rows: Rows) -> str:
    row = rows[taught(rows)]
    first = row["token_ids"][0]
    row["token_ids"][0] = first - 1 if row["completion"][0] == "9" else first + 1
    return f"group {row['group']} sample {row['sample']}: completion: found"


def other_reward(rows: Rows) -> str:
    row = rows[taught(rows)]
    row["reward"] = row["rewards"]["exact_match"] = 0.5
    return f"group {row['group']} sample {row['sample']}: reward: found 0.5, wanted "


def other_advantage(rows: Rows) -> str:
    row = rows[taught(rows)]
    row["advantage"] *= 1.0000001
    return f"group {row['group']} sample {row['sample']}: advantage: found"


def other_behaviour_logprob(rows: Rows) -> str:
    row = rows[taught(rows)]
    row["behaviour_logprobs"][0] -= 2.0
    return f"group {row['group']} sample {row['sample']}: behaviour_logprobs[0]"


def swapped(rows: Rows) -> str:
    rows[0], rows[1] = rows[1], rows[0]
    return "line 1: group and sample: found"


TAMPER: tuple[Callable[[Rows], str], ...] = (
    other_token,
    other_reward,
    other_advantage,
    other_behaviour_logprob,
    swapped,
)


def test_a_run_is_confirmed_and_each_change_is_found(train, capsys):
    run = train(*SMALL)
    run.succeeds()
    before = content_of(run.run_dir)

    command = [MLX_REPLAY, run.run_dir]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    weights = [row["digest/weights"] for row in run.rows()]
    for number, (line, digest) in enumerate(zip(lines[1:5], weights, strict=True), start=1):
        assert line.startswith(f"step {number}: rollouts ok, rewards ok (32), advantages ok, ")
        assert f"weights ok {digest[:8]}..." in line
    assert lines[-1] == f"all 4 steps agree: {run.run_dir}"

    def finds(expected: str, *options: str) -> None:
        """In this process: another one would begin with seconds of imports."""
        assert replay([str(run.run_dir), "--step", str(STEP), *options]) == 1
        assert expected in capsys.readouterr().out

    path = run.run_dir / "rollouts" / f"step_{STEP:06d}.jsonl"
    for tamper in TAMPER:
        rows = [json.loads(line) for line in before[path].splitlines()]
        expected = tamper(rows)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        finds(expected, *(() if tamper is other_reward else ("--no-rewards",)))
    path.write_bytes(before[path])

    metrics = run.run_dir / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace(weights[STEP - 1], "0" * 32))
    finds(f'{"0" * 32}", wanted "{weights[STEP - 1]}"', "--no-rewards")
    metrics.write_bytes(before[metrics])

    with pytest.raises(ConfigError, match="has no step 5"):
        replay([str(run.run_dir), "--step", "5"])
    assert content_of(run.run_dir) == before


def test_a_run_that_was_resumed_with_another_config_is_confirmed(train, capsys):
    run = train(*SMALL, "run.max_steps=2", "learner.max_off_policy_steps=2")
    run.succeeds()
    optimizer = ("learner.optimizer.learning_rate=1e-4", "learner.optimizer.schedule=linear")
    changed = (*optimizer, "algorithm.name=rloo", "learner.max_off_policy_steps=0")
    train(*SMALL, *changed, run_dir=run.run_dir, options=("--resume",)).succeeds()
    rates = [row["learning_rate"] for row in run.rows()]
    assert rates[:2] == [rates[0]] * 2
    assert rates[2:] == [5e-5, 2.5e-5]

    assert audit(run.run_dir).num_violations == 0, audit(run.run_dir).violations
    shutil.rmtree(run.run_dir / "checkpoints")  # it is the replay's own state that goes on
    assert replay([str(run.run_dir)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "replaying steps 1 to 4, beginning with the model itself"
    assert "  with the config of run epoch 2" in said


def content_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
