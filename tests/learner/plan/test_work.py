import pytest

from learner.plan.work import (
    Layout,
    Needs,
    Work,
    largest_microbatch,
    shortest_work,
    stated_needs,
)
from protocol.config_learner import AlgorithmSection


def test_a_microbatch_takes_as_many_rows_as_its_budget_holds(make_llama, make_run):
    # 9 + 8 - 1 = 16 tokens a row; 16 x 6 = 96 <= 100 < 16 x 7
    config = make_run(
        "unused",
        generation={"group_size": 4, "max_completion_tokens": 8},
        learner={"groups_per_step": 4, "microbatch_tokens": 100, "share_prompts": False},
    )
    layout = largest_microbatch(config, Work(9, 8, Needs()))
    assert layout == Layout(rows=6, row_tokens=16, completion_tokens=8, is_only=False)
    assert layout.tokens == 96
    assert layout.pairs == 6 * 16 * 16


def test_a_batch_smaller_than_the_budget_is_one_microbatch(make_run):
    config = make_run(
        "unused",
        generation={"group_size": 4, "max_completion_tokens": 8},
        learner={"groups_per_step": 2, "share_prompts": False},
    )
    layout = largest_microbatch(config, Work(9, 8, Needs()))
    assert (layout.rows, layout.is_only) == (8, True)


def test_one_row_longer_than_the_budget_is_computed_all_the_same(make_run):
    config = make_run(
        "unused",
        generation={"max_completion_tokens": 64},
        learner={"microbatch_tokens": 10, "share_prompts": False},
    )
    assert largest_microbatch(config, Work(65, 64, Needs())).rows == 1


def test_shared_prompts_count_once_a_group(make_run):
    # prompts of 32 and completions of 8: rows 1-4 cost 32 + 8 each, rows 5-8 another 32:
    # 8 rows = 64 + 64 = 128; a ninth would need a third prompt
    config = make_run(
        "unused",
        generation={"group_size": 4, "max_completion_tokens": 8},
        learner={"groups_per_step": 4, "microbatch_tokens": 128},
    )
    layout = largest_microbatch(config, Work(33, 8, Needs()))
    assert (layout.rows, layout.prompts, layout.prompt_tokens) == (8, 2, 32)
    assert layout.tokens == 128
    # completions see prompt and themselves, prompts themselves
    assert layout.pairs == 8 * 8 * (32 + 8) + 2 * 32 * 32


@pytest.mark.parametrize(
    ("parameters", "needs"),
    [
        ({}, Needs()),
        ({"epochs": 2, "minibatches": 3}, Needs(optimizer_steps=6, minibatches=3)),
        ({"kl": {"coefficient": 0.1}}, Needs(reference=True)),
        ({"kl": {"coefficient": 0.0}}, Needs()),
        ({"epochs": "many", "kl": 3}, Needs()),
    ],
)
def test_a_config_states_some_of_an_algorithms_needs(parameters, needs):
    section = AlgorithmSection.model_validate({"name": "grpo", **parameters})
    assert stated_needs(section) == needs


def test_without_the_data_prompts_are_as_short_as_they_can_be(make_run):
    config = make_run("unused", generation={"max_completion_tokens": 77})
    assert shortest_work(config) == Work(1, 77, Needs())
