"""How far a run is: what its folder's metrics.jsonl and eval.jsonl say, read as they grow.

Nothing here has a thread or a clock: whoever shows a run asks for news.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

from learner.jsonl_tail import JsonlTail

SERIES_ROWS = 40
"""Steps that are kept, and that a curve shows."""
MEAN_ROWS = 20
"""Steps over which the time left, and where a step's time goes, are means."""
UNKNOWN = "-"

_PARTS = ("wait", "train", "publish")


class RunProgress:
    """How far a run is, from its folder.

    Args:
        run_dir: the folder.
        max_steps: of the run.
        since: seconds since 1970; steps before are an earlier start's, and no news.
        rewards: the labels of the run's reward functions.
        wanted: processes of each role that mlx-train starts.
        page: address of the run page; empty where none is served.
    """

    def __init__(
        self,
        run_dir: Path,
        max_steps: int,
        since: float = 0.0,
        *,
        rewards: Sequence[str] = (),
        wanted: Mapping[str, int] = MappingProxyType({}),
        page: str = "",
    ) -> None:
        self.max_steps = max_steps
        self.rewards = rewards
        self.wanted = wanted
        self.page = page
        self.accuracies: list[tuple[float, int]] = []
        """(held-out accuracy, number of prompts), oldest first."""
        self._since = since
        self._rows: deque[dict[str, Any]] = deque(maxlen=SERIES_ROWS)
        self._metrics = JsonlTail(run_dir / "metrics.jsonl")
        self._evaluations = JsonlTail(run_dir / "eval.jsonl")

    def update(self) -> bool:
        """Read what is new; returns whether a step was among it."""
        for row in self._evaluations.read():
            if row.get("evaluator") == "accuracy" and is_number(row.get("accuracy")):
                count = row.get("n")
                self.accuracies.append((row["accuracy"], int(count) if is_number(count) else 0))
        steps = [row for row in self._metrics.read() if (row.get("time") or 0.0) >= self._since]
        self._rows.extend(steps)
        return bool(steps)

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.value("step") or 0)

    def value(self, key: str) -> float | None:
        """A figure of the last step; None where there is no finite one."""
        value = self._rows[-1].get(key) if self._rows else None
        return value if is_number(value) else None

    def series(self, key: str) -> list[float | None]:
        """A figure of the last steps, oldest first."""
        values = (row.get(key) for row in self._rows)
        return [value if is_number(value) else None for value in values]

    def eta_seconds(self) -> float | None:
        """Time that is left at the pace of the last steps; None before the first."""
        lengths = [value for value in self._recent("seconds/step") if value is not None]
        if not lengths:
            return None
        return sum(lengths) / len(lengths) * max(self.max_steps - self.step, 0)

    def time_shares(self) -> dict[str, float]:
        """Which share of the last steps' time went where; empty before the first."""
        total = sum(value or 0.0 for value in self._recent("seconds/step"))
        if total <= 0.0:
            return {}
        spent = {part: sum(s or 0.0 for s in self._recent(f"seconds/{part}")) for part in _PARTS}
        shares = {part: min(seconds / total, 1.0) for part, seconds in spent.items()}
        return {**shares, "other": max(1.0 - sum(shares.values()), 0.0)}

    def facts(self) -> dict[str, str]:
        """The last step's figures as text, by the word that stands before each."""
        return {
            "reward": figure(self.value("reward/mean"), ".3f"),
            "loss": figure(self.value("loss"), ".4f"),
            "tokens/s": figure(self.value("tokens_per_second"), ".0f"),
            "actors": figure(self.value("peers/actor"), ".0f"),
            "reward_workers": figure(self.value("peers/reward_worker"), ".0f"),
            "eta": duration(self.eta_seconds()),
        }

    def accuracy_line(self) -> str:
        """Held-out accuracy before -> after, with the number of prompts; empty before the first."""
        if not self.accuracies:
            return ""
        (first, num_first), (last, num_last) = self.accuracies[0], self.accuracies[-1]
        if len(self.accuracies) == 1:
            return f"held-out accuracy {first:.3f} (n {num_first})"
        count = str(num_last) if num_first == num_last else f"{num_first}, then {num_last}"
        return f"held-out accuracy {first:.3f} -> {last:.3f} ({last - first:+.3f}, n {count})"

    def _recent(self, key: str) -> list[float | None]:
        return self.series(key)[-MEAN_ROWS:]


def is_number(value: object) -> TypeGuard[float]:
    """Whether a row's value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def figure(value: float | None, form: str) -> str:
    """A number as text; a dash for what is not known."""
    return UNKNOWN if value is None else format(value, form)


def duration(seconds: float | None) -> str:
    """Seconds as `1:36` or `2:10:00`; a dash for what is not known."""
    if seconds is None:
        return UNKNOWN
    hours, minutes, rest = int(seconds) // 3600, int(seconds) // 60 % 60, int(seconds) % 60
    return (f"{hours}:{minutes:02d}" if hours else str(minutes)) + f":{rest:02d}"
