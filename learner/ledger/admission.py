"""How far training may be off-policy: which groups may start, and which make the next batch.

Both halves ask the same question. A group that is the k-th in line is trained k // groups_per_step
batches from now, when the policy is that many versions further; its staleness then must not exceed
max_off_policy_steps. Admission asks it of a group that would join at the end of the line; the
hand-over asks it of everything that the batch would leave behind.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from learner.ledger.groups import Group


@dataclass(frozen=True, slots=True)
class LedgerLimits:
    """The numbers that the ledger keeps to."""

    groups_per_step: int
    group_size: int
    max_off_policy_steps: int
    """0 is synchronous."""
    max_attempts: int = 10
    """A group that used up as many is dropped."""
    max_completion_tokens: int = 2**40
    """An actor that claims to have sampled more is not believed."""
    lease_seconds: float = 60.0
    """A lease without progress for so long is given up."""
    score_seconds: float = 120.0
    """A sample that a reward worker has had for so long goes to another."""
    max_score_attempts: int = 3
    """A sample that ran out of time as often is masked."""
    prompts_low_water: int = 32
    """Ready prompts to keep on hand."""
    max_refill_groups: int = 0
    """Groups of equal rewards that may be given up for each batch; 0 is none."""
    no_resampling_pass_rate: float | None = None
    """A prompt retires once this share of its group's valid rewards passed; None is never."""
    pass_reward: float = 1.0
    """A reward that is at least this passed."""
    deterministic: bool = False
    """Nothing is masked or dropped because of a timeout or a crash: the run ends instead."""


def oldest_admissible_version(limits: LedgerLimits, policy_version: int, in_flight: int) -> int:
    """Returns the oldest version that an actor may hold to be granted the next training group.

        policy_version + in_flight // groups_per_step - version <= max_off_policy_steps

    No actor holds a version above `policy_version`, so this also keeps the groups in flight to at
    most (max_off_policy_steps + 1) * groups_per_step.

    Args:
        limits: The limits of the run.
        policy_version: The learner's.
        in_flight: Training groups that are leased, scoring, scored or handed over.
    """
    batches_ahead = in_flight // limits.groups_per_step
    return max(0, policy_version + batches_ahead - limits.max_off_policy_steps)


def training_order(groups: Iterable[Group], policy_version: int) -> list[Group]:
    """Returns open groups in the order in which they are trained: oldest version first.

    A group that waits for an actor counts as one of `policy_version`.
    """

    def place(group: Group) -> tuple[int, int]:
        version = group.oldest_version if group.holder else policy_version
        return version, group.group_id

    return sorted(groups, key=place)


def stale_groups(scored: Iterable[Group], policy_version: int, limits: LedgerLimits) -> list[Group]:
    """Returns the groups that are too old to be trained on at `policy_version`: the hard bound.

    `choose_batch` lets no group come to this; it stands by itself so that no mistake there, and no
    limit that changed on a resume, can train on what is too old.
    """
    oldest = policy_version - limits.max_off_policy_steps
    return [group for group in scored if group.oldest_version < oldest]


def choose_batch(
    scored: Iterable[Group],
    unfinished: Iterable[Group],
    policy_version: int,
    limits: LedgerLimits,
    final: bool = False,
) -> list[Group] | None:
    """Returns the next batch, oldest version first, or None to wait.

    The batch waits for unfinished groups that could no longer be trained in time after it.
    Otherwise slow groups would be thrown away as stale more often than fast ones, and training
    would drift to short completions. Admission keeps everything in flight trainable in the order
    of its age, and so does every batch chosen here: no group becomes stale.

    It cannot wait forever. Every unfinished group is with a lease or a scoring assignment, and both
    end: in a score or at a deadline. A group leased meanwhile adds nothing to wait for: admission
    let it join the line only behind the batch, where it is in time. A batch in hand waits for
    nobody.

    Args:
        scored: Groups ready to train on, none of them stale.
        unfinished: Training groups that are leased or scoring.
        policy_version: The version that the batch would be trained at.
        limits: The limits of the run.
        final: No further group will come: a smaller batch, even an empty one, may go.
    """
    step = limits.groups_per_step
    in_order = training_order(scored, policy_version)
    if len(in_order) < step and not final:
        return None
    # Scored groups that are left behind are no older than the batch and fit by admission.
    left = sorted(group.oldest_version for group in unfinished)
    in_time = all(
        policy_version + 1 + place // step - version <= limits.max_off_policy_steps
        for place, version in enumerate(left)
    )
    return in_order[:step] if in_time else None
