import json

import pytest

from learner.data.prompts import left_out, read_prompts, tokenize_prompts
from learner.data.sources import Row
from protocol.config_data import DataSection, SourceConfig
from protocol.errors import ConfigError, DataError


def write(path, *prompts):
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return str(path)


async def test_sources_are_read_in_the_order_of_the_config(tmp_path):
    one = write(tmp_path / "one.jsonl", "a", "b")
    two = write(tmp_path / "two.jsonl", "c")
    held = write(tmp_path / "held.jsonl", "d")
    found = await read_prompts(DataSection(train=(two, one), heldout=(held,)), seed=0)
    assert [row.prompt for row in found.train] == ["c", "a", "b"]
    assert [row.prompt for row in found.heldout] == ["d"]


@pytest.mark.parametrize("leak", ["b", [{"content": "b", "role": "user"}]])
async def test_a_held_out_prompt_that_is_also_trained_on_is_refused(tmp_path, leak):
    train = write(tmp_path / "train.jsonl", "a", leak)
    held = write(tmp_path / "held.jsonl", "c", "d", "b")
    with pytest.raises(DataError, match=r"held\.jsonl:3 is also trained on, as .*train\.jsonl:2"):
        await read_prompts(DataSection(train=(train,), heldout=(held,)), seed=0)


async def test_the_same_prompt_twice_in_training_is_allowed(tmp_path):
    train = write(tmp_path / "train.jsonl", "a", "a")
    assert len((await read_prompts(DataSection(train=(train,)), seed=0)).train) == 2


async def test_a_source_named_twice_is_refused(tmp_path):
    train = write(tmp_path / "train.jsonl", "a")
    with pytest.raises(DataError, match=r"data\.train reads .*train\.jsonl:1 twice"):
        await read_prompts(DataSection(train=(train, train)), seed=0)


class CharTokenizer:
    """One token a character; a chat is `<role>content` and then the assistant's turn."""

    def __init__(self, has_chat_template):
        self.has_chat_template = has_chat_template

    def encode(self, text):
        return [ord(c) for c in text]

    def apply_chat_template(self, messages, *, add_generation_prompt):
        text = "".join(f"<{m['role']}>{m['content']}" for m in messages)
        return self.encode(text + "<assistant>" * add_generation_prompt)


def text_of(tokenized):
    return "".join(chr(i) for i in tokenized.prompt_ids)


def test_a_string_becomes_a_user_message_where_there_is_a_chat_template():
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    rows = [Row("a:1", "hi", {}), Row("a:2", chat, {})]
    one, two = tokenize_prompts(rows, CharTokenizer(True), 100)
    assert text_of(one) == "<user>hi<assistant>"
    assert text_of(two) == "<system>S<user>U<assistant>"
    assert (one.row, two.row) == tuple(rows)


def test_a_string_is_encoded_plainly_without_a_chat_template():
    (one,) = tokenize_prompts([Row("a:1", "hi", {})], CharTokenizer(False), 100)
    assert text_of(one) == "hi"


def test_a_prompt_that_the_template_refuses_is_named():
    class Refuses(CharTokenizer):
        def apply_chat_template(self, messages, *, add_generation_prompt):
            raise ConfigError("the chat template failed: roles must alternate")

    with pytest.raises(DataError, match=r"^a:1: the chat template failed: roles must alternate$"):
        tokenize_prompts([Row("a:1", "hi", {})], Refuses(True), 100)


def test_chat_messages_without_a_chat_template_are_refused():
    rows = [Row("a:1", [{"role": "user", "content": "hi"}], {})]
    with pytest.raises(DataError, match=r"a:1: .*no chat template"):
        tokenize_prompts(rows, CharTokenizer(False), 100)


def test_a_prompt_one_token_over_the_limit_is_left_out_and_one_at_it_is_not(caplog):
    rows = [Row("a:1", "1234", {}), Row("b.jsonl:9", "12345", {}), Row("b.jsonl:10", "123456", {})]
    assert len(tokenize_prompts(rows, CharTokenizer(False), 6)) == 3
    assert caplog.messages == []
    kept = tokenize_prompts(rows, CharTokenizer(False), 4)
    assert [prompt.row.prompt_id for prompt in kept] == ["a:1"]
    assert left_out(rows, kept) == ["b.jsonl:9", "b.jsonl:10"]
    (said,) = caplog.messages
    assert "2 of 3 prompts have more than data.max_prompt_tokens (4) tokens" in said
    assert "b.jsonl:10 the most, 6: they are left out" in said


def test_prompts_that_are_all_too_long_are_refused():
    with pytest.raises(DataError, match=r"1 of 1 prompts .* raise data\.max_prompt_tokens"):
        tokenize_prompts([Row("a:1", "12345", {})], CharTokenizer(False), 4)


async def test_rows_know_their_source(tmp_path):
    one = write(tmp_path / "one.jsonl", "a", "b")
    two = write(tmp_path / "two.jsonl", "c")
    found = await read_prompts(DataSection(train=(one, SourceConfig(source=two))), seed=0)
    assert [(row.prompt, row.source) for row in found.train] == [("a", 0), ("b", 0), ("c", 1)]
