"""A step computed again, beside what the run folder says of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learner.records import STEP_FIGURES, StepClock, metrics_row, rollout_rows
from learner.replay.rebuild import Rebuilt, place
from learner.replay.recorded import Row
from learner.replay.verdict import Part, Verdict
from learner.run_folder import finite
from learner.samples import ScoredSample
from learner.step import StepResult

_PARTS: dict[str, Part] = {"advantage": "advantages", "logprobs": "logprobs"}
"""By key of a rollout's row; all others are what was sampled."""
_FOLLOWING = ("reward/", "staleness/", "completion", "groups/")
"""How those figures of a row begin that follow from rollouts, rewards and advantages."""
MIN_GAP = 1e-4
"""Nats; actors and learner are nearer to each other where both compute in fp32."""


def compare_rollouts(rebuilt: Rebuilt, result: StepResult, verdict: Verdict) -> None:
    """Every key of every row, exactly: a number's text in JSON leads back to its bits."""
    again = rollout_rows(rebuilt.samples, result)
    for row, wanted in zip(rebuilt.rows, map(finite, again), strict=True):
        for key in sorted(row.keys() | wanted.keys()):
            if row.get(key) != wanted.get(key):
                name, *values = _first_difference(key, row.get(key), wanted.get(key))
                verdict.add(_PARTS.get(key, "rollouts"), place(row), name, *values)
    for part in ("rollouts", "advantages", "logprobs"):
        verdict.compared[part] = ""


def compare_figures(
    row: Mapping[str, Any], result: StepResult, policy_version: int, verdict: Verdict
) -> None:
    """What the step said of itself: loss, norms, the learning rate, and why it was skipped."""
    nothing = dict.fromkeys(STEP_FIGURES)
    figures = {
        **nothing,
        **result.metrics,
        "skipped": result.skipped,
        "policy_version": policy_version,
    }
    for key, wanted in finite(figures).items():
        if row.get(key) != wanted:
            verdict.add("figures", "metrics.jsonl", key, row.get(key), wanted)
    verdict.compared["figures"] = ""


def compare_batch(
    row: Mapping[str, Any],
    rebuilt: Rebuilt,
    result: StepResult,
    policy_version: int,
    verdict: Verdict,
) -> None:
    """What the row says of its rollouts: rewards, staleness, lengths, groups without advantage."""
    again = metrics_row(
        step=verdict.step,
        policy_version=policy_version,
        samples=rebuilt.samples,
        result=result,
        clock=StepClock(0.0),
        now=0.0,
        counts={},
    )
    wanted = finite({key: again[key] for key in again if key.startswith(_FOLLOWING)})
    names = {named.name for sample in rebuilt.samples for named in sample.score.rewards}
    of_that_day = {f"reward/{name}/seconds/mean" for name in names}
    found = {key for key in row if key.startswith(_FOLLOWING)}
    for key in sorted((found | wanted.keys()) - of_that_day):
        if row.get(key) != wanted.get(key):
            verdict.add("batch", "metrics.jsonl", key, row.get(key), wanted.get(key))
    verdict.compared["batch"] = ""


def compare_rewards(
    rows: Sequence[Row], answers: Sequence[Row], verdict: Verdict, *, deterministic: bool
) -> None:
    """Rewards and statuses, exactly.

    A sample that was masked says something of that day's machine (a timeout), so that only a
    deterministic run, which has none, must mask it again.
    """
    for row, again in zip(rows, answers, strict=True):
        if not deterministic and row["reward"] is None:
            if again["status"] != row["status"]:
                now = again["status"] if again["reward"] is None else f"reward {again['reward']}"
                verdict.remarks.append(f"{place(row)} was masked then: {row['status']}; now {now}")
            continue
        for key in ("reward", "rewards", "status"):
            if row[key] != again[key]:
                verdict.add("rewards", place(row), key, row[key], again[key])
    verdict.compared["rewards"] = f"({len(rows)})"


def widest_gap(
    samples: Iterable[ScoredSample], logprobs: Iterable[NDArray[np.float32] | None]
) -> str:
    """Where the actors' logprobs are furthest from the learner's; empty where they are near.

    A behaviour logprob cannot be computed again, since its batch is gone: this is the likeliest.
    """
    widest, text = MIN_GAP, ""
    for sample, logprobs_T in zip(samples, logprobs, strict=True):
        if logprobs_T is None:
            continue
        behaviour_T = sample.rollout.behaviour_logprobs
        token = int(np.argmax(np.abs(logprobs_T - behaviour_T)))
        gap = float(abs(logprobs_T[token] - behaviour_T[token]))
        if gap > widest:
            rollout, widest = sample.rollout, gap
            text = (
                f"the widest gap to the learner's logprobs: group {rollout.group_id} sample "
                f"{rollout.sample}: behaviour_logprobs[{token}]: {behaviour_T[token]:.6g}, the "
                f"learner's {logprobs_T[token]:.6g}"
            )
    return text


def _first_difference(key: str, found: object, wanted: object) -> tuple[str, object, object]:
    """Of two lists of one length, the first place where they differ."""
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
            if one != other:
                return f"{key}[{index}]", one, other
    return key, found, wanted
