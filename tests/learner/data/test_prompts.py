import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.data.prompts import PromptStream, read_prompts, tokenize_prompts
from learner.data.sources import Row
from protocol.config import DataSection
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


def test_a_prompt_one_token_over_the_limit_is_refused_and_one_at_it_is_not():
    rows = [Row("a:1", "1234", {}), Row("b.jsonl:9", "12345", {})]
    assert len(tokenize_prompts(rows, CharTokenizer(False), 5)) == 2
    with pytest.raises(DataError, match=r"b\.jsonl:9: a prompt of 5 tokens, wanted 1 to 4"):
        tokenize_prompts(rows, CharTokenizer(False), 4)


def epoch_of(stream, num_prompts, epoch):
    return [stream.prompt_at(epoch * num_prompts + i) for i in range(num_prompts)]


@given(num_prompts=st.integers(1, 50), seed=st.integers(0, 2**64), epoch=st.integers(0, 1000))
def test_every_epoch_is_a_permutation(num_prompts, seed, epoch):
    found = epoch_of(PromptStream(num_prompts, seed), num_prompts, epoch)
    assert set(found) == set(range(num_prompts))


@given(num_prompts=st.integers(1, 20), seed=st.integers(0, 9), data=st.data())
def test_the_order_depends_on_the_seed_and_not_on_what_was_asked_before(num_prompts, seed, data):
    indices = data.draw(st.lists(st.integers(0, 6 * num_prompts)))
    stream = PromptStream(num_prompts, seed)
    found = [stream.prompt_at(index) for index in indices]
    assert found == [PromptStream(num_prompts, seed).prompt_at(index) for index in indices]


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = [epoch_of(PromptStream(100, seed), 100, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_the_order_is_the_same_in_every_release():
    # a checkpoint holds indices of the stream: another order would repeat and skip prompts
    assert epoch_of(PromptStream(8, 0), 8, 0) == [1, 5, 7, 2, 4, 6, 3, 0]


def test_the_stream_ends_after_the_last_epoch():
    stream = PromptStream(3, 0, epochs=2)
    assert [stream.prompt_at(i) is None for i in range(8)] == [False] * 6 + [True] * 2


def test_switching_between_two_epochs_permutes_each_once(monkeypatch):
    permuted = []

    class CountingRandom(random.Random):
        def __init__(self, seed):
            permuted.append(seed)
            super().__init__(seed)

    monkeypatch.setattr("learner.data.prompts.random.Random", CountingRandom)
    stream = PromptStream(5, 0)
    for index in [0, 5, 1, 6, 2, 7]:
        stream.prompt_at(index)
    assert len(permuted) == 2
