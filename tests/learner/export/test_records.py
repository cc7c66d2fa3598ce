import json

from learner.export.records import read_records


def write(path, *rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    )


def test_rows_without_a_reward_or_cut_short_are_left_out(tmp_path):
    write(
        tmp_path / "metrics.jsonl",
        {"step": 2, "reward/mean": 0.5},
        {"step": 1, "reward/mean": 0.25},
        {"step": 3, "reward/mean": None},
        {"reward/mean": 9.0},
        "no JSON",
        '{"step": 4, "reward/me',
    )
    records = read_records(tmp_path)
    assert records.curve == [(1, 0.25), (2, 0.5)]
    assert [row["step"] for row in records.points()] == [1, 2]
    assert records.evaluations == ()
    assert records.steps_evaluated(None, 4) == []


def test_about_ten_points_stand_for_a_long_curve(tmp_path):
    write(tmp_path / "metrics.jsonl", *({"step": n, "reward/mean": n / 2} for n in range(1, 98)))
    steps = [row["step"] for row in read_records(tmp_path).points()]
    assert (len(steps), steps[0], steps[-1]) == (10, 1, 97)
    assert len(set(steps)) == 10


def test_evaluations_are_found_by_step_and_name(tmp_path):
    facts = {"policy_version": 1, "time": 1.0, "evaluator": "a"}
    write(
        tmp_path / "eval.jsonl",
        {**facts, "step": 0, "accuracy": 0.5, "interval": [0.4, 0.6]},
        {**facts, "step": 0, "evaluator": "b", "pass": 1},
        {**facts, "step": 5, "accuracy": 0.75},
        {**facts, "step": 9, "accuracy": None, "n": 3},
    )
    records = read_records(tmp_path)
    assert records.figure_names() == [("a", "accuracy"), ("b", "pass"), ("a", "n")]
    assert records.figure("a", "accuracy", 5) == 0.75
    assert records.figure("a", "accuracy", 9) is None
    assert records.figure("b", "pass", 5) is None
    assert records.steps_evaluated(None, 7) == [0, 9]
    assert records.steps_evaluated(5, 9) == [0, 5, 9]
