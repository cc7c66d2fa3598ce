from itertools import combinations

import pytest

from learner.data.arithmetic import TASKS, arithmetic_rows, max_rows
from protocol.errors import DataError


def all_prompts(task, split, seed=0):
    rows = arithmetic_rows(task, split, max_rows(task, split), seed)
    return [str(row["prompt"]) for row in rows]


@pytest.mark.parametrize("task", sorted(TASKS))
def test_no_heldout_prompt_is_ever_in_the_training_set(task):
    train, heldout = all_prompts(task, "train", seed=1), all_prompts(task, "heldout", seed=2)
    assert not set(train) & set(heldout)


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_rows_of_a_split_are_distinct_and_carry_a_prompt_and_an_answer(task, split):
    count = min(500, max_rows(task, split))
    rows = arithmetic_rows(task, split, count)
    assert len({str(row["prompt"]) for row in rows}) == count
    assert all(row["prompt"] and isinstance(row["answer"], str) for row in rows)


def test_the_two_splits_of_add2_hold_every_pair_once_and_one_in_eight_is_held_out():
    train, heldout = max_rows("add2", "train"), max_rows("add2", "heldout")
    assert train + heldout == 100 * 100
    assert 1024 <= heldout <= 1500


def test_a_sum_and_its_mirror_image_are_in_the_same_split():
    heldout = set(all_prompts("add2", "heldout"))
    for a, b in combinations(range(100), 2):
        assert (f"{a}+{b}=" in heldout) == (f"{b}+{a}=" in heldout)


def test_add2_answers_are_the_sums_in_natural_digit_order():
    for row in arithmetic_rows("add2", "train", 200):
        a, b = row["prompt"].removesuffix("=").split("+")
        assert row["answer"] == str(int(a) + int(b))


def test_add2_chat_asks_for_sums_that_its_example_does_not_give_away():
    assert max_rows("add2_chat", "train") + max_rows("add2_chat", "heldout") == 30 * 30
    assert max_rows("add2_chat", "heldout") >= 64
    for row in arithmetic_rows("add2_chat", "train", 200):
        *example, last = row["prompt"]
        assert [message["role"] for message in example] == ["system", "user", "assistant"]
        a, b = last["content"].removeprefix("What is ").removesuffix("?").split(" + ")
        assert last["role"] == "user" and row["answer"] == str(int(a) + int(b))
        assert last != example[1]


def test_the_same_seed_gives_the_same_rows_and_another_seed_gives_others():
    rows = arithmetic_rows("add2", "train", 64, seed=3)
    assert rows == arithmetic_rows("add2", "train", 64, seed=3)
    assert rows != arithmetic_rows("add2", "train", 64, seed=4)


def test_the_split_is_fixed_across_processes_and_python_versions():
    # The checkpoint in protocol/builtin/tiny was trained on the train split: it must not move.
    assert max_rows("add2", "heldout") == 1230
    assert arithmetic_rows("add2", "heldout", 2) == [
        {"prompt": "35+66=", "answer": "101"},
        {"prompt": "81+81=", "answer": "162"},
    ]


@pytest.mark.parametrize("count", [-1, 10_001])
def test_a_count_outside_the_split_is_refused_with_what_there_is(count):
    with pytest.raises(DataError, match=f"{count} train rows .* has {max_rows('add2', 'train')}"):
        arithmetic_rows("add2", "train", count)


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match=r"'add9'.*add2"):
        arithmetic_rows("add9", "train", 1)


def test_an_unknown_split_is_refused():
    with pytest.raises(DataError, match="'test'"):
        arithmetic_rows("add2", "test", 1)  # pyright: ignore[reportArgumentType]
