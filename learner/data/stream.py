"""The order without end in which training prompts are drawn."""

import random
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

from learner.data.sources import Row
from protocol.config_data import DataSection, Order


class Stream(Protocol):
    """Which training row stands at each index; the index is the group's id in the ledger.

    A pure function of what it was made of: what stands at an index depends on nothing that was
    asked before, so that a resumed run, an audit and a replay find the same.
    """

    def prompt_at(self, index: int) -> int | None:
        """Row at an index of the stream, or None after the last epoch."""
        ...

    def epoch_at(self, index: int) -> tuple[int, int]:
        """Source and pass that an index belongs to; no row comes twice in one."""
        ...


def prompt_stream(data: DataSection, rows: Iterable[Row], seed: int) -> Stream:
    """The order of a run's training prompts.

    Args:
        data: the run's section.
        rows: the training rows, source by source, those that are too long left out.
        seed: of the order.
    """
    counted = Counter(row.source for row in rows)
    sizes = [counted[index] for index in range(len(data.train))]
    if data.weights is None:
        return PromptStream(sum(sizes), seed, data.epochs, order=data.order, sizes=sizes)
    return MixedStream(sizes, data.weights, seed, order=data.order)


class PromptStream:
    """Epoch after epoch, each a permutation of its own.

    Args:
        num_prompts: training rows; of none the stream ends at once.
        seed: of the order.
        epochs: passes over the rows; None goes on without end.
        order: within an epoch.
        sizes: rows of each source, for the order by_source.
    """

    def __init__(
        self,
        num_prompts: int,
        seed: int | str,
        epochs: int | None = None,
        *,
        order: Order = "shuffled",
        sizes: Sequence[int] = (),
    ) -> None:
        self._num_prompts = num_prompts
        self._seed = seed
        self._epochs = epochs
        self._order = order
        self._source_of = [source for source, size in enumerate(sizes) for _ in range(size)]
        self._permutation = lru_cache(maxsize=2)(self._permute)  # re-issues reach back one epoch

    def prompt_at(self, index: int) -> int | None:
        """Row at an index of the stream, or None after the last epoch."""
        if not self._num_prompts:
            return None
        epoch, place = divmod(index, self._num_prompts)
        if self._epochs is not None and epoch >= self._epochs:
            return None
        return self._permutation(epoch)[place]

    def epoch_at(self, index: int) -> tuple[int, int]:
        """(0, epoch): all sources are passed over together."""
        return 0, index // self._num_prompts

    def _permute(self, epoch: int) -> list[int]:
        rows = list(range(self._num_prompts))
        if self._order != "given":
            random.Random(f"prompts/{self._seed}/{epoch}").shuffle(rows)  # noqa: S311 - no secret
        if self._order == "by_source":
            rows.sort(key=self._source_of.__getitem__)
        return rows


class MixedStream:
    """Sources that take turns by their weights, each epoch after epoch by itself.

    Every index goes to the source that is the furthest behind its share, the first of several. So
    batches are mixed alike: of two sources, each has within one group of its share of any beginning
    of the stream.

    Args:
        sizes: rows of each source; one without rows has no turn.
        weights: of each source.
        seed: of the orders within the sources.
        order: within each source: shuffled, or given.
    """

    def __init__(
        self, sizes: Sequence[int], weights: Sequence[float], seed: int, *, order: Order
    ) -> None:
        self._sizes = sizes
        self._weights = [w if size else 0.0 for w, size in zip(weights, sizes, strict=True)]
        self._first = [0, *accumulate(sizes)]
        self._parts = [
            PromptStream(size, f"{seed}/{source}", order=order) for source, size in enumerate(sizes)
        ]
        self._turns = [0] * len(sizes)
        self._sources = array("H")
        self._nth = array("Q")
        """Source of each index so far, and its how-manieth turn that is."""

    def prompt_at(self, index: int) -> int | None:
        """Row at an index of the stream; it has no end."""
        if not sum(self._sizes):
            return None
        self._extend(index)
        source = self._sources[index]
        row = self._parts[source].prompt_at(self._nth[index])
        assert row is not None
        return self._first[source] + row

    def epoch_at(self, index: int) -> tuple[int, int]:
        """Source of an index, and the pass over its rows."""
        self._extend(index)
        source = self._sources[index]
        return source, self._nth[index] // self._sizes[source]

    def _extend(self, index: int) -> None:
        total = sum(self._weights)
        for made in range(len(self._sources), index + 1):
            behind = [
                (made + 1) * weight - turns * total if weight else float("-inf")
                for weight, turns in zip(self._weights, self._turns, strict=True)
            ]
            source = behind.index(max(behind))
            self._sources.append(source)
            self._nth.append(self._turns[source])
            self._turns[source] += 1
