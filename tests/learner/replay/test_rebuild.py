"""Rows of a file of rollouts -> samples."""

import json

import numpy as np
import pytest

from learner.data.prompts import TokenizedPrompt
from learner.data.sources import Row
from learner.data.stream import PromptStream
from learner.records import rollout_rows
from learner.replay.rebuild import Rebuilder, place
from learner.replay.verdict import Verdict
from learner.run_folder import finite
from learner.step import StepResult

PROMPTS = [
    TokenizedPrompt(Row(f"prompt-{group}", f"{group}+1=", {"answer": str(group + 1)}), (7, 8))
    for group in range(3)
]


class Joined:
    """Decodes each token to its number."""

    def decode(self, token_ids, *, skip_special_tokens):
        assert skip_special_tokens
        return "".join(map(str, token_ids))


@pytest.fixture
def rebuilder():
    stream = PromptStream(len(PROMPTS), seed=0, epochs=2)
    return Rebuilder(PROMPTS, stream, Joined(), vocabulary=10, group_size=2)


@pytest.fixture
def rows(make_sample):
    samples = [
        make_sample(token_ids=(9, 5), reward=1.0, logprobs=[-0.1, -1e-7], group=4),
        make_sample(token_ids=(5,), reward=None, rewards={"exact_match": None}, group=4, sample=1),
    ]
    nothing = np.zeros(2, np.float32)
    found = list(rollout_rows(samples, StepResult({}, nothing, (None, None))))
    for row in found:
        row["completion"] = "".join(map(str, row["token_ids"]))
    return json.loads(json.dumps(finite(found)))


def content(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_samples_come_back_with_their_bits_and_the_datas_prompts(rebuilder, rows):
    verdict = Verdict(1)
    rebuilt = rebuilder.rebuild(content(rows), verdict)
    assert verdict.differences == []
    assert rebuilt is not None
    first, second = rebuilt.samples
    row = PromptStream(3, seed=0).prompt_at(4)
    assert row is not None
    prompt = PROMPTS[row]
    assert (first.prompt_id, first.prompt) == (prompt.row.prompt_id, prompt.row.prompt)
    assert rebuilt.prompts == [prompt, prompt]
    assert first.prompt_ids.tolist() == [7, 8]
    expected = np.array([-0.1, -1e-7], np.float32)
    np.testing.assert_array_equal(first.rollout.behaviour_logprobs, expected)
    assert first.rollout.behaviour_logprobs.dtype == np.float32
    assert first.rollout.policy_versions == ((0, 2),)
    assert (first.actor, first.score.reward, first.score.status) == ("actor-1", 1.0, "ok")
    assert (second.score.reward, second.score.status) == (None, "reward_error")
    assert [named.name for named in second.score.rewards] == ["exact_match"]
    assert place(rows[1]) == "group 4 sample 1"


@pytest.mark.parametrize(
    "change",
    [
        {"token_ids": [9]},
        {"token_ids": [9, 10]},
        {"token_ids": "9"},
        {"reward": None},
        {"rewards": None},
        {"behaviour_logprobs": [-0.1, 0.5]},
        {"group": 6},
        {"group": None},
        {"group": -1},
        {"sample": "first"},
        {"finish_reason": "bored"},
    ],
    ids=str,
)
def test_a_row_that_can_be_no_sample_is_named_and_nothing_is_computed(rebuilder, rows, change):
    rows[1] |= {"token_ids": [9, 5], "behaviour_logprobs": [-0.5, -0.5]}
    rows[1] |= {"policy_versions": [[0, 2]], "reward": 1.0, "status": "ok", **change}
    verdict = Verdict(1)
    assert rebuilder.rebuild(content(rows), verdict) is None
    assert [(found.where, found.key) for found in verdict.differences] == [("line 2", "row")]


@pytest.mark.parametrize(
    ("order", "places"),
    [
        ((1, 0), [("line 1", (4, 1)), ("line 2", (4, 0))]),
        ((0,), [("the file", 1)]),
        ((0, 0), [("line 2", (4, 0))]),
    ],
)
def test_groups_are_whole_and_in_order(rebuilder, rows, order, places):
    verdict = Verdict(1)
    assert rebuilder.rebuild(content([rows[index] for index in order]), verdict) is not None
    assert [(found.where, found.found) for found in verdict.differences] == places


def test_a_text_that_is_not_its_tokens_is_named(rebuilder, rows):
    rows[0]["completion"] = "96"
    verdict = Verdict(1)
    assert rebuilder.rebuild(content(rows), verdict) is not None
    assert [str(found) for found in verdict.differences] == [
        'group 4 sample 0: completion: found "96", wanted "95"'
    ]
