import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learner.run_page.rollout_rows import light_row, listed, read_row

TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(['", "token_ids": [1]', '\\", "rewards": ', '"}', 'é\n"\\', '], "rewards": {']),
)
PROMPTS = st.one_of(
    TEXTS,
    st.lists(st.fixed_dictionaries({"role": TEXTS, "token_ids": st.just([1]), "rewards": TEXTS})),
    st.fixed_dictionaries({"a": TEXTS, "token_ids": st.just([1, 2]), "rewards": st.just({})}),
)


@given(prompt=PROMPTS, completion=TEXTS, ids=st.lists(st.integers(0, 9), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_light_row_is_the_row_without_its_arrays(
    row, prompt: Any, completion: str, ids: list[int]
):
    full = row(prompt=prompt, completion=completion, token_ids=ids)
    arrays = ("token_ids", "behaviour_logprobs", "logprobs")
    whole = {key: value for key, value in full.items() if key not in arrays}
    light = light_row(json.dumps(full).encode())
    assert light is not None
    assert light["num_tokens"] == len(ids)
    assert {key: light[key] for key in whole} == whole


@pytest.mark.parametrize(
    "line", [b"", b"oops", b"[1]", b"\xff", b"[" * 100_000, b'{"a": 1', b'{"token_ids": [1, 2}']
)
def test_a_line_that_is_no_row_is_none(line):
    assert (light_row(line), read_row(line)) == (None, None)


def test_the_arrays_of_a_row_of_ours_are_never_read(row):
    line = json.dumps(row()).encode().replace(b"-0.25", b"-0.25 oops")
    assert read_row(line) is None
    assert (light_row(line) or {})["num_tokens"] == 4


def test_a_row_written_in_another_way_is_read_whole():
    light = light_row(b'{"token_ids":[1,2,3],"completion":"x"}')
    assert light is not None
    assert (light["num_tokens"], light["completion"]) == (3, "x")


def test_a_row_in_the_list_is_short(row):
    light = light_row(json.dumps(row(prompt="x" * 999, advantage=[1.0, 2.0, None])).encode())
    assert light is not None
    assert listed(light, 3, 7) == {
        "step": 3,
        "line": 7,
        "group": 0,
        "sample": 0,
        "prompt_id": "data/train:0",
        "prompt": "x" * 300,
        "completion": "171",
        "num_tokens": 4,
        "reward": 1.0,
        "rewards": {"exact_match": 1.0},
        "advantage": 1.5,
        "status": "ok",
        "finish_reason": "stop",
        "actor": "actor-a",
    }


def test_a_row_of_odd_values_is_listed_with_null_for_them():
    light = light_row(b'{"group": "x", "rewards": [1], "reward": NaN, "advantage": [], "actor": 1}')
    assert light is not None
    shown = listed(light, 1, 0)
    assert [shown[key] for key in ("group", "rewards", "reward", "advantage", "actor")] == [
        None,
        {},
        None,
        None,
        None,
    ]
