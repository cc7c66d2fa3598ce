"""`python -m learner.audit RUN_DIR`: was every prompt trained exactly once, or why not?

Compares what a run left behind, metrics.jsonl, eval.jsonl, rollouts/ and the newest checkpoint's
ledger, with each other and with the order of prompts, computed anew from the data. Run it where the
run was started, if its config names files by relative path.
"""

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from learner.audit_evaluations import wrong_evaluation_versions, wrong_evaluations
from learner.audit_files import RunFiles, num_dropped_alone, read_run_files
from learner.audit_rollouts import changed_files, stale, wrong_prompts, wrong_rewards
from learner.data.prompts import read_prompts
from learner.data.stream import Stream, prompt_stream
from protocol.process import EXIT_DONE, EXIT_FAILED, fail, run_main

MAX_SHOWN = 5
"""Violations of one kind that are printed."""
COUNTED = ("dropped/", "discarded/", "masked/", "duplicates", "fenced")
"""Counters of the ledger that are printed, by how their names begin."""


@dataclass(frozen=True)
class Audit:
    """What became of a run's prompts, and every contradiction that was found."""

    figures: Mapping[str, int]
    violations: Mapping[str, tuple[str, ...]]
    """By check; a check without any passed."""

    @property
    def num_violations(self) -> int:
        """Over all checks."""
        return sum(map(len, self.violations.values()))


def audit(run_dir: Path) -> Audit:
    """Check a run folder, of a run that has ended or was killed.

    Raises:
        ConfigError: no such run, or a damaged file; DataError: its data cannot be read any more.
    """
    run = read_run_files(run_dir)
    read = asyncio.run(read_prompts(run.config.data, run.config.run.seed)).train
    prompts = [row for row in read if row.prompt_id not in run.left_out]
    stream = prompt_stream(run.config.data, prompts, run.config.run.seed)
    violations = {
        "one row and one rollouts file a step": tuple(_wrong_steps(run)),
        "rollouts/ is as it was written": tuple(changed_files(run)),
        "policy_version rises with each trained step": tuple(_wrong_versions(run)),
        "no group is handed over twice": tuple(_repeated_groups(run)),
        "groups are whole, of one attempt": tuple(_broken_groups(run)),
        "groups_per_step groups a step": tuple(_wrong_batches(run)),
        "the prompt is what the stream has there": tuple(wrong_prompts(run, stream, prompts)),
        "no prompt twice in an epoch": tuple(_repeated_prompts(run, stream)),
        "staleness within the bound": tuple(stale(run)),
        "a failed reward is null, never a number": tuple(wrong_rewards(run)),
        "counts of metrics.jsonl agree": tuple(_wrong_counts(run)),
        "no prompt is lost": tuple(_lost(run)),
        "all of an ended run's epochs is trained or dropped": tuple(_unfinished(run, len(prompts))),
        "every evaluation is there once": tuple(wrong_evaluations(run)),
        "evaluations are of their step's version": tuple(wrong_evaluation_versions(run)),
        "the checkpoint's ledger agrees": tuple(_contradicts_checkpoint(run)),
    }
    return Audit(_figures(run), violations)


def main() -> int:
    """Print the audit of the run folder on the command line; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m learner.audit", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    found = audit(parser.parse_args().run_dir)
    sys.stdout.write("".join(f"{line}\n" for line in _table(found)))
    if number := found.num_violations:
        return fail(f"{number} violation{'s' if number > 1 else ''}", EXIT_FAILED)
    return EXIT_DONE


def _figures(run: RunFiles) -> dict[str, int]:
    trained, skipped = run.groups(skipped=False), run.groups(skipped=True)
    rows = [row for _, _, rows in run.batches() for row in rows]
    shown = {name: n for name, n in sorted(run.counts.items()) if n and name.startswith(COUNTED)}
    num_done = len(trained | skipped) + run.num_dropped_alone
    num_open = max(trained | skipped, default=-1) + 1 - num_done  # some were dropped above it
    return {
        "starts of the learner": run.num_starts,
        "steps": len(run.steps),
        "evaluations": len(run.evaluations),
        "groups trained": len(trained),
        "rollouts trained": sum(row["group"] in trained for row in rows),
        "groups dropped with their batch": len(skipped),
        "groups dropped otherwise": run.num_dropped_alone,
        "groups open below the highest": max(num_open, 0),
        "groups beyond their first attempt": len({r["group"] for r in rows if r["attempt"] > 1}),
        "actors that contributed": len({row["actor"] for row in rows}),
        **shown,
    }


def _wrong_steps(run: RunFiles) -> Iterator[str]:
    counted = Counter(row["step"] for row in run.metrics)
    for step in range(1, max([*counted, *run.rollouts], default=0) + 1):
        if counted[step] != 1:
            yield f"step {step} has {counted[step]} rows in metrics.jsonl"
        if step not in run.rollouts:
            yield f"step {step} has no file in rollouts/"
    in_order = [row["step"] for row in run.metrics]
    if in_order != sorted(in_order):
        yield "the rows of metrics.jsonl are not in order"


def _wrong_versions(run: RunFiles) -> Iterator[str]:
    version = 0
    for step, row in run.steps.items():
        version += run.trains(step)
        if row["policy_version"] != version:
            yield f"step {step} has policy version {row['policy_version']}, wanted {version}"
            version = row["policy_version"]


def _repeated_groups(run: RunFiles) -> Iterator[str]:
    steps: dict[int, int] = {}
    for step, group, _ in run.batches():
        if group in steps:
            yield f"group {group} is in step {steps[group]} and in step {step}"
        steps[group] = step


def _broken_groups(run: RunFiles) -> Iterator[str]:
    wanted = list(range(run.config.generation.group_size))
    for step, group, rows in run.batches():
        samples = sorted(row["sample"] for row in rows)
        if samples != wanted:
            yield f"group {group} of step {step} has samples {samples}, wanted {len(wanted)}"
        for key in ("attempt", "prompt_id", "actor"):
            if len({row[key] for row in rows}) > 1:
                yield f"group {group} of step {step} mixes several values of {key}"


def _wrong_batches(run: RunFiles) -> Iterator[str]:
    wanted = run.config.learner.groups_per_step
    sizes = Counter(step for step, _, _ in run.batches())
    for step in run.rollouts:
        ends = run.config.data.epochs or run.config.data.no_resampling_pass_rate
        last = ends is not None and step == max(run.rollouts)
        if sizes[step] > wanted or (sizes[step] < wanted and not last):
            yield f"step {step} has {sizes[step]} groups, wanted {wanted}"


def _repeated_prompts(run: RunFiles, stream: Stream) -> Iterator[str]:
    groups: dict[tuple[tuple[int, int], str], int] = {}
    for _, group, rows in run.batches():
        prompt = (stream.epoch_at(group), rows[0]["prompt_id"])
        first = groups.setdefault(prompt, group)
        if first != group:
            yield f"{prompt[1]} is in groups {first} and {group} of epoch {prompt[0][1]}"


def _wrong_counts(run: RunFiles) -> Iterator[str]:
    wanted: Counter[str] = Counter()
    per_step = Counter(step for step, _, _ in run.batches())
    for step, row in run.steps.items():
        name = "trained" if run.trains(step) else f"dropped/{row['skipped']}"
        wanted[name] += per_step[step]
        if row.get(name) != wanted[name]:
            yield f"step {step} says {name} {row.get(name)}, rollouts/ has {wanted[name]}"


def _lost(run: RunFiles) -> Iterator[str]:
    """Groups are leased in the order of their ids, so only those in flight may be passed over."""
    done = run.groups(skipped=False) | run.groups(skipped=True)
    end = max(done, default=-1) + 1
    sections = [config.learner for config in (run.config, *run.configs.values())]
    allowed = max((it.max_off_policy_steps + 1) * it.groups_per_step - 1 for it in sections)
    if end - len(done) > allowed + run.num_dropped_alone:
        yield (
            f"{end - len(done)} groups below {end} were neither trained nor dropped, wanted at "
            f"most {allowed} in flight and {run.num_dropped_alone} dropped alone: "
            f"{_first_missing(done, end)}"
        )


def _unfinished(run: RunFiles, num_prompts: int) -> Iterator[str]:
    """A run that ends for want of prompts leaves none open of any epoch that it began."""
    if not run.data_has_ended:
        return
    done = run.groups(skipped=False) | run.groups(skipped=True)
    num_done, epochs = len(done) + run.num_dropped_alone, run.config.data.epochs
    if run.config.data.no_resampling_pass_rate is not None:
        epochs = -(-num_done // num_prompts)  # it may end early, all prompts retired
    if epochs is None:
        yield f"the run ended after step {run.last_step}, before max_steps, without an end of data"
    elif num_done != epochs * num_prompts:
        yield (
            f"{epochs} epochs have {epochs * num_prompts} prompts, {len(done)} were in a batch and "
            f"{run.num_dropped_alone} dropped alone; without a batch are "
            f"{_first_missing(done, epochs * num_prompts)}"
        )


def _contradicts_checkpoint(run: RunFiles) -> Iterator[str]:
    """The ledger that a resume would go on from must call done what rollouts/ shows, no more."""
    if run.checkpoint is None:
        return
    ledger, upto = run.checkpoint
    shown = {group for step, group, _ in run.batches() if step <= upto}
    beyond = set(ledger.done)
    again = sorted(group for group in shown if group >= ledger.watermark and group not in beyond)
    if again:
        yield f"step {upto}'s ledger would train {len(again)} groups again: {_shortened(again)}"
    dropped = num_dropped_alone(ledger.counts)
    num_below = sum(group < ledger.watermark for group in shown)
    unseen = ledger.watermark - num_below + len(beyond - shown)
    if unseen != dropped:
        missing = _first_missing(shown, ledger.watermark) or _shortened(sorted(beyond - shown))
        yield (
            f"step {upto}'s ledger calls {unseen} groups done that no step had, "
            f"{dropped} of them dropped: {missing}"
        )


def _first_missing(group_ids: set[int], end: int) -> str:
    missing = (group for group in range(end) if group not in group_ids)
    return _shortened(list(islice(missing, MAX_SHOWN + 1)))


def _shortened(group_ids: list[int]) -> str:
    shown = ", ".join(map(str, group_ids[:MAX_SHOWN]))
    return f"{shown}, ..." if len(group_ids) > MAX_SHOWN else shown


def _table(found: Audit) -> Iterator[str]:
    for name, number in found.figures.items():
        yield f"{number:>9}  {name}"
    for check, violations in found.violations.items():
        yield f"{len(violations) or 'ok':>9}  {check}"
        yield from (f"{'':>9}    {violation}" for violation in violations[:MAX_SHOWN])


if __name__ == "__main__":
    run_main(main)
