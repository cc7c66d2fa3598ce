"""What ends a run that cannot go well, and what warns of one that goes badly."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from learner.health import Health
from learner.parity import check_parity, sampled_under
from learner.parity_causes import Logprobs
from learner.samples import ScoredSample
from learner.step import NO_ADVANTAGE, StepResult
from protocol.config import RunConfig
from protocol.errors import RunStopped

log = logging.getLogger("learner.guards")

SANDBOX_ERROR = "sandbox_error"
MAX_SANDBOX_ERRORS = 0.005
"""Share of a batch's samples; one sample is always forgiven."""
PARITY_BATCHES = 3
"""The first ones, in which parity is checked until enough tokens were compared."""


@dataclass
class Guards:
    """Watches one run; raises RunStopped where it must not go on."""

    config: RunConfig
    logprobs: Callable[[Sequence[ScoredSample], float], Logprobs]
    """The learner's at a temperature."""
    why_nothing: str = ""
    """Why the last step was skipped, as long as none was trained."""
    _skipped_in_row: int = 0
    _batches_checked: int = 0
    _health: Health = field(init=False)

    def __post_init__(self) -> None:
        self._health = Health(self.config)

    def check_parity(self, samples: Sequence[ScoredSample], policy_version: int) -> None:
        """Compare actors and learner in the first batches, before anything is trained on them.

        Raises:
            RunStopped: they disagree.
        """
        own = sampled_under(samples, policy_version)
        if self._batches_checked >= PARITY_BATCHES or not own:
            return
        self._batches_checked += 1
        logprobs = self.logprobs(own, self.config.generation.temperature)
        parity = check_parity(own, logprobs, policy_version, self.config, self.logprobs)
        if parity.is_sure:
            self._batches_checked = PARITY_BATCHES
            log.info(
                "actors and learner agree on %d tokens: mismatch KL %.2g nats, at most %.2g apart",
                parity.num_tokens,
                parity.mismatch_kl,
                parity.max_difference,
            )

    def stop_if_sandbox_fails(self, samples: Sequence[ScoredSample], where: str) -> None:
        """A few faults of the sandbox are bad luck; more would leave out what happened to fail."""
        details = [s.score.detail for s in samples if s.score.status == SANDBOX_ERROR]
        if len(details) > max(1, MAX_SANDBOX_ERRORS * len(samples)):
            raise RunStopped(
                f"the sandbox failed on {len(details)} of {len(samples)} samples of {where}, "
                f"the last: {details[-1]}"
            )

    def stop_if_hopeless(
        self, samples: Sequence[ScoredSample], result: StepResult, step: int, policy_version: int
    ) -> None:
        """Too many skipped steps in a row end the run; equal rewards may go on for a while."""
        if not result.skipped:
            self._skipped_in_row, self.why_nothing = 0, ""
            return
        reason = why_skipped(samples, result)
        if policy_version == 0:
            self.why_nothing = reason
        if result.skipped == NO_ADVANTAGE:
            log.info("step %d is skipped: %s", step, reason)
            return
        self._skipped_in_row += 1
        log.warning("step %d is skipped: %s", step, reason)
        if self._skipped_in_row >= self.config.learner.max_skipped_in_row:
            raise RunStopped(f"{self._skipped_in_row} steps in a row were skipped: {reason}")

    def warn(self, row: Mapping[str, Any]) -> list[str]:
        """Log what a row of metrics says of the run's health; returns the symptoms that last."""
        for warning in self._health.warnings(row):
            log.warning("step %d: %s", row["step"], warning)
        return self._health.lasting


def why_skipped(samples: Sequence[ScoredSample], result: StepResult) -> str:
    """Say why a step was skipped, and what to do."""
    if result.skipped == NO_ADVANTAGE:
        return "the rewards in every group are equal, there is nothing to learn from them"
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
