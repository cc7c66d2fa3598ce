"""Evaluators on completions that somebody else made: a JSONL file instead of a model."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learner.data.sources import Row, read_source
from learner.evaluation import evaluated_rows
from learner.evaluator import make_evaluator
from learner.records import evaluation_row
from learner.replay.rescorer import Rescorer
from learner.run_folder import RunFolder
from learner.samples import ScoredSample
from learner.suites import Suite, resolve_evaluators, suite_of
from protocol.config import RunConfig
from protocol.config_evaluation import EvaluatorConfig, reward_sets
from protocol.errors import ConfigError, DataError
from protocol.messages import NamedReward, Rollout, Score

log = logging.getLogger("learner.evaluate")

_NO_TOKENS = np.zeros(1, np.int32)
"""A rollout has tokens; these completions came as text alone."""
_MOST_NAMED = 3


def evaluate_completions(config: RunConfig, file: Path, run_dir: Path) -> None:
    """Score every completion of a file and let the evaluators judge; fills a run folder.

    Args:
        config: its evaluators say which prompts and rewards; its model is not loaded.
        file: JSON lines with `completion`, and `prompt_id` (as in rollouts/) or HumanEval's
            `task_id`; several lines of a prompt are its samples.
        run_dir: gets config.yaml, eval.jsonl and evaluations/, as a run's.

    Raises:
        ConfigError: the config, or an evaluator that wants a model.
        DataError: a line that is none, or completions that do not fit the prompts.
    """
    config = resolve_evaluators(config)
    given = _read(file)
    folder = RunFolder(run_dir)
    folder.create(config, resume=False)
    rows: list[dict[str, Any]] = []
    for section in config.evaluation.evaluators:
        evaluate = make_evaluator(section)
        samples = _scored(config, section, given, str(file))
        folder.write_evaluated(0, section.name, evaluated_rows(samples))
        prompts = len({sample.prompt_id for sample in samples})
        rows.append(evaluation_row(0, 0, section.name, evaluate(samples), prompts))
    folder.append_evaluations(rows)


def _scored(
    config: RunConfig, section: EvaluatorConfig, given: Mapping[str, Sequence[str]], file: str
) -> list[ScoredSample]:
    suite = suite_of(config, section)
    if suite is None:
        raise ConfigError(
            f"evaluator {section.name} judges a model, or has no prompts here: give --model, or "
            "--data with the prompts of these completions"
        )
    rows = _rows(config, suite, given, file)
    rewards = reward_sets(config.rewards, config.evaluation)[suite.reward_set]
    asked = [(row, index, text) for row in rows for index, text in enumerate(given[row.prompt_id])]
    with Rescorer(config.model_copy(update={"rewards": rewards})) as rescorer:
        rescorer.ask([_request(row, text) for row, _, text in asked])
        answers = rescorer.answers(len(asked))
    return [
        _sample(row, index, text, answer)
        for (row, index, text), answer in zip(asked, answers, strict=True)
    ]


def _rows(
    config: RunConfig, suite: Suite, given: Mapping[str, Sequence[str]], file: str
) -> list[Row]:
    """The prompts, each of which has a completion."""

    async def read() -> list[Row]:
        reads = (read_source(spec, "heldout", config.data.prompt_column) for spec in suite.data)
        return [row for rows in await asyncio.gather(*reads) for row in rows]

    rows = asyncio.run(read())
    missing = [row.prompt_id for row in rows if row.prompt_id not in given]
    if missing:
        raise DataError(
            f"{file} has no completion for {len(missing)} of {len(rows)} prompts, such as "
            f"{', '.join(missing[:_MOST_NAMED])}: add them, or ask for fewer with --data"
        )
    unknown = len(given.keys() - {row.prompt_id for row in rows})
    if unknown:
        log.warning("%s: completions of %d other prompts are not looked at", file, unknown)
    return rows


def _request(row: Row, completion: str) -> dict[str, Any]:
    return {
        "prompt": row.prompt,
        "completion": completion,
        "completion_tokens": 1,
        "finish_reason": "stop",
        "columns": row.columns,
    }


def _sample(row: Row, index: int, completion: str, answer: Mapping[str, Any]) -> ScoredSample:
    place: dict[str, Any] = {"run_epoch": 0, "group_id": 0, "attempt": 1, "sample": index}
    rollout = Rollout(
        **place,
        token_ids=_NO_TOKENS,
        behaviour_logprobs=np.zeros(1, np.float32),
        policy_versions=((0, 1),),
        finish_reason="stop",
        completion=completion,
        seconds=0.0,
    )
    named = tuple(NamedReward(name=n, reward=value) for n, value in answer["rewards"].items())
    score = Score(**place, reward=answer["reward"], rewards=named, status=answer["status"])
    return ScoredSample(row.prompt_id, row.prompt, _NO_TOKENS, "", rollout, score)


def _read(file: Path) -> dict[str, list[str]]:
    """Completions by prompt id."""
    found: dict[str, list[str]] = {}
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the completions of {file}: {error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        prompt_id, completion = _line(f"{file}:{number}", line)
        found.setdefault(prompt_id, []).append(completion)
    if not found:
        raise DataError(f"{file} holds no completions")
    return found


def _line(place: str, line: str) -> tuple[str, str]:
    wanted = 'wanted {"prompt_id": ..., "completion": ...}, or task_id instead'
    try:
        row: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}): {wanted}") from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: found {type(row).__name__}, {wanted}")
    prompt_id: object = row.get("prompt_id", f"human_eval:{row.get('task_id', '')}")
    completion: object = row.get("completion")
    if not isinstance(prompt_id, str) or not isinstance(completion, str):
        raise DataError(f"{place}: found the keys {', '.join(map(str, row)) or '(none)'}, {wanted}")
    if "prompt_id" not in row and "task_id" not in row:
        raise DataError(f"{place}: neither prompt_id nor task_id, {wanted}")
    return prompt_id, completion
