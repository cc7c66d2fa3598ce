"""Programming tasks: splits, cases and solutions."""

import json

import pytest

from learner.data.code_tasks import NUM_CASES, Split, code_task_rows
from protocol.errors import DataError


def rows(split: Split = "train", seed=0, **options):
    return code_task_rows("code_tasks", options, split, seed)


def test_no_task_is_in_both_splits_whatever_the_seed():
    train = {place for seed in range(3) for place, _ in rows("train", seed)}
    heldout = {place for seed in range(3) for place, _ in rows("heldout", seed)}
    assert len(train) > 400
    assert len(heldout) > 128
    assert train.isdisjoint(heldout)
    families = {place.split("/")[0] for place in heldout}
    assert families <= {place.split("/")[0] for place in train}
    assert len(families) > 20


def test_a_seed_chooses_the_same_tasks_and_another_one_others():
    assert rows(seed=1, count="20") == rows(seed=1, count="20")
    assert [place for place, _ in rows(seed=1, count="20")] != [
        place for place, _ in rows(seed=2, count="20")
    ]


def test_every_task_has_different_cases_as_json():
    for place, row in (*rows("train"), *rows("heldout")):
        arguments = [json.dumps(case["args"]) for case in row["cases"]]
        assert len(set(arguments)) == NUM_CASES, place
        assert json.loads(json.dumps(row)) == row
        assert f" {row['entry_point']}(" in row["prompt"][0]["content"]
        assert "{" not in row["prompt"][0]["content"]


def test_no_constant_and_no_argument_passes_all_cases():
    for place, row in rows("train"):
        expected = [json.dumps(case["expected"]) for case in row["cases"]]
        assert len(set(expected)) > 1, place
        assert any(case["args"][0] != case["expected"] for case in row["cases"]), place


def test_families_can_be_chosen():
    found = rows(families="add,repeat")
    assert {row["family"] for _, row in found} == {"add", "repeat"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"counts": "3"}, "no option 'counts', known are count, families, solution"),
        ({"count": "0"}, "count is '0', wanted 1 to"),
        ({"count": "100000"}, "count is '100000', wanted 1 to"),
        ({"families": "add,ad"}, "no family 'ad', known are add"),
    ],
)
def test_bad_options_are_refused(options, told):
    with pytest.raises(DataError, match=told):
        rows(**options)
