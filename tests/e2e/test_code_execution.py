"""Code rewards in a whole run: real prompts, real completions, run in the real sandbox."""

import json
import os
from pathlib import Path

import psutil
import pytest

from learner.audit import audit
from learner.data.arithmetic import arithmetic_rows

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PREFIX = "import atexit\natexit.register(lambda: print(answer))\nanswer = \\"
"""The tiny policy writes numbers; with this before it, a completion is a program."""
REWARD = "rewards=[{name: code_execution, fallback_to_text: true, prefix_column: before}]"


@pytest.fixture
def sums(tmp_path: Path) -> str:
    """Data overrides: additions whose answer a program must print."""
    path = tmp_path / "sums.jsonl"
    rows = [
        {"prompt": row["prompt"], "before": PREFIX, "stdin": "", "stdout": row["answer"]}
        for row in arithmetic_rows("add2", "train", 400)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"data.train=[{json.dumps(str(path))}]"


def test_a_run_learns_from_what_completions_print_in_the_sandbox(train, sums: str):
    run = train(sums, REWARD, "data.heldout=[]", "run.max_steps=4", "learner.groups_per_step=8")
    run.succeeds(seconds=180)
    rows = run.rollouts()
    assert len(rows) == 4 * 8 * 8
    answers = {row["prompt"]: row["answer"] for row in arithmetic_rows("add2", "train", 400)}
    verdicts = set()
    for row in rows:
        facts = row["facts"]["code_execution"]
        verdicts.add(facts["verdict"])
        assert row["status"] == "ok"
        assert row["reward"] == float(facts["verdict"] == "passed")
        if row["finish_reason"] == "stop":
            assert row["reward"] == float(row["completion"] == answers[row["prompt"]]), row
    assert {"passed", "failed"} <= verdicts
    last = run.rows()[-1]
    assert 0 < last["reward/code_execution/verdict/passed"] <= 1
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations


def test_a_run_without_bubblewrap_ends_with_the_layer_and_the_remedy(
    train, sums: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tools = tmp_path / "tools"
    tools.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for tool in Path(folder).glob("*") if Path(folder).is_dir() else ():
            if tool.name != "bwrap" and not (tools / tool.name).exists():
                (tools / tool.name).symlink_to(tool)
    monkeypatch.setenv("PATH", str(tools))
    run = train(sums, REWARD, "data.heldout=[]")
    assert run.ends() == 2
    assert run.last_error.startswith("error: ")
    assert "'namespaces' is missing: bwrap is not in PATH" in run.last_error
    assert "sudo apt install bubblewrap" in run.last_error
    assert not run.run_dir.exists()


def test_killing_the_reward_worker_leaves_nothing_of_its_sandbox(train, sums: str):
    run = train(sums, REWARD, "data.heldout=[]", "run.max_steps=1000")
    run.until_step(1)
    (worker,) = run.members("reward_workers")
    family = worker.children(recursive=True)
    assert any("bwrap" in process.name() for process in family)
    worker.kill()
    _, alive = psutil.wait_procs(family, timeout=2)
    assert alive == []
