import json
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from learner.run_page.rollout_filter import RolloutFilter

LETTERS = 'aAkK"\\\n éÉßẞ\u03c3\u03a3\u0130\u0131\u212a<0'
TEXTS = st.text(LETTERS, max_size=6)


def may_and_does(wanted: RolloutFilter, row: dict) -> tuple[bool, bool]:
    return wanted.may_match(json.dumps(row).encode()), wanted.matches(row)


@pytest.mark.parametrize(
    ("text", "completion"),
    [
        ("é", "café"),
        ("É", "café"),
        ("CAFÉ", "le café."),
        ('say "hi"', 'They say "Hi"!'),
        ("a\nb", "A\nB"),
        ("\\n", "a \\n b"),
        ("k", "273 \u212a"),
        ("\u0130", "\u0130stanbul"),
        ("😀", "x😀"),
        ("<script>", "<SCRIPT>alert(1)</SCRIPT>"),
    ],
)
def test_text_is_found_in_any_case_and_behind_escapes(row, text, completion):
    assert may_and_does(RolloutFilter(text=text), row(completion=completion)) == (True, True)


def test_text_is_found_in_prompts_and_chat_messages(row):
    chat = [{"role": "user", "content": "What is 1+1?"}]
    assert RolloutFilter(text="80+91").matches(row())
    assert may_and_does(RolloutFilter(text="what IS"), row(prompt=chat)) == (True, True)


def test_most_others_are_told_by_their_bytes(row):
    line = json.dumps(row()).encode()
    for wanted in (
        RolloutFilter(text="rare"),
        RolloutFilter(text="é"),
        RolloutFilter(text="0.25"),  # only in the arrays
        RolloutFilter(status="reward_failed"),
        RolloutFilter(finish_reason="length"),
        RolloutFilter(prompt_id="data/train:10"),
    ):
        assert not wanted.may_match(line)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(needle=TEXTS.filter(bool), prompt=TEXTS, completion=TEXTS)
@example(needle="i", prompt="", completion="\u0130")
def test_what_matches_is_never_told_away(row, needle, prompt, completion):
    full = row(prompt=prompt, completion=completion)
    may, does = may_and_does(RolloutFilter(text=needle), full)
    assert does == (needle.lower() in prompt.lower() or needle.lower() in completion.lower())
    assert may or not does


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=TEXTS, wanted=TEXTS, spaced=st.booleans())
def test_names_are_compared_exactly(row, found, wanted, spaced):
    for name in ("status", "finish_reason", "prompt_id"):
        full = row(**{name: found})
        separators = (", ", ": ") if spaced else (",", ":")
        line = json.dumps(full, separators=separators, ensure_ascii=spaced).encode()
        asks = RolloutFilter(**{name: wanted})
        assert asks.matches(full) == (found == wanted)
        assert asks.may_match(line) or found != wanted


def test_no_other_character_becomes_ascii_in_lower_case():
    others = map(chr, range(128, sys.maxunicode + 1))
    found = [char for char in others if any(c.isascii() for c in char.lower())]
    assert found == ["\u0130", "\u212a"]


@pytest.mark.parametrize(
    ("reward", "low", "high", "matches"),
    [
        (0.5, 0.5, 0.5, True),
        (0.5, 0.6, None, False),
        (0.5, None, 0.4, False),
        (None, None, 9.0, False),
        (None, None, None, True),
        (True, 0.0, None, False),
    ],
)
def test_rewards_are_bounded_and_a_missing_one_is_within_no_bounds(row, reward, low, high, matches):
    wanted = RolloutFilter(min_reward=low, max_reward=high)
    assert may_and_does(wanted, row(reward=reward)) == (True, matches)
