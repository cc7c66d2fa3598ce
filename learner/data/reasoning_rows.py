"""Rows of reasoning-gym's tasks, made by a process of its own.

A process of its own with a fixed hash seed, because some tasks draw from sets and would otherwise
make other rows in every run; and because the library is large, prints, and is of no use later.

Which split a row belongs to is a fixed property of its question, so no seed or count can move a
held-out prompt into the training set.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from hashlib import blake2b
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, Protocol, cast

from protocol.errors import DataError

Split = Literal["train", "heldout"]

HELDOUT_ONE_IN = 8
"""One in this many questions is held out."""
MAX_DRAWS_A_ROW = 40
"""Draws for each wanted row (8 for a held-out one, if no question comes twice)."""
MAX_SECONDS = 600.0
HASH_SEED = "0"


class Dataset(Protocol):
    """What is used of a reasoning-gym task."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The row of an index: question, answer and metadata."""
        ...

    def score_answer(self, answer: Any, entry: dict[str, Any]) -> object:  # noqa: ANN401
        """What the task says of an answer."""
        ...


def reasoning_rows(
    spec: str, task: str, options: Mapping[str, str], split: Split, seed: int
) -> list[tuple[str, dict[str, Any]]]:
    """Draws distinct rows of one split of a task, in a process of its own.

    Args:
        spec: the source as the config names it, for messages.
        task: a name of reasoning-gym's.
        options: `count`, fields of the task's own config, such as max_value=20, and `level`, of the
            task's own curriculum: 0 is the easiest.
        split: "train" or "heldout"; the two never share a prompt.
        seed: chooses the rows and their order, never the split.

    Returns:
        Places such as "reasoning_gym:gcd/train:17" (of a level
        "reasoning_gym:gcd/level 2/train:17", so that one run may have several), and rows with the
        columns prompt, answer, reasoning_gym_task, reasoning_gym_options and entry (for the reward
        of that name).

    Raises:
        DataError: the package is missing, the task or an option is unknown, the task holds too few
            different questions, or its rows cannot be sent as JSON.
    """
    if find_spec("reasoning_gym") is None:
        raise DataError(
            f"source {spec!r} needs the package reasoning-gym: pip install -e '.[reasoning-gym]'"
        )
    job = json.dumps([task, dict(options), split, seed])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "learner.data.reasoning_rows"],
            input=job.encode(),
            capture_output=True,
            check=False,
            timeout=MAX_SECONDS,
            env={**os.environ, "PYTHONHASHSEED": HASH_SEED},
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"source {spec!r}: not made in {MAX_SECONDS:.0f} s") from None
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
        raise DataError(f"source {spec!r}: {words.splitlines()[-1]}")
    rows = cast(list[dict[str, Any]], json.loads(done.stdout))
    at = f"/level {options['level']}" if "level" in options else ""
    return [(f"reasoning_gym:{task}{at}/{split}:{i}", row) for i, row in enumerate(rows, start=1)]


def is_heldout(question: str) -> bool:
    """Tells the split from the question's text."""
    return blake2b(question.encode(), digest_size=1).digest()[0] % HELDOUT_ONE_IN == 0


def draw_rows(
    task: str, options: Mapping[str, str], split: Split, seed: int
) -> list[dict[str, Any]]:
    """What the process does; see `reasoning_rows`."""
    given = dict(options)
    count = given.pop("count", "")
    if not count.isdecimal() or int(count) == 0:
        raise DataError(f"count is {count!r}, wanted a number: reasoning_gym:{task}?count=N")
    wanted = int(count)
    known = _options(task, given)
    rows: dict[str, dict[str, Any]] = {}
    num_draws = wanted * MAX_DRAWS_A_ROW
    dataset = _dataset(task, known, num_draws, _seed(task, split, seed))
    for index in range(num_draws):
        entry = dataset[index]
        question = entry["question"]
        if is_heldout(question) == (split == "heldout") and question not in rows:
            rows[question] = _row(task, known, _as_json(task, entry, dataset))
            if len(rows) == wanted:
                return list(rows.values())
    raise DataError(
        f"only {len(rows)} different {split} questions of task {task!r} in {num_draws} draws, "
        f"wanted {wanted}: ask for fewer or widen its options"
    )


def _seed(task: str, split: Split, seed: int) -> int:
    """A task draws row i from seed + i, so that neighbouring seeds would share their rows."""
    digest = blake2b(f"{task}/{split}/{seed}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") // 2


def _options(task: str, given: Mapping[str, str]) -> dict[str, Any]:
    datasets = import_module("reasoning_gym.factory").DATASETS
    known = sorted(set(datasets) - {"composite"})
    if task not in known:
        near = ", ".join(get_close_matches(task, known, n=3)) or f"{known[0]} ... {known[-1]}"
        raise DataError(f"unknown task {task!r}, known are {len(known)}, such as {near}")
    names = sorted({field.name for field in fields(datasets[task][1])} - {"seed", "size"})
    unknown = sorted(set(given) - {"level", *names})
    if unknown:
        raise DataError(
            f"task {task!r} has no option {unknown[0]!r}, known are count, level, "
            f"{', '.join(names)}"
        )
    chosen = {name: _value(text) for name, text in given.items() if name != "level"}
    return _of_level(task, given["level"], chosen) if "level" in given else chosen


def _of_level(task: str, level: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a level of the task's own curriculum, but for those that are chosen."""
    factory = import_module("reasoning_gym.factory")
    if not factory.has_curriculum(task):
        raise DataError(f"task {task!r} has no curriculum: leave level={level} out")
    curriculum = factory.create_curriculum(task)
    levels = max((len(each.levels) for each in curriculum.attributes.values()), default=0)
    if not level.isdecimal() or int(level) >= levels:
        raise DataError(f"task {task!r} has the levels 0 to {levels - 1}, found level={level}")
    curriculum.set_global_level(int(level))
    made = vars(curriculum.generate_configuration(dict(chosen)))
    return {name: value for name, value in made.items() if name not in ("seed", "size")}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _dataset(task: str, options: Mapping[str, Any], num_draws: int, seed: int) -> Dataset:
    create_dataset = import_module("reasoning_gym").create_dataset
    try:
        return create_dataset(task, size=num_draws, seed=seed, **options)
    except (AssertionError, TypeError, ValueError) as error:
        shown = ", ".join(f"{name}={value}" for name, value in options.items())
        raise DataError(f"task {task!r} refuses {shown}: {error or 'not allowed'}") from None


def _row(task: str, options: Mapping[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    answer = entry["answer"]
    return {
        "prompt": entry["question"],
        "answer": answer if answer is None else str(answer),
        "reasoning_gym_task": task,
        "reasoning_gym_options": dict(options),
        "entry": entry,
    }


def _as_json(task: str, entry: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """The entry as the reward will see it.

    Raises:
        DataError: JSON cannot hold it, or the scorer judges what JSON makes of it otherwise.
    """
    if where := _key_that_is_no_text(entry):
        raise DataError(f"task {task!r} cannot be used: {where}, which JSON does not have")
    try:
        sent = json.loads(json.dumps(entry, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise DataError(f"task {task!r} cannot be used: its rows are no JSON: {error}") from None
    answer = entry["answer"]
    if dataset.score_answer(answer, sent) != dataset.score_answer(answer, entry):
        raise DataError(
            f"task {task!r} cannot be used: its scorer does not know its own answer again once the "
            "row was sent as JSON"
        )
    return sent


def _key_that_is_no_text(value: object) -> str:
    if isinstance(value, dict):
        for key, item in cast(dict[object, object], value).items():
            if not isinstance(key, str):
                return f"its rows have the key {key!r}"
            if found := _key_that_is_no_text(item):
                return found
    elif isinstance(value, list | tuple):
        return next(filter(None, map(_key_that_is_no_text, cast(list[object], value))), "")
    return ""


def main() -> None:
    """Read a job on stdin and write its rows on stdout; what the library prints goes to stderr."""
    job = json.load(sys.stdin)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            rows = draw_rows(*job)
    except DataError as error:
        sys.exit(str(error))
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
