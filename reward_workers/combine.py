"""What several rewards said of one completion -> one score.

The score is the weighted sum over the rewards that apply. A sample that any reward failed on, or
that none applies to, is masked with a status: it never counts as a reward of 0.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from protocol.messages import NamedReward, Score, ScoreTask
from reward_workers.calling import REWARD_ERROR, Outcome
from reward_workers.registry import OK

NO_REWARD_APPLIES = "no_reward_applies"

MAX_DETAIL_CHARACTERS = 1000


class Weighted(NamedTuple):
    """A reward as the score knows it."""

    name: str
    weight: float


def combine(
    run_epoch: int, task: ScoreTask, rewards: Sequence[Weighted], outcomes: Sequence[Outcome]
) -> Score:
    """Score of one sample from what each reward said of it, in the rewards' order."""
    pairs = list(zip(rewards, outcomes, strict=True))
    named = tuple(
        NamedReward(
            name=reward.name,
            reward=outcome.reward,
            status=outcome.status,
            seconds=outcome.seconds,
            facts=outcome.facts,
        )
        for reward, outcome in pairs
    )
    failed = [(reward.name, outcome) for reward, outcome in pairs if outcome.status != OK]
    if failed:
        detail = "; ".join(f"{name}: {outcome.failure}" for name, outcome in failed)
        return _score(run_epoch, task, named, None, failed[0][1].status, detail)
    terms = [reward.weight * said for reward, (said, *_) in pairs if said is not None]
    if not terms:
        return _score(run_epoch, task, named, None, NO_REWARD_APPLIES)
    total = math.fsum(terms)  # weights that add up to 1 give 1
    if not math.isfinite(total):
        detail = f"the weighted sum is {total}"
        return _score(run_epoch, task, named, None, REWARD_ERROR, detail)
    return _score(run_epoch, task, named, total, OK)


def _score(
    run_epoch: int,
    task: ScoreTask,
    rewards: tuple[NamedReward, ...],
    reward: float | None,
    status: str,
    detail: str = "",
) -> Score:
    return Score(
        run_epoch=run_epoch,
        group_id=task.group_id,
        attempt=task.attempt,
        sample=task.sample,
        reward=reward,
        rewards=rewards,
        status=status,
        detail=detail[:MAX_DETAIL_CHARACTERS],
    )
