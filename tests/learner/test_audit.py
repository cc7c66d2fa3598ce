"""A sound run folder passes; each planted contradiction is found by the check that is for it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from learner.audit import audit
from learner.data.arithmetic import arithmetic_rows
from learner.data.stream import PromptStream
from learner.digests import ROLLOUTS, rollouts_digest
from learner.ledger.snapshot import Snapshot
from protocol.errors import ConfigError

NUM_PROMPTS, STEPS, GROUPS, SAMPLES = 5, 4, 2, 2
ORDER = [[0, 1], [3, 2], [4, 6], [5, 7]]
"""Groups of each step: not in order, and the second epoch begins with group 5."""

PROMPTS = [row["prompt"] for row in arithmetic_rows("add2", "train", NUM_PROMPTS)]

Rows = list[dict[str, Any]]
CONFIG = {
    "model": {"path": "builtin:tiny"},
    "data": {"train": [f"arithmetic:add2?count={NUM_PROMPTS}"]},
    "generation": {"group_size": SAMPLES},
    "rewards": [{"name": "exact_match"}],
    "learner": {"groups_per_step": GROUPS, "max_off_policy_steps": 1},
}


class Folder:
    """A run folder whose files a test changes."""

    def __init__(self, path: Path):
        self.path = path
        (path / "rollouts").mkdir(parents=True)
        self.write("config.yaml", CONFIG)
        self.write_rows("metrics.jsonl", [metrics_row(step) for step in range(1, STEPS + 1)])
        for step, groups in enumerate(ORDER, start=1):
            rows = [rollout(step, group, s) for group in groups for s in range(SAMPLES)]
            self.write_rows(f"rollouts/step_{step:06d}.jsonl", rows)
        self.save(STEPS, Snapshot(watermark=8, counts={"trained": 8}))

    def write(self, name: str, value: object) -> None:
        (self.path / name).write_text(yaml.safe_dump(value))

    def write_rows(self, name: str, rows: Rows) -> None:
        (self.path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def change(self, name: str, change: Callable[[Rows], object]) -> None:
        """Changes a JSONL file's rows in place."""
        rows = [json.loads(line) for line in (self.path / name).read_text().splitlines()]
        change(rows)
        self.write_rows(name, rows)

    def save(self, step: int, ledger: Snapshot) -> None:
        folder = self.path / "checkpoints" / f"step_{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        state = {"step": step, "ledger": ledger.to_json()}
        (folder / "trainer.json").write_text(json.dumps(state))

    def failed(self) -> set[str]:
        """Checks that found something."""
        return {check for check, found in audit(self.path).violations.items() if found}


def metrics_row(step: int) -> dict[str, Any]:
    row = {"step": step, "policy_version": step, "skipped": "", "trained": step * GROUPS}
    return {**row, "staleness/max": min(step - 1, 1)}


def rollout(step: int, group: int, sample: int) -> dict[str, Any]:
    place = PromptStream(NUM_PROMPTS, 0).prompt_at(group)
    assert place is not None
    return {
        "group": group,
        "prompt_id": f"arithmetic:add2/train:{place + 1}",
        "prompt": PROMPTS[place],
        "sample": sample,
        "attempt": 1,
        "actor": "actor-1",
        "policy_versions": [[max(step - 2, 0), 3]],
        "reward": 1.0,
        "status": "ok",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "run")


def test_a_sound_run_passes(folder: Folder):
    found = audit(folder.path)
    assert found.num_violations == 0, found.violations
    assert dict(found.figures) == {
        "starts of the learner": 0,
        "steps": 4,
        "evaluations": 0,
        "groups trained": 8,
        "rollouts trained": 16,
        "groups dropped with their batch": 0,
        "groups dropped otherwise": 0,
        "groups open below the highest": 0,
        "groups beyond their first attempt": 0,
        "actors that contributed": 1,
    }


def test_counts_of_the_lineage_are_shown(folder: Folder):
    (folder.path / "run_epoch").write_text("3\n")
    counts = {"discarded/actor_lost": 4, "duplicates": 2, "fenced": 0, "peers/actor": 2}
    folder.change("metrics.jsonl", lambda rows: rows[-1].update(counts))
    figures = audit(folder.path).figures
    assert figures["starts of the learner"] == 3
    assert figures["discarded/actor_lost"] == 4
    assert figures["duplicates"] == 2
    assert not {"fenced", "peers/actor"} & figures.keys()


FILE_CHECK = "rollouts/ is as it was written"
STEP_CHECK = "one row and one rollouts file a step"
VERSION_CHECK = "policy_version rises with each trained step"
TWICE_CHECK = "no group is handed over twice"
WHOLE_CHECK = "groups are whole, of one attempt"
BATCH_CHECK = "groups_per_step groups a step"
PROMPT_CHECK = "the prompt is what the stream has there"
EPOCH_CHECK = "no prompt twice in an epoch"
STALE_CHECK = "staleness within the bound"
REWARD_CHECK = "a failed reward is null, never a number"
COUNT_CHECK = "counts of metrics.jsonl agree"
LOST_CHECK = "no prompt is lost"
EPOCHS_CHECK = "all of an ended run's epochs is trained or dropped"
LEDGER_CHECK = "the checkpoint's ledger agrees"


def test_a_file_that_is_not_as_it_was_written_is_found_where_its_digest_is_recorded(folder: Folder):
    path = folder.path / "rollouts" / "step_000002.jsonl"
    digest = {ROLLOUTS: rollouts_digest(path)}
    folder.change("metrics.jsonl", lambda rows: rows[1].update(digest))
    assert folder.failed() == set()
    for name in ("rollouts/step_000001.jsonl", "rollouts/step_000002.jsonl"):
        folder.change(name, lambda rows: rows[0].update(completion="another"))
    assert folder.failed() == {FILE_CHECK}
    assert len(audit(folder.path).violations[FILE_CHECK]) == 1


def test_a_prompt_of_another_text_is_found(folder: Folder):
    folder.change("rollouts/step_000002.jsonl", lambda rows: rows[1].update(prompt="1+1="))
    assert folder.failed() == {PROMPT_CHECK}
    assert audit(folder.path).violations[PROMPT_CHECK] == (
        "group 3 sample 1 of step 2 has another prompt than the data: '1+1='",
    )


@pytest.mark.parametrize("line", ["no json", "[]", '{"step": 2}', "\udcff", "{}", ""])
@pytest.mark.parametrize("name", ["metrics.jsonl", "eval.jsonl", "rollouts/step_000002.jsonl"])
def test_a_damaged_line_is_named_by_its_file_and_number(folder: Folder, name: str, line: str):
    path = folder.path / name
    before = path.read_bytes() if path.exists() else b""
    row = before.splitlines(keepends=True)[:1]
    path.write_bytes(b"".join(row) + line.encode(errors="surrogateescape") + b"\n" + before)
    with pytest.raises(ConfigError, match=rf"{path}:{len(row) + 1} is damaged: "):
        audit(folder.path)


@pytest.mark.parametrize(
    "name", ["checkpoints/step_000004/trainer.json", "summary.json", "run_epoch"]
)
@pytest.mark.parametrize("content", ["", "[]"])
def test_a_damaged_file_is_named(folder: Folder, name: str, content: str):
    (folder.path / name).write_text(content)
    with pytest.raises(ConfigError, match=f"{name} is damaged"):
        audit(folder.path)


def test_staleness_is_held_against_the_bound_of_its_run_epoch(folder: Folder):
    """Steps 1 and 2 were taken with a bound of 1, the others with 0."""
    for epoch, bound in ((1, 1), (2, 0)):
        (folder.path / "configs").mkdir(exist_ok=True)
        learner = {**CONFIG["learner"], "max_off_policy_steps": bound}
        folder.write(f"configs/run_epoch_{epoch:06d}.yaml", {**CONFIG, "learner": learner})

    def set_epochs(rows: Rows) -> None:
        for row in rows:
            row["run_epoch"] = 1 if row["step"] < 3 else 2

    folder.change("metrics.jsonl", set_epochs)
    assert audit(folder.path).violations[STALE_CHECK] == (
        "step 3 has staleness 1 to 1, allowed 0 to 0",
        "step 4 has staleness 1 to 1, allowed 0 to 0",
    )
    assert folder.failed() == {STALE_CHECK}


def test_a_step_without_a_row_is_found(folder: Folder):
    folder.change("metrics.jsonl", lambda rows: rows.pop())
    assert STEP_CHECK in folder.failed()


def test_a_step_with_two_rows_is_found(folder: Folder):
    folder.change("metrics.jsonl", lambda rows: rows.append(rows[-1]))
    assert folder.failed() == {STEP_CHECK}


def test_rows_out_of_order_are_found(folder: Folder):
    folder.change("metrics.jsonl", lambda rows: rows.reverse())
    assert folder.failed() == {STEP_CHECK}


def test_a_missing_rollouts_file_is_found(folder: Folder):
    (folder.path / "rollouts" / "step_000002.jsonl").unlink()
    assert {STEP_CHECK, COUNT_CHECK, LEDGER_CHECK} <= folder.failed()


def test_a_version_that_stands_still_is_found(folder: Folder):
    folder.change("metrics.jsonl", lambda rows: rows[3].update(policy_version=3))
    assert VERSION_CHECK in folder.failed()


def test_a_group_in_two_steps_is_found(folder: Folder):
    first = (folder.path / "rollouts" / "step_000001.jsonl").read_text().splitlines()
    again = [{**json.loads(line), "policy_versions": [[2, 3]]} for line in first[:SAMPLES]]
    folder.change("rollouts/step_000004.jsonl", lambda rows: rows.__setitem__(slice(2), again))
    assert folder.failed() == {TWICE_CHECK, LEDGER_CHECK}


def test_an_incomplete_group_is_found(folder: Folder):
    folder.change("rollouts/step_000003.jsonl", lambda rows: rows.pop())
    assert folder.failed() == {WHOLE_CHECK}


def test_a_sample_that_stands_twice_is_found(folder: Folder):
    folder.change("rollouts/step_000003.jsonl", lambda rows: rows[1].update(sample=0))
    assert folder.failed() == {WHOLE_CHECK}


@pytest.mark.parametrize("change", [{"attempt": 2}, {"actor": "actor-2"}])
def test_a_group_of_two_attempts_is_found(folder: Folder, change: dict[str, Any]):
    folder.change("rollouts/step_000003.jsonl", lambda rows: rows[1].update(change))
    assert folder.failed() == {WHOLE_CHECK}


def test_a_short_batch_is_found(folder: Folder):
    folder.change("rollouts/step_000003.jsonl", lambda rows: rows.__delitem__(slice(2)))
    assert {BATCH_CHECK, COUNT_CHECK} <= folder.failed()


def test_the_last_batch_of_the_last_epoch_may_be_short(folder: Folder):
    data = {**CONFIG["data"], "epochs": 2}
    folder.write("config.yaml", {**CONFIG, "data": data})
    folder.change("rollouts/step_000004.jsonl", lambda rows: rows.__delitem__(slice(2, 4)))
    folder.change("metrics.jsonl", lambda rows: rows[3].update(trained=7))
    folder.save(STEPS, Snapshot(watermark=7, counts={"trained": 7}))
    assert folder.failed() == set()


def test_a_prompt_that_the_stream_has_elsewhere_is_found(folder: Folder):
    other = rollout(1, 2, 0)["prompt_id"]
    set_prompt = lambda rows: [row.update(prompt_id=other) for row in rows[:SAMPLES]]  # noqa: E731
    folder.change("rollouts/step_000001.jsonl", set_prompt)
    assert folder.failed() == {PROMPT_CHECK, EPOCH_CHECK}


def test_a_held_out_group_is_found(folder: Folder):
    held_out = lambda rows: [row.update(group=2**40) for row in rows[:SAMPLES]]  # noqa: E731
    folder.change("rollouts/step_000004.jsonl", held_out)
    assert PROMPT_CHECK in folder.failed()


def test_a_prompt_comes_again_in_the_next_epoch(folder: Folder):
    prompts = [rollout(1, group, 0)["prompt_id"] for group in range(8)]
    assert len(set(prompts[:5])) == 5
    assert set(prompts[5:]) < set(prompts[:5])
    assert EPOCH_CHECK not in folder.failed()


@pytest.mark.parametrize("versions", [[[1, 3]], [[1, 1], [2, 2]], [[4, 3]]])
def test_tokens_too_old_or_of_the_future_are_found(folder: Folder, versions: list[list[int]]):
    folder.change(
        "rollouts/step_000004.jsonl", lambda rows: rows[0].update(policy_versions=versions)
    )
    assert STALE_CHECK in folder.failed()


def test_a_staleness_that_is_told_wrong_is_found(folder: Folder):
    folder.change("metrics.jsonl", lambda rows: rows[2].update({"staleness/max": 0}))
    assert folder.failed() == {STALE_CHECK}


@pytest.mark.parametrize(
    "change", [{"status": "reward_error", "reward": 0.0}, {"status": "ok", "reward": None}]
)
def test_a_failed_reward_with_a_number_is_found(folder: Folder, change: dict[str, Any]):
    folder.change("rollouts/step_000002.jsonl", lambda rows: rows[0].update(change))
    assert folder.failed() == {REWARD_CHECK}


def test_a_count_that_disagrees_is_found(folder: Folder):
    folder.change("metrics.jsonl", lambda rows: rows[2].update(trained=5))
    assert folder.failed() == {COUNT_CHECK}


def skip_last_step(folder: Folder, reason: str = "non_finite") -> None:
    counts = {"trained": 6, f"dropped/{reason}": 2}
    skipped = {"skipped": reason, "policy_version": 3, **counts}
    folder.change("metrics.jsonl", lambda rows: rows[3].update(skipped))
    folder.change(
        "rollouts/step_000004.jsonl",
        lambda rows: [row.update(policy_versions=[[2, 3]]) for row in rows],
    )
    folder.save(STEPS, Snapshot(watermark=8, counts=counts))


def test_a_batch_that_was_skipped_is_dropped_and_not_lost(folder: Folder):
    skip_last_step(folder)
    assert folder.failed() == set()
    assert audit(folder.path).figures["groups dropped with their batch"] == 2
    assert audit(folder.path).figures["rollouts trained"] == 12


def end_with_data(folder: Folder, epochs: int, **counts: int) -> None:
    """Makes a run of it that ended for want of prompts."""
    folder.write("config.yaml", {**CONFIG, "data": {**CONFIG["data"], "epochs": epochs}})
    (folder.path / "summary.json").write_text(json.dumps({"trained": 8, **counts}))


def test_an_ended_run_without_all_of_its_epochs_is_found(folder: Folder):
    end_with_data(folder, epochs=2)  # 10 prompts, 8 trained
    assert folder.failed() == {EPOCHS_CHECK}


def test_an_ended_run_may_have_dropped_the_rest_of_its_epochs(folder: Folder):
    end_with_data(folder, epochs=2, **{"dropped/attempts": 2})
    counts = {"trained": 8, "dropped/attempts": 2}
    folder.save(STEPS, Snapshot(watermark=10, counts=counts))
    assert folder.failed() == set()
    assert audit(folder.path).figures["dropped/attempts"] == 2


def test_a_run_that_was_cut_short_has_not_ended(folder: Folder):
    end_with_data(folder, epochs=2)
    (folder.path / "summary.json").write_text(json.dumps({"trained": 6}))  # of its first end
    assert folder.failed() == set()


def test_a_run_that_ended_for_no_reason_is_found(folder: Folder):
    (folder.path / "summary.json").write_text(json.dumps({"trained": 8}))
    assert folder.failed() == {EPOCHS_CHECK}


def use_later_groups(folder: Folder, by: int, ledger: Snapshot) -> None:
    """Replaces the last step's groups by later ones, so that two groups are missing."""
    groups = [group + by for group in ORDER[-1]]
    rows = [rollout(STEPS, group, sample) for group in groups for sample in range(SAMPLES)]
    folder.write_rows("rollouts/step_000004.jsonl", rows)
    folder.save(STEPS, ledger)


def test_groups_in_flight_may_be_passed_over(folder: Folder):
    # 5, 7 -> 6 + 2, 7 + 2: 5, 7 are open; in flight are at most (1 + 1) * 2 - 1 = 3
    use_later_groups(folder, 3, Snapshot(watermark=5, done=(6, 8, 10)))
    folder.change("metrics.jsonl", lambda rows: None)
    assert folder.failed() == set()
    assert audit(folder.path).figures["groups open below the highest"] == 3


def test_more_open_groups_than_can_be_in_flight_are_lost(folder: Folder):
    use_later_groups(folder, 4, Snapshot(watermark=5, done=(6, 9, 11)))
    assert folder.failed() == {LOST_CHECK}


@pytest.mark.parametrize("reason", ["attempts", "zero_advantage", "retired"])
def test_a_group_that_was_dropped_alone_is_not_lost(folder: Folder, reason: str):
    ledger = Snapshot(watermark=5, done=(6, 8, 9, 11), counts={f"dropped/{reason}": 1})
    use_later_groups(folder, 4, ledger)
    count = {f"dropped/{reason}": 1}
    folder.change("metrics.jsonl", lambda rows: rows[-1].update(count))
    assert folder.failed() == set()
    assert audit(folder.path).figures["groups dropped otherwise"] == 1


def test_a_ledger_that_skips_a_prompt_is_found(folder: Folder):
    folder.save(STEPS, Snapshot(watermark=9))
    assert folder.failed() == {LEDGER_CHECK}


def test_a_ledger_that_would_train_a_prompt_again_is_found(folder: Folder):
    folder.save(STEPS, Snapshot(watermark=7))
    assert folder.failed() == {LEDGER_CHECK}


def test_the_newest_checkpoint_may_be_older_than_the_last_step(folder: Folder):
    (folder.path / "checkpoints" / "step_000004" / "trainer.json").unlink()
    folder.save(2, Snapshot(watermark=4))
    assert folder.failed() == set()


def test_a_run_without_any_step_passes(tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    assert audit(empty).num_violations == 0


def test_a_line_that_a_crash_cut_short_is_no_row(folder: Folder):
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "pol')
    assert folder.failed() == set()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no run folder: it has no config\.yaml"):
        audit(tmp_path)


def command(folder: Folder) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "learner.audit", str(folder.path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_prints_a_table_and_ends_with_1_on_a_violation(folder: Folder):
    done = command(folder)
    assert done.returncode == 0, done.stderr
    assert "        4  steps" in done.stdout
    assert f"       ok  {LOST_CHECK}" in done.stdout
    folder.change("metrics.jsonl", lambda rows: rows.append(rows[-1]))
    done = command(folder)
    assert done.returncode == 1
    assert f"        1  {STEP_CHECK}\n             step 4 has 2 rows in metrics" in done.stdout
    assert done.stderr.splitlines()[-1] == "error: 1 violation"
