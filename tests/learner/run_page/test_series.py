import json
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.disk import Disk
from learner.run_folder import RunFolder
from learner.run_page import series as series_module
from learner.run_page.series import Series, as_list, thin


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def append(path, rows):
    with path.open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def test_an_empty_run_has_no_rows(run_dir):
    answer = Series(run_dir).answer(None, 10)
    assert answer["columns"] == {"step": [], "time": []}
    assert (answer["step"], answer["evaluations"]) == (0, {})


def test_rows_become_columns_with_null_where_a_row_says_nothing(run_dir):
    rows = [
        {"step": 1, "time": 5.0, "loss": 0.5, "skipped": "", "kl_ref": None, "ok": True},
        {"step": 2, "time": 6.0, "loss": float("nan"), "late": 3},
    ]
    write(run_dir / "metrics.jsonl", rows)
    assert Series(run_dir).answer(None, 10)["columns"] == {
        "step": [1.0, 2.0],
        "time": [5.0, 6.0],
        "loss": [0.5, None],
        "late": [None, 3.0],
    }


def test_later_rows_are_had_alone(run_dir):
    path = run_dir / "metrics.jsonl"
    write(path, [{"step": 1, "loss": 1.0}, {"step": 3, "loss": 3.0}])
    series = Series(run_dir)
    first = series.answer(None, 10)
    with path.open("a") as file:
        file.write('{"step": 4, "loss": 4.0}\n{"step": 5, "lo')
    second = series.answer(first["step"], 10)
    assert second["columns"] == {"step": [4.0], "time": [None], "loss": [4.0]}
    assert second["token"] == first["token"]
    assert series.answer(4, 10)["columns"]["step"] == []
    assert series.answer(2, 10)["columns"]["step"] == [3.0, 4.0]


def test_a_resumed_run_changes_the_token_and_forgets_what_was_cut(run_dir):
    folder, path = RunFolder(run_dir, Disk(0.0)), run_dir / "metrics.jsonl"
    write(path, [{"step": step, "loss": step, "old": 1} for step in (1, 2, 3)])
    write(run_dir / "eval.jsonl", [{"step": s, "evaluator": "a", "x": s} for s in (0, 3)])
    series = Series(run_dir)
    before = series.answer(None, 10)
    folder.cut_back(1, run_dir / "aside")
    append(path, [{"step": 2, "loss": 20}, {"step": 3, "loss": 30}, {"step": 4, "loss": 40}])
    after = series.answer(3, 10)
    assert after["token"] != before["token"]
    assert after["columns"] == {"step": [4.0], "time": [None], "loss": [40.0], "old": [None]}
    assert series.answer(None, 10)["columns"]["loss"] == [1.0, 20.0, 30.0, 40.0]
    assert after["evaluations"] == {"a/x": {"step": [0.0], "value": [0.0]}}
    assert series.answer(4, 10)["token"] == after["token"]


def test_rows_that_were_cut_to_nothing_change_the_token(run_dir):
    path = run_dir / "metrics.jsonl"
    write(path, [{"step": 1}])
    series = Series(run_dir)
    before = series.answer(None, 10)
    path.write_text("")
    after = series.answer(None, 10)
    assert (after["token"] != before["token"], after["columns"]["step"]) == (True, [])


def test_a_step_that_comes_again_takes_the_place_of_the_old_one(run_dir):
    path = run_dir / "metrics.jsonl"
    write(path, [{"step": 1, "loss": 1}, {"step": 2, "loss": 2}, {"step": 3, "loss": 3}])
    series = Series(run_dir)
    before = series.answer(None, 10)["token"]
    append(path, [{"step": 2, "loss": 9}])
    answer = series.answer(None, 10)
    assert (answer["columns"]["step"], answer["columns"]["loss"]) == ([1.0, 2.0], [1.0, 9.0])
    assert answer["token"] != before


@pytest.mark.parametrize("step", ["1", None, 1.5, -1, True, 10**30, [1]])
def test_a_row_without_a_step_is_none(run_dir, step):
    write(run_dir / "metrics.jsonl", [{"step": step, "loss": 1.0}, {"loss": 2}])
    write(run_dir / "eval.jsonl", [{"step": 1, "evaluator": ["x"], "y": 1}, {"evaluator": "x"}])
    answer = Series(run_dir).answer(None, 10)
    assert (answer["columns"], answer["evaluations"]) == ({"step": [], "time": []}, {})


def test_evaluations_are_figures_by_evaluator(run_dir):
    rows = [
        {"step": 0, "policy_version": 0, "evaluator": "accuracy", "n": 8, "accuracy": 0.5},
        {"step": 4, "policy_version": 4, "evaluator": "accuracy", "n": 8, "accuracy": None},
        {"step": 8, "policy_version": 8, "evaluator": "accuracy", "accuracy": 0.75, "time": 1.0},
    ]
    write(run_dir / "eval.jsonl", rows)
    found = Series(run_dir).answer(None, 10)["evaluations"]
    assert found == {"accuracy/accuracy": {"step": [0.0, 8.0], "value": [0.5, 0.75]}}


def test_columns_are_bounded(run_dir, monkeypatch):
    monkeypatch.setattr(series_module, "MAX_COLUMNS", 3)
    write(run_dir / "metrics.jsonl", [{"step": n, f"fact{n}": n} for n in range(1, 9)])
    assert set(Series(run_dir).answer(None, 10)["columns"]) == {"step", "time", "fact1"}


def test_thinning_by_hand():
    # 6 values and the last one in 4 points: bins [0 1] [2 3] [4 5], then 9 as it is
    values = np.array([0.0, 2.0, 4.0, np.nan, np.nan, np.nan, 9.0])
    assert as_list(thin(values, 4)) == [1.0, 4.0, None, 9.0]
    assert as_list(thin(values, 1)) == [9.0]
    assert as_list(thin(values, 7)) == as_list(values)


@given(st.integers(1, 300), st.integers(1, 50))
def test_thinning_keeps_the_last_and_the_mean_of_equal_bins(num_values: int, points: int):
    values = np.arange(num_values, dtype=np.float64)
    thinned = thin(values, points)
    assert len(thinned) == min(num_values, points)
    assert thinned[-1] == values[-1]
    assert (np.diff(thinned) > 0).all()


def test_a_run_is_thinned_to_its_points(run_dir):
    write(run_dir / "metrics.jsonl", [{"step": n, "loss": n} for n in range(1, 1001)])
    columns = Series(run_dir).answer(None, 100)["columns"]
    assert (len(columns["step"]), columns["step"][-1], columns["loss"][-1]) == (100, 1000, 1000)


def test_readers_of_a_growing_file_miss_and_double_no_row(run_dir):
    path, series = run_dir / "metrics.jsonl", Series(run_dir)
    num_rows = 600
    path.touch()
    barrier, seen = threading.Barrier(4), []

    def read():
        barrier.wait()
        steps: list[float | None] = []
        while not steps or steps[-1] != num_rows:
            last = int(steps[-1] or 0) if steps else None
            steps += series.answer(last, num_rows)["columns"]["step"]
        seen.append(steps)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    barrier.wait()
    with path.open("a", buffering=7) as file:  # lines are cut in the middle
        for step in range(1, num_rows + 1):
            file.write(json.dumps({"step": step, "loss": step}) + "\n")
            file.flush()
    for reader in readers:
        reader.join(60)
    assert seen == [list(range(1, num_rows + 1))] * 3
