"""The prompts of evaluators: read once a list of sources, and never trained on."""

import asyncio
import json

import pytest

from learner.evaluation_prompts import plan_evaluation, read_evaluation_prompts
from learner.evaluator import make_evaluator
from learner.suites import with_presets
from protocol.errors import DataError


class Letters:
    has_chat_template = False

    def encode(self, text):
        return [ord(letter) for letter in text]


@pytest.fixture
def resolved(make_config, tmp_path):
    def make(prompt, *evaluators):
        path = tmp_path / "own.jsonl"
        path.write_text(json.dumps({"prompt": prompt, "answer": "2"}) + "\n")
        own = [{**section, "data": [str(path)]} for section in evaluators]
        section = {"evaluators": [{"name": "accuracy"}, *own]}
        return with_presets(make_config(evaluation=section)), str(path)

    return make


def test_each_evaluator_is_given_its_own_prompts(resolved):
    config, path = resolved("unheard of", {"name": "reasoning_gym"}, {"name": "perplexity"})
    found = asyncio.run(read_evaluation_prompts(config))
    assert [(data, [row.prompt for row in rows]) for data, rows in found] == [
        ((path,), ["unheard of"])
    ]
    made = {s.name: make_evaluator(s) for s in config.evaluation.evaluators}
    evaluation = plan_evaluation(config, made, found, Letters())  # pyright: ignore
    given = [(plan.evaluate.name, plan.suite, len(plan.prompts)) for plan in evaluation.plans]
    assert given == [("reasoning_gym", 1, 1), ("perplexity", None, 1)]
    assert [len(suite.prompts) for suite in evaluation.suites] == [0, 1]


def test_a_prompt_of_an_evaluators_own_is_not_trained_on(resolved, make_config):
    [trained, *_] = asyncio.run(_train(make_config()))
    config, _ = resolved(trained.prompt, {"name": "gsm8k"})
    with pytest.raises(DataError, match="is also trained on"):
        asyncio.run(read_evaluation_prompts(config))


async def _train(config):
    from learner.data.sources import read_source

    return await read_source(config.data.train[0], "train", "prompt", config.run.seed)
