"""What a step's replay found: differences, each with its place, and what could not be compared."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

Part = Literal[
    "config",
    "rollouts",
    "rewards",
    "advantages",
    "logprobs",
    "batch",
    "figures",
    "weights",
    "masters",
]
"""In the order in which one leads to the next. rollouts: what the step was computed from; batch:
what its row of metrics.jsonl says of rollouts and rewards; figures: what it says of the step."""

LEGEND = "found: in the folder; wanted: computed again"
"""Of a difference."""

MAX_SHOWN = 10
"""Differences of one part of a step that are shown one by one."""
_MAX_TEXT = 80


class Difference(NamedTuple):
    """One value of the run folder that is not what was computed again."""

    part: Part
    where: str
    key: str
    found: object
    """In the run folder."""
    wanted: object
    """As computed again."""

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: found {_short(self.found)}, wanted {_short(self.wanted)}"


@dataclass
class Verdict:
    """One step's."""

    step: int
    compared: dict[Part, str] = field(default_factory=dict)
    """Parts that were compared, each with what to say of it if all agreed."""
    left_out: dict[Part, str] = field(default_factory=dict)
    """Parts that were not compared, each with the reason."""
    differences: list[Difference] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    @property
    def has_other_weights(self) -> bool:
        """Whether the step led elsewhere: by its digests, or by its figures where it has none."""
        differ = {difference.part for difference in self.differences}
        told_by: set[Part] = {"weights", "masters"}
        return bool(differ & (told_by if told_by & self.compared.keys() else {"figures"}))

    def add(self, part: Part, where: str, key: str, found: object, wanted: object) -> None:
        """Note a difference."""
        self.differences.append(Difference(part, where, key, found, wanted))

    def lines(self) -> list[str]:
        """One line, and an indented one for each difference and remark."""
        counts = Counter(difference.part for difference in self.differences)
        told = [_told(part, self, counts[part]) for part in get_args(Part)]
        lines = [f"step {self.step}: {', '.join(filter(None, told))}"]
        shown: Counter[str] = Counter()
        in_order = get_args(Part)
        for difference in sorted(self.differences, key=lambda found: in_order.index(found.part)):
            shown[difference.part] += 1
            if shown[difference.part] <= MAX_SHOWN:
                lines.append(f"  {difference}")
        lines += [
            f"  and {count - MAX_SHOWN} more of {part}"
            for part, count in counts.items()
            if count > MAX_SHOWN
        ]
        return [*lines, *(f"  {remark}" for remark in self.remarks)]


def _told(part: Part, verdict: Verdict, num_differences: int) -> str:
    if num_differences:
        return f"{part} DIFFER ({num_differences})"
    if part in verdict.compared:
        return f"{part} ok {verdict.compared[part]}".rstrip()
    return f"{part} not compared ({verdict.left_out[part]})" if part in verdict.left_out else ""


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
