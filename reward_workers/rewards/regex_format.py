"""1 where the completion has the wanted form."""

import re
from typing import Literal

from reward_workers.registry import reward


@reward("regex_format")
def regex_format(
    completions: list[str],
    *,
    pattern: re.Pattern[str],
    match: Literal["fullmatch", "search"] = "fullmatch",
) -> list[float]:
    """1.0 where the pattern matches, else 0.0.

    Python's `re` holds the whole process while it matches: a pattern that backtracks without end
    (nested repetition such as `(a+)+`) stops this reward worker.

    Args:
        completions: the sampled texts.
        pattern: a regular expression of Python's `re`; `(?s)` in front lets `.` cross lines.
        match: fullmatch: the whole completion has the form; search: some part of it has.
    """
    matches = pattern.fullmatch if match == "fullmatch" else pattern.search
    return [float(matches(completion) is not None) for completion in completions]
