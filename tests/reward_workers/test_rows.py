import json

import pytest

from protocol.errors import RewardError
from protocol.messages import ScoreTask
from reward_workers.rows import read_row
from reward_workers.thinking import Thinking


def test_prompt_and_columns_are_decoded(make_task):
    row = read_row(make_task("85", answer="85", level=2))
    assert (row.prompt, row.completion, row.completion_tokens) == ("37+48=", "85", 2)
    assert row.columns == {"answer": "85", "level": 2}


def test_the_thought_is_kept_apart(make_task):
    row = read_row(make_task("30+40</t> 85"), Thinking("<t>", "</t>", is_open=True))
    assert (row.thought, row.completion) == ("30+40</t> ", "85")
    assert row.raw_completion == "30+40</t> 85"
    assert row.completion_tokens == len(row.raw_completion)


def test_chat_messages_stay_messages(make_task):
    chat = [{"role": "user", "content": "37+48="}]
    task = make_task("85").model_copy(update={"prompt": json.dumps(chat)})
    assert read_row(task).prompt == chat


@pytest.mark.parametrize(
    "damage",
    [{"prompt": "{"}, {"prompt": "3"}, {"columns": "[]"}, {"columns": ""}, {"prompt": "[" * 10**5}],
)
def test_what_is_not_the_right_json_is_an_error(make_task, damage):
    task: ScoreTask = make_task("85").model_copy(update=damage)
    with pytest.raises(RewardError, match="the task's prompt"):
        read_row(task)
