"""Evaluations that are missing, double or out of place are found; those that must be, pass."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from learner.audit_evaluations import wrong_evaluation_versions, wrong_evaluations
from learner.audit_files import RunFiles
from protocol.config import RunConfig

Evaluations = Iterable[tuple[str, int]]
WANTED = [("accuracy", 0), ("accuracy", 2), ("accuracy", 4), ("accuracy", 5)]


def run_of(
    found: Evaluations, *, has_ended: bool = True, num_steps: int = 5, **evaluation: Any
) -> RunFiles:
    config = RunConfig.model_validate(
        {
            "model": {"path": "builtin:tiny"},
            "data": {"train": ["train.jsonl"], "heldout": ["heldout.jsonl"]},
            "rewards": [{"name": "exact_match"}],
            "evaluation": {"interval": 2, **evaluation},
        }
    )
    metrics = [{"step": step, "policy_version": step} for step in range(1, num_steps + 1)]
    rows = [{"evaluator": name, "step": step, "policy_version": step} for name, step in found]
    return RunFiles(config, metrics, rows, {}, None, {}, 1, has_ended)


def test_all_that_the_config_asks_for_passes():
    assert not list(wrong_evaluations(run_of(WANTED)))
    assert not list(wrong_evaluation_versions(run_of(WANTED)))


@pytest.mark.parametrize("missing", range(len(WANTED)))
def test_a_missing_evaluation_is_found(missing: int):
    found = [row for index, row in enumerate(WANTED) if index != missing]
    step = WANTED[missing][1]
    assert list(wrong_evaluations(run_of(found))) == [
        f"evaluator accuracy has no row of step {step} in eval.jsonl"
    ]


def test_a_double_evaluation_is_found():
    assert list(wrong_evaluations(run_of([*WANTED, WANTED[-1]]))) == [
        "evaluator accuracy has 2 rows of step 5 in eval.jsonl"
    ]


@pytest.mark.parametrize("strange", [("accuracy", 6), ("pass_at_k", 4)])
def test_an_evaluation_that_the_run_does_not_have_is_found(strange: tuple[str, int]):
    found = [*WANTED, strange] if strange[1] > 5 else [*WANTED[:3], strange, WANTED[3]]
    assert len(list(wrong_evaluations(run_of(found)))) == 1


def test_rows_out_of_order_are_found():
    assert list(wrong_evaluations(run_of(reversed(WANTED)))) == [
        "the rows of eval.jsonl are not in order"
    ]


def test_each_evaluator_has_its_own_rows():
    evaluators = [{"name": "accuracy"}, {"name": "other"}]
    both = [(name, step) for _, step in WANTED for name in ("accuracy", "other")]
    assert not list(wrong_evaluations(run_of(both, evaluators=evaluators)))
    assert len(list(wrong_evaluations(run_of(WANTED, evaluators=evaluators)))) == 4


def test_a_killed_run_may_lack_the_evaluation_of_its_last_step():
    assert not list(wrong_evaluations(run_of(WANTED[:3], has_ended=False)))
    assert not list(wrong_evaluations(run_of(WANTED[:2], has_ended=False, num_steps=4)))
    assert list(wrong_evaluations(run_of(WANTED[:2], has_ended=False)))


def test_an_end_that_was_continued_may_have_its_evaluation():
    found = [WANTED[0], WANTED[1], ("accuracy", 3), WANTED[2], WANTED[3]]
    assert not list(wrong_evaluations(run_of(found)))


def test_without_an_interval_only_beginning_and_end_are_evaluated():
    assert not list(wrong_evaluations(run_of([WANTED[0], WANTED[3]], interval=0)))
    assert not list(wrong_evaluations(run_of(WANTED[3:], interval=0, before_training=False)))


def test_each_step_is_evaluated_as_the_config_of_its_run_epoch_asks():
    run = run_of([("accuracy", 0), ("accuracy", 2), ("other", 3), ("other", 5)])
    later = run_of([], interval=3, evaluators=[{"name": "other"}]).config
    run = replace(run, configs={1: run.config, 2: later})
    for row in run.metrics:
        row["run_epoch"] = 1 if row["step"] < 3 else 2
    assert not list(wrong_evaluations(run))
    run.evaluations[2]["evaluator"] = "accuracy"
    assert list(wrong_evaluations(run)) == [
        "eval.jsonl has a row of accuracy at step 3, which the run does not have",
        "evaluator other has no row of step 3 in eval.jsonl",
    ]


def test_an_evaluation_of_another_version_is_found():
    run = run_of(WANTED)
    run.evaluations[2]["policy_version"] = 3
    assert list(wrong_evaluation_versions(run)) == [
        "the evaluation at step 4 is of version 3, wanted 4"
    ]
