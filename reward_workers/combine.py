"""Several rewards of one completion -> one score.

The score is the weighted sum over the rewards that apply. A sample that any reward failed on, or
that none applies to, is masked with a status: it never counts as a reward of 0.
"""

import math
import time
from collections.abc import Callable, Sequence

from protocol.errors import RewardError
from protocol.messages import NamedReward, Score, ScoreTask
from reward_workers.binding import BoundReward
from reward_workers.calling import Outcome, call_reward, describe
from reward_workers.failures import Failures
from reward_workers.rows import Row, read_row

OK = "ok"
NO_REWARD_APPLIES = "no_reward_applies"
REWARD_ERROR = "reward_error"

MAX_DETAIL_CHARACTERS = 1000


class Scorer:
    """Scores completions with the rewards of a config. Used by several threads at once.

    Args:
        rewards: in the config's order.
        failures: counts and logs what fails.
        clock: seconds, for the durations that are reported.
    """

    def __init__(
        self,
        rewards: Sequence[BoundReward],
        failures: Failures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rewards = rewards
        self._failures = failures
        self._clock = clock

    def score(self, run_epoch: int, tasks: Sequence[ScoreTask]) -> list[Score]:
        """One score for each task, in the tasks' order, whatever the reward functions do."""
        scores: dict[int, Score] = {}
        alike: dict[frozenset[str], list[tuple[int, Row]]] = {}
        for index, task in enumerate(tasks):
            try:
                row = read_row(task)
            except RewardError as error:
                self._failures.record("task", describe(error))
                scores[index] = _masked(run_epoch, task, (), REWARD_ERROR, describe(error))
            else:
                alike.setdefault(frozenset(row.columns), []).append((index, row))
        for members in alike.values():
            outcomes = self._outcomes([row for _, row in members])
            for (index, _), of_sample in zip(members, outcomes, strict=True):
                scores[index] = combine(run_epoch, tasks[index], self._rewards, of_sample)
        return [scores[index] for index in range(len(tasks))]

    def _outcomes(self, rows: list[Row]) -> list[tuple[Outcome, ...]]:
        """[row][reward], rows of the same columns."""
        by_reward = [call_reward(reward, rows, self._clock) for reward in self._rewards]
        for reward, outcomes in zip(self._rewards, by_reward, strict=True):
            for outcome in outcomes:
                if outcome.failure:
                    self._failures.record(reward.name, outcome.failure)
        return list(zip(*by_reward, strict=True))


def combine(
    run_epoch: int, task: ScoreTask, rewards: Sequence[BoundReward], outcomes: Sequence[Outcome]
) -> Score:
    """Score of one sample from what each reward said of it."""
    pairs = list(zip(rewards, outcomes, strict=True))
    named = tuple(
        NamedReward(
            name=reward.name,
            reward=outcome.reward,
            status=REWARD_ERROR if outcome.failure else OK,
            seconds=max(outcome.seconds, 0.0),
        )
        for reward, outcome in pairs
    )
    failed = [f"{reward.name}: {outcome.failure}" for reward, outcome in pairs if outcome.failure]
    if failed:
        return _masked(run_epoch, task, named, REWARD_ERROR, "; ".join(failed))
    terms = [reward.weight * said for reward, (said, *_) in pairs if said is not None]
    if not terms:
        return _masked(run_epoch, task, named, NO_REWARD_APPLIES)
    total = sum(terms)
    if not math.isfinite(total):
        return _masked(run_epoch, task, named, REWARD_ERROR, f"the weighted sum is {total}")
    return Score(
        run_epoch=run_epoch,
        group_id=task.group_id,
        attempt=task.attempt,
        sample=task.sample,
        reward=total,
        rewards=named,
        status=OK,
    )


def _masked(
    run_epoch: int,
    task: ScoreTask,
    rewards: tuple[NamedReward, ...],
    status: str,
    detail: str = "",
) -> Score:
    return Score(
        run_epoch=run_epoch,
        group_id=task.group_id,
        attempt=task.attempt,
        sample=task.sample,
        reward=None,
        rewards=rewards,
        status=status,
        detail=detail[:MAX_DETAIL_CHARACTERS],
    )
