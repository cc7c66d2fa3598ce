"""Dynamic sampling: which groups of equal rewards make room for fresh prompts."""

from collections.abc import Iterable

from learner.ledger.groups import Group, GroupState


class Refills:
    """The budget of groups that may be given up for a batch, and what it is spent on.

    Source:
        DAPO, arXiv 2503.14476, section 3.2, which oversamples until a batch is full of groups whose
        rewards differ. Ours stops at a budget for each batch; then groups pass as they are, so that
        prompts that are all too hard or too easy do not stop training.
    """

    def __init__(self, max_refill_groups: int) -> None:
        self._max = max_refill_groups
        self.left = max_refill_groups
        """Groups that may still be given up for the next batch."""

    def begin(self) -> None:
        """A batch was handed over: the next one has the whole budget."""
        self.left = self._max

    def take(self, line: Iterable[Group]) -> list[Group]:
        """Returns the groups to give up now, and takes them off the budget.

        They are the first scored groups of equal rewards. Whatever stands before one of them in the
        line and is not scored may come to the same, so the budget must last for that as well: it is
        spent in the order of the line, whoever is scored first.

        Args:
            line: Training groups in the order in which they are trained: all that are in no batch,
                or those of a batch that would be handed over, which waits for nothing before them.
        """
        chosen: list[Group] = []
        candidates = (g for g in line if g.state is not GroupState.SCORED or g.rewards_are_equal)
        for _, group in zip(range(self.left), candidates, strict=False):
            if group.state is GroupState.SCORED:
                chosen.append(group)
        self.left -= len(chosen)
        return chosen
