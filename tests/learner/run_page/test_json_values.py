import json

import pytest

from learner.run_page.json_values import as_number, as_whole, shown_text, text_pieces, to_json


@pytest.mark.parametrize("value", [True, "1", None, [1], float("nan"), float("inf"), 10**400])
def test_only_finite_numbers_are_numbers(value):
    assert as_number(value) is None


def test_numbers_are_floats_and_whole_numbers_those_of_javascript():
    assert as_number(3) == 3.0
    assert (as_whole(3), as_whole(3.0), as_whole(True), as_whole(1 << 53)) == (3, None, None, None)


def test_json_is_ascii_and_holds_null_for_what_is_not_finite():
    value = {"a": {"b": [1, float("nan")], "é": "\ud800<script>"}, "c": float("-inf")}
    text = to_json(value)
    assert text.isascii()
    assert json.loads(text) == {"a": {"b": [1, None], "é": "\ud800<script>"}, "c": None}


def test_what_json_does_not_know_is_text():
    assert json.loads(to_json({"day": {1: {2}}})) == {"day": {"1": "{2}"}}


def test_chat_messages_are_shown_and_searched():
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    assert shown_text(messages) == "system: Be short.\nuser: Hi"
    assert sorted(text_pieces(messages)) == ["Be short.", "Hi", "system", "user"]


def test_prompts_of_other_kinds_are_shown_as_json():
    assert (shown_text(None), shown_text({"a": "é"}), shown_text([])) == ("", '{"a": "é"}', "[]")


def test_what_nests_too_deep_and_is_not_finite_becomes_null():
    deep = float("nan")
    for _ in range(900):
        deep = [deep]
    assert json.loads(to_json({"facts": deep, "reward": 1.0})) == {"facts": None, "reward": 1.0}
