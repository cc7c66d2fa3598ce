"""Rates of steps: what they count and what they leave out."""

import json

import pytest

from bench.table.rivals.steps import Steps, our_seconds, our_steps, rival_steps


def test_our_first_two_steps_and_the_last_are_not_counted():
    ended = [100.0, 110.0, 111.0, 112.0, 112.1]
    assert Steps(0.0, 90.0, ended, (2, 1)).samples_per_second(16) == pytest.approx(16.0)


def test_a_rivals_first_step_is_not_counted():
    assert Steps(0.0, 0.0, [50.0, 52.0, 54.0], (1, 0)).samples_per_second(16) == pytest.approx(8.0)


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match="wanted at least 4"):
        Steps(0.0, 0.0, [1.0, 2.0, 3.0], (2, 1)).samples_per_second(16)


def test_our_steps_are_read_from_the_run_folder(tmp_path):
    rows = [{"time": 10.0 + n, "seconds/step": 2.0, "seconds/wait": n} for n in range(5)]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    steps = our_steps(tmp_path, launched=1.0)
    assert steps.began == 8.0
    assert steps.ended == [10.0, 11.0, 12.0, 13.0, 14.0]
    assert our_seconds(tmp_path) == "seconds/step 2.000, seconds/wait 2.500"


def test_a_rivals_steps_are_read_from_its_log(tmp_path):
    log = tmp_path / "steps.jsonl"
    log.write_text(
        '{"step": 1, "time": 5.0, "began": 3.0}\n{"step": 2, "time": 6.0, "began": 3.0}\n'
    )
    assert rival_steps(log, launched=1.0) == Steps(1.0, 3.0, [5.0, 6.0], (1, 0))
