import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.config_model import ModelSection
from reward_workers.thinking import Thinking, split_thought, thinking_of

TAGS = Thinking("<think>", "</think>")
OPEN = Thinking("<think>", "</think>", is_open=True)


@pytest.mark.parametrize(
    ("completion", "thinking", "thought", "reply"),
    [
        ("<think>7+8=15</think>\n\n15", TAGS, "<think>7+8=15</think>\n\n", "15"),
        ("7+8=15</think>15\n", OPEN, "7+8=15</think>", "15\n"),
        ("15", TAGS, "", "15"),
        (" 15", TAGS, "", " 15"),
        ("15", OPEN, "15", ""),  # the prompt's thought was not closed
        ("<think>7+8=", TAGS, "<think>7+8=", ""),
        ("15 <think>or 16", TAGS, "15 <think>or 16", ""),
        ("<think>a</think>1<think>b</think>2", TAGS, "<think>a</think>1<think>b</think>", "2"),
        ("<think>a</think>1<think>b", TAGS, "<think>a</think>1<think>b", ""),
        ("<think></think>", TAGS, "<think></think>", ""),
        ("</think>15", TAGS, "</think>", "15"),
        ("", TAGS, "", ""),
        ("", OPEN, "", ""),
        ("<think>a</think>15", Thinking(), "", "<think>a</think>15"),
    ],
)
def test_the_reply_is_what_follows_the_last_closing_tag(completion, thinking, thought, reply):
    assert split_thought(completion, "7+8=", thinking) == (thought, reply)


def test_a_prompt_that_is_completed_as_it_is_may_open_the_thought():
    assert split_thought("15", "7+8=<think>\n", TAGS) == ("15", "")
    assert split_thought("a</think>15", "7+8=<think>\n", TAGS) == ("a</think>", "15")
    assert split_thought("15", [{"role": "user", "content": "<think>"}], TAGS) == ("", "15")


pieces = st.lists(st.sampled_from(["<think>", "</think>", "<th", "think>", " ", "\n", "15", "é"]))


@given(pieces, st.booleans())
def test_both_parts_together_are_the_completion_and_no_reply_holds_a_tag(parts, is_open):
    completion = "".join(parts)
    thought, reply = split_thought(completion, "", TAGS._replace(is_open=is_open))
    assert thought + reply == completion
    assert "<think>" not in reply
    assert "</think>" not in reply
    if "</think>" not in completion and "<think>" not in completion:
        assert reply == ("" if is_open else completion)


def test_only_what_the_learner_resolved_counts():
    def thinking(**keys):
        return thinking_of(ModelSection.model_validate({"path": "x", **keys}))

    assert thinking() == thinking(think_tags="none") == Thinking()
    assert thinking(think_tags=["<a>", "</a>"]) == Thinking("<a>", "</a>", is_open=False)
    opened = thinking(think_tags=["<a>", "</a>"], prompt_opens_thought=True)
    assert opened == Thinking("<a>", "</a>", is_open=True)
