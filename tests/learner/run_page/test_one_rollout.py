import json
import math

import pytest

from learner.run_page.one_rollout import one_rollout
from learner.run_page.query import RequestError
from learner.run_page.rollout_files import RolloutFiles
from learner.run_page.rollout_tokens import TokenTexts


@pytest.fixture
def show(run_dir):
    def show(step, line):
        files = RolloutFiles(run_dir / "rollouts")
        answer = one_rollout(files, TokenTexts(run_dir), "builtin:tiny", step, line)
        json.dumps(answer, allow_nan=False)
        return answer

    return show


def test_a_rollout_by_hand(show, write_rollouts, row):
    write_rollouts(1, row(facts={"exact_match": {"why": "equal"}}, detail="fine"))
    shown = show(1, 0)
    assert shown["tokens"][1:3] == [
        {
            "text": "7",
            "id": 13,
            "behaviour_logprob": -0.25,
            "logprob": -0.5,
            "importance_ratio": math.exp(-0.25),
            "advantage": 0.5,
            "policy_version": 3,
        },
        {
            "text": "1",
            "id": 7,
            "behaviour_logprob": -1.0,
            "logprob": -1.0,
            "importance_ratio": 1.0,
            "advantage": 0.5,
            "policy_version": 4,
        },
    ]
    assert (shown["facts"], shown["detail"]) == ({"exact_match": {"why": "equal"}}, "fine")
    assert (shown["prompt"], shown["messages"], shown["num_tokens"]) == ("80+91=", None, 4)
    assert "token_ids" not in shown


def test_a_rollout_that_was_not_trained_on_has_no_ratios(show, write_rollouts, row):
    write_rollouts(1, row(logprobs=None, advantage=[1.0, 2.0, 3.0, 4.0]))
    shown = show(1, 0)
    assert [token["importance_ratio"] for token in shown["tokens"]] == [None] * 4
    assert [token["advantage"] for token in shown["tokens"]] == [1.0, 2.0, 3.0, 4.0]
    assert shown["advantage"] == 2.5


def test_chat_messages_are_there_as_they_were(show, write_rollouts, row):
    messages = [{"role": "user", "content": "<b>hi</b>"}]
    write_rollouts(1, row(prompt=messages))
    shown = show(1, 0)
    assert (shown["prompt"], shown["messages"]) == ("user: <b>hi</b>", messages)


@pytest.mark.parametrize(
    "changes",
    [
        {"token_ids": "x", "behaviour_logprobs": None},
        {"logprobs": [1e300, None, "x"], "behaviour_logprobs": [-1e300]},
        {"policy_versions": [[1, 10**15], [2], "x", [3, -1], [10**30, 1]]},
        {"policy_versions": {"a": 1}, "advantage": {}, "rewards": [], "facts": 7},
        {"prompt": {"a": [1]}, "completion": None, "reward": "x", "group": [1]},
        {"token_ids": [[], None, -1, 10**30], "advantage": ["x"]},
    ],
)
def test_odd_rows_are_shown_as_far_as_they_go(show, write_rollouts, row, changes):
    write_rollouts(1, row(**changes))
    ids = changes.get("token_ids", [0] * 4)
    assert len(show(1, 0)["tokens"]) == (len(ids) if isinstance(ids, list) else 0)


@pytest.mark.parametrize("place", [(1, 2), (1, 10**12), (2, 0), (0, 0)])
def test_what_is_not_there_is_not_found(show, write_rollouts, row, place):
    write_rollouts(1, row(), row())
    with pytest.raises(RequestError, match="there is no rollout in line") as caught:
        show(*place)
    assert caught.value.status.startswith("404")


def test_a_damaged_line_is_said_to_be_damaged(show, write_rollouts, row):
    write_rollouts(1, row(), b'{"group": 0, "prom')
    with pytest.raises(RequestError, match="line 1 of step 1 is damaged"):
        show(1, 1)


def test_neighbours_follow_the_list(show, write_rollouts, row):
    for step in (1, 3):
        write_rollouts(step, row(), row())
    write_rollouts(2)

    def neighbours(step, line):
        found = show(step, line)["neighbours"].values()
        return [place and (place["step"], place["line"]) for place in found]

    assert neighbours(3, 0) == [None, (3, 1)]
    assert neighbours(3, 1) == [(3, 0), (1, 0)]
    assert neighbours(1, 0) == [(3, 1), (1, 1)]
    assert neighbours(1, 1) == [(1, 0), None]


def test_a_group_is_whole_and_alone(show, write_rollouts, row):
    rows = [row(group=group, sample=n, reward=n) for group in (7, 8, 9) for n in range(3)]
    write_rollouts(1, *rows)
    for line in (3, 4, 5):
        shown = show(1, line)["group_rows"]
        assert [(other["line"], other["sample"]) for other in shown] == [(3, 0), (4, 1), (5, 2)]
    assert shown[2] == {
        "line": 5,
        "sample": 2,
        "reward": 2.0,
        "advantage": 0.5,
        "completion": "171",
    }
