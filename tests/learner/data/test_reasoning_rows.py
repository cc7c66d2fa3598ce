import importlib
import json
import os

import pytest

from learner.data.reasoning_rows import draw_rows, is_heldout
from learner.data.sources import read_source
from protocol.errors import DataError

# a part of it is compiled, so a machine without a compiler goes without; CI may not
library = (
    importlib.import_module("reasoning_gym")
    if os.environ.get("CI")
    else pytest.importorskip("reasoning_gym")
)


async def test_rows_carry_what_the_reward_needs():
    rows = await read_source("reasoning_gym:gcd?count=3&max_value=20", "train", "prompt")
    assert [row.prompt_id for row in rows] == [f"reasoning_gym:gcd/train:{i}" for i in (1, 2, 3)]
    columns = rows[0].columns
    assert columns["reasoning_gym_task"] == "gcd"
    assert columns["reasoning_gym_options"] == {"max_value": 20}
    assert columns["entry"]["question"] == rows[0].prompt
    assert columns["entry"]["answer"] == columns["answer"]
    assert set(columns) == {"answer", "entry", "reasoning_gym_options", "reasoning_gym_task"}


async def test_rows_are_the_same_in_every_process():
    # This task draws letters from a set, whose order depends on the process's hash seed.
    spec = "reasoning_gym:ransom_note?count=5"
    assert await read_source(spec, "train", "prompt") == await read_source(spec, "train", "prompt")


# One task leaves its data file to the garbage collector.
left_open = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

OPTIONS = {"count": "40", "max_value": "30", "max_numbers": "2"}


def prompts(split, seed):
    return [row["prompt"] for row in draw_rows("gcd", OPTIONS, split, seed)]


def test_the_two_splits_never_share_a_prompt():
    seen = [set(prompts("train", seed)) for seed in range(5)]
    heldout = set(prompts("heldout", 0))
    assert not heldout & set.union(*seen)
    assert all(map(is_heldout, heldout))
    assert len(heldout) == 40


def test_the_seed_chooses_the_rows():
    assert prompts("train", 1) == prompts("train", 1)
    assert len(set(prompts("train", 1)) & set(prompts("train", 2))) < 20


async def test_held_out_rows_do_not_depend_on_the_seed():
    spec = "reasoning_gym:gcd?count=5"
    rows = [await read_source(spec, "heldout", "prompt", seed=seed) for seed in (1, 2)]
    assert rows[0] == rows[1]


@left_open
@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("gdc", {"count": "1"}, "unknown task 'gdc', .* such as gcd"),
        ("composite", {"count": "1"}, "unknown task 'composite'"),
        ("gcd", {}, "count is '', wanted a number"),
        ("gcd", {"count": "0"}, "count is '0'"),
        ("gcd", {"count": "1", "seed": "1"}, "no option 'seed', known are count, level, max_num"),
        ("gcd", {"count": "1", "level": "9"}, "levels 0 to ., found level=9"),
        ("gcd", {"count": "1", "level": "low"}, "found level=low"),
        ("gcd", {"count": "1", "min_value": "9", "max_value": "3"}, "refuses min_value=9"),
        ("gcd", {"count": "1", "max_value": "many"}, "refuses max_value=many"),
        ("gcd", {"count": "9", "max_value": "2", "max_numbers": "2"}, "only . different train"),
        ("arc_agi", {"count": "1"}, "'arc_agi' cannot be used: its scorer does not know"),
        ("rearc", {"count": "1"}, "'rearc' cannot be used"),
        ("graph_color", {"count": "1"}, "'graph_color' cannot be used: its rows have the key 0"),
    ],
)
def test_a_task_that_cannot_be_used_is_refused_by_name(task, options, message):
    with pytest.raises(DataError, match=message):
        draw_rows(task, options, "train", 0)


async def test_what_the_process_refuses_names_the_source():
    spec = "reasoning_gym:gcd?count=x"
    with pytest.raises(DataError, match=r"^source 'reasoning_gym:gcd\?count=x': count is 'x'"):
        await read_source(spec, "train", "prompt")


async def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("learner.data.reasoning_rows.find_spec", lambda _name: None)
    with pytest.raises(DataError, match="needs the package reasoning-gym"):
        await read_source("reasoning_gym:gcd?count=1", "train", "prompt")


@left_open
@pytest.mark.slow
def test_every_other_task_makes_rows_that_json_can_hold():
    refused = {"arc_agi", "composite", "graph_color", "rearc"}
    for task in sorted(set(library.factory.DATASETS) - refused):
        (row,) = draw_rows(task, {"count": "1"}, "train", 0)
        assert json.loads(json.dumps(row)) == row


async def test_levels_are_those_of_the_tasks_own_curriculum_and_options_go_before_them():
    name = "reasoning_gym:letter_counting?count=20&"
    easy, hard = [await read_source(f"{name}level={n}", "train", "prompt") for n in (0, 4)]
    longest = [
        max(len(row.columns["entry"]["metadata"]["span"]) for row in r) for r in (easy, hard)
    ]
    assert longest == [7, 15]  # its levels are 5 to 7, 5 to 9, ... words
    assert easy[0].prompt_id == "reasoning_gym:letter_counting/level 0/train:1"
    options = hard[0].columns["reasoning_gym_options"]
    assert (options["min_words"], options["max_words"]) == (5, 15)
