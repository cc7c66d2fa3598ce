"""What an audit asks of each rollout: its prompt, its age, its reward and its file."""

from collections.abc import Iterator, Sequence

from learner.audit_files import RunFiles
from learner.data.sources import Row
from learner.data.stream import Stream
from learner.digests import ROLLOUTS
from learner.ledger.groups import EVALUATION_IDS


def changed_files(run: RunFiles) -> Iterator[str]:
    """Yields every file that is not the one whose digest its step recorded, where it did."""
    for step, found in run.digests.items():
        wanted = run.steps.get(step, {}).get(ROLLOUTS, found)
        if found != wanted:
            yield f"the file of step {step} has {ROLLOUTS} {found}, metrics.jsonl says {wanted}"


def wrong_prompts(run: RunFiles, stream: Stream, prompts: Sequence[Row]) -> Iterator[str]:
    """Yields groups of another prompt than the stream has there, by its id or its text."""
    for step, group, rows in run.batches():
        index = stream.prompt_at(group) if group < EVALUATION_IDS else None
        wanted = "no training prompt" if index is None else prompts[index].prompt_id
        if rows[0]["prompt_id"] != wanted:
            yield f"group {group} of step {step} is {rows[0]['prompt_id']}, wanted {wanted}"
        elif index is not None:
            for row in rows:
                if row["prompt"] != prompts[index].prompt:
                    where = f"group {group} sample {row['sample']} of step {step}"
                    yield f"{where} has another prompt than the data: {_short(row['prompt'])}"


def stale(run: RunFiles) -> Iterator[str]:
    """Yields steps with tokens that are older than the config of their run epoch allows."""
    for step, row in run.steps.items():
        bound = run.config_of(step).learner.max_off_policy_steps
        version = row["policy_version"] - run.trains(step)
        rollouts = run.rollouts.get(step, [])
        ages = [version - runs[0] for rollout in rollouts for runs in rollout["policy_versions"]]
        if not ages:
            continue
        if min(ages) < 0 or max(ages) > bound:
            yield f"step {step} has staleness {min(ages)} to {max(ages)}, allowed 0 to {bound}"
        if row.get("staleness/max") != max(ages):
            yield f"step {step} says staleness/max {row.get('staleness/max')}, found {max(ages)}"


def wrong_rewards(run: RunFiles) -> Iterator[str]:
    """Yields failed rewards that are numbers, and sound ones that are none."""
    for step, group, rows in run.batches():
        for row in rows:
            if (row["reward"] is None) == (row["status"] == "ok"):
                where = f"group {group} sample {row['sample']} of step {step}"
                yield f"{where} has status {row['status']} and reward {row['reward']}"


def _short(prompt: object) -> str:
    text = repr(prompt)
    return text if len(text) <= 80 else f"{text[:80]}..."
