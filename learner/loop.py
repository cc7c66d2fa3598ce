"""The training loop: wait, train, publish, log, evaluate, checkpoint. Knows no algorithm."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from learner.checkpoint import Position, prune_checkpoints, save_checkpoint
from learner.evaluator import Evaluate
from learner.gauges import show
from learner.records import StepClock, evaluation_row, metrics_row, rollout_rows
from learner.run_folder import RunFolder
from learner.samples import ScoredBatch, ScoredSample
from learner.step import StepResult, Trainer
from protocol.config import RunConfig
from protocol.errors import RunStopped
from protocol.telemetry import Metrics
from protocol.weights import PackedWeights, pack

log = logging.getLogger("learner.loop")

SANDBOX_ERROR = "sandbox_error"
MAX_SANDBOX_ERRORS = 0.005
"""Share of a batch's samples; one sample is always forgiven."""


class Exchange(Protocol):
    """What the loop needs of the exchange thread."""

    def next_batch(self) -> ScoredBatch:
        """Wait for the next training batch; one without samples is the end of the data."""
        ...

    def evaluate(self) -> tuple[ScoredSample, ...]:
        """Complete and score every held-out prompt at the current version."""
        ...

    def publish(self, packed: PackedWeights, *, trained: bool) -> None:
        """Make weights the newest version."""
        ...

    def skip(self, reason: str) -> None:
        """Give the batch in hand up."""
        ...

    def counts(self) -> dict[str, int]:
        """Groups by state, what happened so far, and peers by role."""
        ...


@dataclass
class Loop:
    """One run, from its first publication to its last checkpoint."""

    config: RunConfig
    trainer: Trainer
    exchange: Exchange
    evaluators: Mapping[str, Evaluate]
    num_heldout: int
    folder: RunFolder
    metrics: Metrics
    position: Position
    clock: Callable[[], float] = time.monotonic
    _skipped_in_row: int = 0
    _why_nothing: str = ""
    """Why the last step was skipped, as long as none was trained."""
    _saved_step: int = -1
    _evaluated_step: int = -1

    def run(self) -> None:
        """Train until max_steps, or the end of the data.

        Raises:
            RunStopped: no progress, too many steps with non-finite numbers in a row, or a sandbox
                that fails.
        """
        self.exchange.publish(pack(self.trainer.masters.rounded().items()), trained=False)
        if self.config.evaluation.before_training and self.position.step == 0:
            self._evaluate()
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
        self._evaluate()
        self._save()
        self.folder.write_json("summary.json", self.exchange.counts())
        if self._why_nothing:
            raise RunStopped(f"no step was trained: {self._why_nothing}")

    def _train(self, batch: ScoredBatch, clock: StepClock) -> None:
        began = self.clock()
        result = self.trainer.step(batch.samples, self.position.step)
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
            self._publish(clock)
        self.position = Position(step, version, snapshot)
        self._record(batch, result, clock)
        self._stop_if_sandbox_fails(batch.samples, f"step {step}")
        self._stop_if_hopeless(batch, result)

    def _publish(self, clock: StepClock) -> None:
        began = self.clock()
        packed = pack(self.trainer.masters.rounded().items())
        self.exchange.publish(packed, trained=True)
        clock.publish_seconds = self.clock() - began
        clock.publish_bytes = len(packed.data)

    def _record(self, batch: ScoredBatch, result: StepResult, clock: StepClock) -> None:
        counts = self.exchange.counts()
        row = metrics_row(
            step=self.position.step,
            policy_version=self.position.policy_version,
            samples=batch.samples,
            result=result,
            clock=clock,
            now=self.clock(),
            counts=counts,
        )
        self.folder.write_rollouts(self.position.step, rollout_rows(batch.samples, result))
        self.folder.append_metrics(row)
        show(self.metrics, row, counts)
        log.debug("step %d: reward %.3f loss %s", row["step"], row["reward/mean"], row["loss"])

    def _stop_if_sandbox_fails(self, samples: Sequence[ScoredSample], where: str) -> None:
        """A few faults of the sandbox are bad luck; more would leave out what happened to fail."""
        details = [s.score.detail for s in samples if s.score.status == SANDBOX_ERROR]
        if len(details) > max(1, MAX_SANDBOX_ERRORS * len(samples)):
            raise RunStopped(
                f"the sandbox failed on {len(details)} of {len(samples)} samples of {where}, "
                f"the last: {details[-1]}"
            )

    def _stop_if_hopeless(self, batch: ScoredBatch, result: StepResult) -> None:
        if not result.skipped:
            self._skipped_in_row, self._why_nothing = 0, ""
            return
        self._skipped_in_row += 1
        reason = why_skipped(batch.samples, result)
        if self.position.policy_version == 0:
            self._why_nothing = reason
        log.warning("step %d is skipped: %s", self.position.step, reason)
        if self._skipped_in_row >= self.config.learner.max_skipped_in_row:
            raise RunStopped(f"{self._skipped_in_row} steps in a row were skipped: {reason}")

    def _evaluate(self) -> None:
        if not self.num_heldout or self._evaluated_step == self.position.step:
            return
        self._evaluated_step = self.position.step
        samples = self.exchange.evaluate()
        if not samples:
            raise RunStopped(
                f"the evaluation at step {self.position.step} lost all {self.num_heldout} prompts: "
                "the actors' log says why"
            )
        self._stop_if_sandbox_fails(samples, f"the evaluation at step {self.position.step}")
        if len(samples) < self.num_heldout:
            log.warning("only %d of %d held-out prompts", len(samples), self.num_heldout)
        for name, evaluate in self.evaluators.items():
            figures = evaluate(samples)
            row = evaluation_row(
                self.position.step, self.position.policy_version, name, figures, len(samples)
            )
            self.folder.append_evaluation(row)
            shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
            log.info("held-out %s at step %d: %s", name, self.position.step, shown)
            if any(not math.isfinite(value) for value in figures.values()):
                log.warning("evaluator %s gave a figure that is not finite", name)

    def _save(self) -> None:
        if self._saved_step == self.position.step:
            return
        self._saved_step = self.position.step
        path = save_checkpoint(
            self.folder.checkpoints,
            self.position,
            self.trainer.policy,
            self.trainer.masters,
            self.trainer.optimizer,
            self.config,
        )
        prune_checkpoints(path, self.config.checkpoints.keep_last)
        log.info("saved %s", path)


def why_skipped(samples: Sequence[ScoredSample], result: StepResult) -> str:
    """Say why a step was skipped, and what to do."""
    if result.skipped == "masked":
        (status, detail), count = Counter(
            (sample.score.status, sample.score.detail) for sample in samples
        ).most_common(1)[0]
        return (
            f"no sample has a reward, {count} of {len(samples)} for {status} ({detail}): mend the "
            "reward function; rollouts/ has each sample's status"
        )
    figures = ", ".join(f"{name} {value:.4g}" for name, value in result.metrics.items())
    return f"{result.skipped} ({figures}): lower learner.optimizer.learning_rate"


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
