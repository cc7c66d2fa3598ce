"""Perplexity of texts under a policy of literal logprobs."""

import json
import math

import numpy as np
import pytest

from learner.evaluator import PolicyView
from learner.evaluators.perplexity import perplexity
from learner.exchange.prompt_book import PromptEntry
from protocol.errors import DataError


class Letters:
    """A token a character."""

    def encode(self, text, *, add_special_tokens=True):
        assert not add_special_tokens  # a beginning token would stand in the middle
        return [ord(letter) for letter in text]


def policy(logprob_of):
    def logprobs(prompts, completions):
        assert [prompt.tolist() for prompt in prompts] == [[7]] * len(completions)
        return [np.array([logprob_of[chr(t)] for t in ids], np.float32) for ids in completions]

    return PolicyView(logprobs, Letters())


def prompts(*columns):
    ids = np.array([7], np.int32)
    return [PromptEntry(f"d:{i}", "p", ids, '"p"', json.dumps(c)) for i, c in enumerate(columns)]


def test_every_token_has_the_same_weight():
    # "ab" and "b": -(1 + 2 + 2) / 3 nats a token
    rows = prompts({"answer": "ab"}, {"answer": "b"})
    found = perplexity(rows, policy=policy({"a": -1.0, "b": -2.0}))
    assert found["perplexity"] == pytest.approx(math.exp(5 / 3))
    assert (found["n"], found["tokens"]) == (2, 3)
    # of either prompt alone: exp(3/2) and exp(2)
    assert found["perplexity_low"] == pytest.approx(math.exp(1.5))
    assert found["perplexity_high"] == pytest.approx(math.exp(2.0))


def test_another_column_may_hold_the_text_and_numbers_are_texts():
    found = perplexity(prompts({"text": 11}), policy=policy({"1": -0.5}), column="text")
    assert found["perplexity"] == pytest.approx(math.exp(0.5))


@pytest.mark.parametrize("columns", [{}, {"answer": ""}, {"answer": None}, {"answer": ["a"]}])
def test_a_row_without_the_text_is_refused_by_name(columns):
    with pytest.raises(DataError, match="d:0: evaluator 'perplexity' finds no text"):
        perplexity(prompts(columns), policy=policy({}))
