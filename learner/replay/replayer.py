"""Steps of a run, one after another, each computed again from its file of rollouts."""

import logging
from typing import NamedTuple

from learner.checkpoints.restore import restore_checkpoint
from learner.checkpoints.retention import checkpoints_in
from learner.digests import MASTERS, ROLLOUTS, WEIGHTS, masters_digest, rollouts_digest
from learner.replay.compare import (
    compare_batch,
    compare_figures,
    compare_rewards,
    compare_rollouts,
    widest_gap,
)
from learner.replay.configured import Configured
from learner.replay.rebuild import Rebuilder, Rebuilt
from learner.replay.recorded import Recorded, Row
from learner.replay.rescorer import requests_of
from learner.replay.verdict import Part, Verdict
from learner.step import StepResult
from protocol.errors import CheckpointError, ConfigError
from protocol.weights import pack

log = logging.getLogger("learner.replay")

NO_DIGEST = "no digest recorded"
_SHOWN_DIGITS = 8


class Reached(NamedTuple):
    """How far the replay is."""

    step: int
    policy_version: int


class Replayer:
    """Computes steps again; the weights go from one to the next.

    Args:
        recorded: the run.
        configured: of the run's model, as it was before the first step.
        rebuilder: of the run's data.
    """

    def __init__(self, recorded: Recorded, configured: Configured, rebuilder: Rebuilder) -> None:
        self._recorded = recorded
        self._configured = configured
        self._rebuilder = rebuilder
        self._reached = Reached(0, 0)
        self._astray = 0
        """The last step whose weights differ, while its successors begin with them."""

    def begin_before(self, step: int) -> int:
        """Take the newest whole checkpoint before a step, or else the model; returns its step.

        Raises:
            ConfigError: steps are missing from there on.
        """
        found = checkpoints_in(self._recorded.checkpoints)
        if not any(self._take(number) for number in reversed(found) if number < step):
            first = self._recorded.first
            if first > 1:
                raise ConfigError(
                    f"{self._recorded.path} begins with step {first} and has no whole checkpoint "
                    f"before step {step}: choose a later --step"
                )
        return self._reached.step

    def skip_to(self, step: int) -> int | None:
        """Take the first whole checkpoint from a step on; returns its step, None without one."""
        found = checkpoints_in(self._recorded.checkpoints)
        taken = any(self._take(number) for number in found if number >= step)
        return self._reached.step if taken else None

    def replay(self, step: int) -> Verdict | None:
        """Compute the next step again; None where that cannot be, since one before it could not."""
        if step != self._reached.step + 1:
            return None
        verdict, row = Verdict(step), self._recorded.steps.get(step, {})
        if not row:
            verdict.add("figures", "metrics.jsonl", "row", "none", f"one of step {step}")
        rebuilt = self._rebuild(step, row, verdict) if self._follow(step, verdict) else None
        if rebuilt is not None:
            self._compute(rebuilt, row, verdict)
        is_lost = rebuilt is None or verdict.has_other_weights
        self._astray = step if is_lost else 0
        if is_lost:
            self._take(step, only_if_there=True)
        return verdict

    def _follow(self, step: int, verdict: Verdict) -> bool:
        """Take over the config of a step; False, with a difference, where nothing can go on so."""
        before = self._configured.config
        try:
            self._configured.follow(config := self._recorded.config_of(step))
        except CheckpointError:
            found = self._recorded.config_of(step).algorithm.name
            where = f"run epoch {self._recorded.run_epoch_of(step)}"
            wanted = f"one that goes on from {before.algorithm.name}: both or neither with a critic"
            verdict.add("config", where, "algorithm.name", found, wanted)
            return False
        if config != before:
            verdict.remarks.append(
                f"with the config of run epoch {self._recorded.run_epoch_of(step)}"
            )
        return True

    def _rebuild(self, step: int, row: Row, verdict: Verdict) -> Rebuilt | None:
        path = self._recorded.rollouts(step)
        try:
            content = path.read_bytes()
        except OSError as error:
            verdict.add("rollouts", str(path), "file", error.strerror, "the step's rollouts")
            return None
        if ROLLOUTS in row and row[ROLLOUTS] != (found := rollouts_digest(content)):
            told = f"{row[ROLLOUTS]} (says metrics.jsonl)"
            verdict.add("rollouts", path.name, ROLLOUTS, found, told)
        return self._rebuilder.rebuild(content, verdict)

    def _compute(self, rebuilt: Rebuilt, row: Row, verdict: Verdict) -> None:
        step, version = self._reached
        trainer, rescorer = self._configured.trainer, self._configured.rescorer
        config = self._configured.config
        if rescorer is not None:
            rescorer.ask(requests_of(rebuilt))
        temperature = config.generation.temperature
        suspected = not verdict.agrees
        before = trainer.logprobs(rebuilt.samples, temperature) if suspected else None
        result = trainer.step(rebuilt.samples, step, version)
        self._reached = Reached(step + 1, version + (not result.skipped))
        compare_rollouts(rebuilt, result, verdict)
        if ROLLOUTS not in row:
            verdict.compared["rollouts"] = f"({NO_DIGEST})"
        self._compare_result(rebuilt, result, row, verdict)
        if rescorer is None:
            verdict.left_out["rewards"] = "--no-rewards"
        else:
            answers = rescorer.answers(len(rebuilt.samples))
            is_deterministic = config.run.deterministic
            compare_rewards(rebuilt.rows, answers, verdict, deterministic=is_deterministic)
        if self._astray and not verdict.agrees:
            verdict.remarks.append(f"begins with the weights of step {self._astray}, which differ")
        elif _is_unexplained(verdict):
            gap = widest_gap(rebuilt.samples, before or result.logprobs)
            verdict.remarks.extend([gap] if gap else [])

    def _compare_result(
        self, rebuilt: Rebuilt, result: StepResult, row: Row, verdict: Verdict
    ) -> None:
        if row:
            version = self._reached.policy_version
            compare_batch(row, rebuilt, result, version, verdict)
            compare_figures(row, result, version, verdict)
        masters = self._configured.trainer.parameters.masters
        self._compare_digest(
            "weights", WEIGHTS, pack(masters.rounded().items()).digest, row, verdict
        )
        if MASTERS in row:
            self._compare_digest("masters", MASTERS, masters_digest(masters.arrays), row, verdict)

    def _compare_digest(self, part: Part, key: str, again: str, row: Row, verdict: Verdict) -> None:
        if key not in row:
            verdict.left_out[part] = NO_DIGEST
            return
        verdict.compared[part] = f"{again[:_SHOWN_DIGITS]}..."
        if row[key] != again:
            verdict.add(part, "metrics.jsonl", key, row[key], again)

    def _take(self, step: int, *, only_if_there: bool = False) -> bool:
        """Go on from a checkpoint as the step after it did; a bad one is told and passed over."""
        recorded = self._recorded
        if only_if_there and step not in checkpoints_in(recorded.checkpoints):
            return False
        config = recorded.config_of(step + 1)
        trainer = self._configured.trainer_for(config)
        try:
            restored = restore_checkpoint(recorded.checkpoints, trainer.parameters, config, step)
        except (CheckpointError, ConfigError) as error:
            log.warning("%s", error)
            return False
        assert restored is not None
        self._configured.use(trainer, config)
        self._reached = Reached(restored.position.step, restored.position.policy_version)
        self._astray = 0
        return True


def _is_unexplained(verdict: Verdict) -> bool:
    """The step's computation differs, and no rollout of the step is named yet."""
    named = any(difference.where.startswith("group ") for difference in verdict.differences)
    computed = any(difference.part != "batch" for difference in verdict.differences)
    return computed and not named
