"""What one row of the table is: two sides measured in turn, and the arithmetic on them.

    class Decoding(Row):
        name, unit, better = "engine/short", "tokens/s", "higher"
        rival_name, reach = "mlx_lm.batch_generate", 1.3

        def prepare(self): ...          # load, warm both sides up; not measured
        def ours(self) -> float: ...    # one measurement
        def rival(self) -> float: ...   # the same work, done by the rival

    ROWS = [Decoding()]

A module in rows/ lists its rows (instances, of nothing heavy yet) in `ROWS`. It imports neither mlx
nor a rival at its top: the table only looks at the names, and each row is measured in a process of
its own.
"""

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]


class Row(ABC):
    """One comparison. Only in the row's own process is it prepared and measured."""

    name: str = ""
    """As in results.json: family/what."""
    unit: str = ""
    better: Better = "higher"
    """Whether more of the unit is better (tokens/s) or less (seconds, bytes)."""
    rival_name: str = ""
    reach: float = 0.0
    """The ratio that is wanted."""
    blas_threads: int = 2
    """OPENBLAS_NUM_THREADS in the row's environment, so that of all that it starts: the same for
    both sides."""
    note: str = ""
    """How it was measured, for results.json; `prepare` and the sides may add to it."""

    def prepare(self) -> None:  # noqa: B027 - a row may have nothing to prepare
        """Load and warm both sides up."""

    @abstractmethod
    def ours(self) -> float:
        """One measurement of our side."""

    @abstractmethod
    def rival(self) -> float:
        """One measurement of the rival's side."""

    def close(self) -> None:  # noqa: B027 - a row may hold nothing
        """End what was started."""

    def profile(self) -> str:
        """Where our time goes, as text; "" where there is no such view."""
        return ""


class WorstOf(Row):
    """Several comparisons of which the worst counts, such as 1, 4 and 8 receivers.

    Its own sides are never called: `measure` looks into `cases`.
    """

    @abstractmethod
    def cases(self) -> Sequence[tuple[str, Row]]:
        """Each case with its label; made after `prepare`."""

    def ours(self) -> float:
        """Not measured by itself."""
        raise NotImplementedError

    def rival(self) -> float:
        """Not measured by itself."""
        raise NotImplementedError


@dataclass(frozen=True)
class Result:
    """A measured row, as results.json keeps it."""

    ours: float
    """Median of the rounds."""
    rival: float
    """Median of the rounds."""
    ratio: float
    """Higher is better for us: of medians, ours / rival, or rival / ours where less is better."""
    spread: tuple[float, float]
    """Least and largest ratio of a single round."""
    unit: str
    note: str
    rival_name: str
    reach: float
    rounds: int
    seconds: float
    """What the measuring took, with preparation."""


def ratio_of(ours: float, rival: float, better: Better) -> float:
    """How many times better we are."""
    return ours / rival if better == "higher" else rival / ours


def summarize(row: Row, ours: Sequence[float], rival: Sequence[float], seconds: float) -> Result:
    """Medians of both sides, their ratio, and how far single rounds are from it."""
    per_round = [
        ratio_of(mine, theirs, row.better) for mine, theirs in zip(ours, rival, strict=True)
    ]
    medians = statistics.median(ours), statistics.median(rival)
    return Result(
        *medians,
        ratio=ratio_of(*medians, row.better),
        spread=(min(per_round), max(per_round)),
        unit=row.unit,
        note=row.note,
        rival_name=row.rival_name,
        reach=row.reach,
        rounds=len(ours),
        seconds=seconds,
    )


def measure(row: Row, rounds: int, clock: Callable[[], float] = time.perf_counter) -> Result:
    """Prepare, measure ours and the rival in turn, close."""
    began = clock()
    try:
        row.prepare()
        if isinstance(row, WorstOf):
            return _worst(row, rounds, clock)
        ours: list[float] = []
        rival: list[float] = []
        for _ in range(rounds):
            ours.append(row.ours())
            rival.append(row.rival())
        return summarize(row, ours, rival, clock() - began)
    finally:
        row.close()


def _worst(row: WorstOf, rounds: int, clock: Callable[[], float]) -> Result:
    began = clock()
    results = [(label, measure(case, rounds, clock)) for label, case in row.cases()]
    _, worst = min(results, key=lambda each: each[1].ratio)
    ratios = ", ".join(f"{label}: {result.ratio:.2f}" for label, result in results)
    return Result(
        worst.ours,
        worst.rival,
        worst.ratio,
        worst.spread,
        row.unit,
        f"worst of {ratios}. {row.note}".strip(),
        row.rival_name,
        row.reach,
        rounds,
        clock() - began,
    )
