"""The training loop: wait, train, publish, log, evaluate, checkpoint. Knows no algorithm."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from learner.checkpoints.best import BestCheckpoint
from learner.checkpoints.position import Position
from learner.checkpoints.writer import CheckpointWriter
from learner.digests import MASTERS, ROLLOUTS, WEIGHTS, masters_digest, rollouts_digest
from learner.disk import RETRY_SECONDS
from learner.evaluation import Evaluation, evaluated_rows, is_finite, policy_view, shown
from learner.gauges import show_batch, show_evaluations, show_step, show_warnings
from learner.guards import Guards
from learner.publishing.writer import Published, VersionWriter
from learner.records import StepClock, evaluation_row, metrics_row, rollout_rows, staleness_of
from learner.run_folder import SUMMARY, RunFolder
from learner.samples import ScoredBatch, SuiteSamples
from learner.step import StepResult, Trainer
from learner.tracker import END_SECONDS, Trackers
from protocol.config import RunConfig
from protocol.config_section import labels_of
from protocol.errors import CheckpointError, RunStopped
from protocol.metrics import Metrics

log = logging.getLogger("learner.loop")

CLOSE_SECONDS = 2.0
"""For a checkpoint that is being written when a run ends early."""


class Exchange(Protocol):
    """What the loop needs of the exchange thread."""

    def next_batch(self) -> ScoredBatch:
        """Wait for the next training batch; one without samples is the end of the data."""
        ...

    def evaluate(self) -> SuiteSamples:
        """Complete and score every held-out prompt of every suite at the current version."""
        ...

    def trained(self) -> None:
        """Note that the batch in hand was trained on: a new version is there."""
        ...

    def skip(self, reason: str) -> None:
        """Give the batch in hand up."""
        ...

    def counts(self) -> Mapping[str, float]:
        """Groups by state, what happened so far, and peers by role."""
        ...

    def last_counts(self) -> Mapping[str, float]:
        """The counts at the end of the run; Prometheus is shown nothing later."""
        ...


@dataclass
class Loop:
    """One run, from its first publication to its last checkpoint."""

    config: RunConfig
    trainer: Trainer
    exchange: Exchange
    publishing: VersionWriter
    evaluation: Evaluation
    folder: RunFolder
    metrics: Metrics
    position: Position
    facts: Mapping[str, str]
    """Stand in every checkpoint."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    trackers: Trackers = field(default_factory=Trackers)
    _guards: Guards = field(init=False)
    _writer: CheckpointWriter = field(init=False)
    _best: BestCheckpoint = field(init=False)
    _weights_digest: Future[str] = field(init=False)
    """Of the policy version, once it is packed."""
    _saved_step: int = field(init=False)
    _evaluated_step: int = field(init=False)

    def __post_init__(self) -> None:
        step = self.position.step
        self._saved_step = step or -1  # of a resumed run: its checkpoint is there,
        self._evaluated_step = step if self.folder.is_evaluated(step) else -1  # and maybe this
        self._guards = Guards(self.config, self.trainer.logprobs)
        self._best = BestCheckpoint(
            self.folder.checkpoints, self.config.checkpoints.keep_best, self.folder.evaluations()
        )
        self._writer = CheckpointWriter(
            self.folder.checkpoints, self.config, self.facts, self.folder.sync, self._best
        )

    def run(self) -> None:
        """Train until max_steps, or the end of the data.

        Raises:
            RunStopped: no progress, too many steps with non-finite numbers in a row, or a sandbox
                that fails.
            CheckpointError: the last checkpoint cannot be saved.
        """
        try:
            self._run()
            self.trackers.close(END_SECONDS)
        finally:
            self._writer.close(CLOSE_SECONDS)

    def _run(self) -> None:
        self._publish(self.position.policy_version)
        if self.config.evaluation.before_training and self.position.step == 0:
            self._evaluate()
        if 0 < self.config.run.max_steps <= self.position.step:
            log.info(
                "nothing is left to train: %d steps are done, run.max_steps is %d",
                *(self.position.step, self.config.run.max_steps),
            )
        while self.position.step < self.config.run.max_steps:
            started = self.clock()
            batch = self.exchange.next_batch()
            if not batch.samples:
                log.info("the data has ended after %d steps", self.position.step)
                break
            self._train(batch, StepClock(started, wait_seconds=self.clock() - started))
            if _due(self.position.step, self.config.evaluation.interval):
                self._evaluate()
            if _due(self.position.step, self.config.checkpoints.interval):
                self._save()
        if self.config.run.max_steps:
            self._save()  # before the evaluation: it may fail
        self._evaluate()
        self._finish_saving()
        self.folder.write_json(SUMMARY, self.exchange.last_counts())
        if self._guards.why_nothing:
            raise RunStopped(f"no step was trained: {self._guards.why_nothing}")

    def _train(self, batch: ScoredBatch, clock: StepClock) -> None:
        began = self.clock()
        self._guards.check_parity(batch.samples, self.position.policy_version)
        result = self.trainer.step(batch.samples, self.position.step, self.position.policy_version)
        clock.train_seconds = self.clock() - began
        step, version, snapshot = (
            self.position.step + 1,
            self.position.policy_version,
            batch.snapshot,
        )
        if result.skipped:
            self.exchange.skip(result.skipped)
            snapshot = snapshot.with_batch_dropped(result.skipped)
        else:
            version += 1
            began = self.clock()
            self.exchange.trained()
            self._publish(version)
            clock.publish_seconds = self.clock() - began
        self.position = Position(step, version, snapshot)
        self._record(batch, result, clock)
        self._guards.stop_if_sandbox_fails(batch.samples, f"step {step}")
        self._guards.stop_if_hopeless(batch.samples, result, step, version)

    def _publish(self, policy_version: int) -> None:
        """Let other threads make the policy a version that actors can have."""
        weights = self.trainer.parameters.masters.rounded()
        self._weights_digest = self.publishing.publish(policy_version, weights)

    def _digests(self, clock: StepClock) -> dict[str, str]:
        """Of the step that was just recorded in rollouts/."""
        rollouts = rollouts_digest(self.folder.rollouts_of(self.position.step))
        digests = {ROLLOUTS: rollouts}
        if self.config.run.deterministic:
            digests[MASTERS] = masters_digest(self.trainer.parameters.masters.arrays)
        began = self.clock()
        digests[WEIGHTS] = self._weights_digest.result()
        clock.publish_seconds += self.clock() - began
        return digests

    def _record(self, batch: ScoredBatch, result: StepResult, clock: StepClock) -> None:
        counts = self.exchange.counts()
        self.folder.write_rollouts(self.position.step, rollout_rows(batch.samples, result))
        digests = self._digests(clock)
        row = metrics_row(
            step=self.position.step,
            policy_version=self.position.policy_version,
            samples=batch.samples,
            result=result,
            clock=clock,
            now=self.clock(),
            counts=counts,
            run_epoch=int(self.facts["run_epoch"]),
            digests=digests,
        )
        row |= publish_figures(self.publishing.newest)
        self.folder.append_metrics(row)
        self.trackers.log_step(row)
        show_step(self.metrics, row, labels_of(self.config.rewards))
        lengths = [len(sample.rollout.token_ids) for sample in batch.samples]
        trained_at = self.position.policy_version - (0 if result.skipped else 1)
        show_batch(self.metrics, lengths, staleness_of(batch.samples, trained_at))
        show_warnings(self.metrics, self._guards.warn(row))
        log.debug("step %d: reward %.3f loss %s", row["step"], row["reward/mean"], row["loss"])

    def _evaluate(self) -> None:
        step, version = self.position.step, self.position.policy_version
        if not self.evaluation.plans or self._evaluated_step == step:
            return
        self._evaluated_step = step
        found, where = self.exchange.evaluate(), f"the evaluation at step {step}"
        if missing := self.evaluation.missing(found, where):
            log.warning("%s is without %d held-out prompts that were lost", where, missing)
        for samples in found:
            self._guards.stop_if_sandbox_fails(samples, where)
        results = self.evaluation.results(found, policy_view(self.trainer))
        for result in results:
            if result.samples:
                self.folder.write_evaluated(step, result.name, evaluated_rows(result.samples))
            log.info("held-out %s at step %d: %s", result.name, step, shown(result.figures))
            if not is_finite(result.figures):
                log.warning("evaluator %s gave a figure that is not finite", result.name)
        rows = [evaluation_row(step, version, r.name, r.figures, r.num_prompts) for r in results]
        self.folder.append_evaluations(rows)
        self.trackers.log_evaluations(rows)
        show_evaluations(self.metrics, rows)
        if self._best.offer(rows):
            self._save_best()

    def _save_best(self) -> None:
        """Have the checkpoint of this step, which is not deleted until a better one is there."""
        if self._saved_step == self.position.step:
            self._finish_saving()  # it was begun before anybody knew how good it is
            self._best.saved(self.position.step)
        self._save()

    def _save(self) -> None:
        if self._saved_step == self.position.step:
            return
        self._saved_step = self.position.step
        self._writer.save(self.position, self.trainer.policy, self.trainer.parameters)
        if self._writer.failed_before:  # no further without a checkpoint
            self._finish_saving()

    def _finish_saving(self) -> None:
        """Wait for the newest checkpoint; where it fails (a full disk), try again for a while."""
        began = self.clock()
        while True:
            try:
                self._writer.wait()
            except CheckpointError:
                if self.clock() - began >= self.config.learner.no_progress_seconds:
                    raise
            else:
                return
            self.sleep(RETRY_SECONDS)
            self._writer.save(self.position, self.trainer.policy, self.trainer.parameters)


def publish_figures(newest: Published | None) -> dict[str, Any]:
    """What stands in a row of the newest version that actors can have when it is written.

    That is the version before the step's own, unless it was encoded within the wait for its digest;
    null before the first. `seconds/publish` alone is the step's: how long training stood still.
    """
    return {
        "seconds/publish_encode": newest and newest.encode_seconds,
        "publish_bytes": newest and newest.payload_bytes,
        "publish_full_bytes": newest and newest.full_bytes,
    }


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
