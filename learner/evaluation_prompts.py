"""A config's evaluators -> what each is given: their prompts read, checked and tokenized."""

from collections.abc import Mapping, Sequence
from typing import Any

from learner.data.prompts import Tokenizer, read_prompts, tokenize_prompts
from learner.data.sources import Row
from learner.evaluation import Evaluation, Plan
from learner.evaluator import Evaluate
from learner.exchange.evaluation_book import SuitePrompts
from learner.exchange.prompt_book import PromptEntry, prompt_entry
from learner.suites import data_of, suite_of, suites_of
from protocol.config import DataSection, RunConfig

Heldout = list[tuple[tuple[Any, ...], Sequence[Row]]]
"""The rows of every list of sources that an evaluator has prompts from."""


async def read_evaluation_prompts(config: RunConfig) -> Heldout:
    """Read the prompts of every evaluator that brings its own, and make sure none is trained on.

    Args:
        config: with presets filled in; its `data.heldout` is read with the training prompts.

    Raises:
        DataError: as `read_prompts`.
    """
    found: Heldout = []
    for section in config.evaluation.evaluators:
        data = data_of(config, section)
        known = [tuple(config.data.heldout), *(sources for sources, _ in found)]
        if data not in known:
            tree = {**config.data.model_dump(), "heldout": data}
            prompts = await read_prompts(DataSection.model_validate(tree), config.run.seed)
            found.append((data, prompts.heldout))
    return found


def plan_evaluation(
    config: RunConfig, evaluators: Mapping[str, Evaluate], heldout: Heldout, tokenizer: Tokenizer
) -> Evaluation:
    """What every evaluator is given; one without prompts is left out.

    Args:
        config: with presets filled in.
        evaluators: by name.
        heldout: the rows of all sources, those of `data.heldout` included.
        tokenizer: the policy's.

    Raises:
        DataError: as `tokenize_prompts`.
    """
    limit = config.data.max_prompt_tokens
    prompts = [
        (sources, tuple(map(prompt_entry, tokenize_prompts(rows, tokenizer, limit))))
        for sources, rows in heldout
    ]
    suites = suites_of(config)
    plans: list[Plan] = []
    for section in config.evaluation.evaluators:
        entries = _of(prompts, data_of(config, section))
        suite = suite_of(config, section)
        if entries:
            index = None if suite is None else suites.index(suite)
            plans.append(Plan(evaluators[section.name], index, entries))
    with_prompts = [SuitePrompts(suite, _of(prompts, suite.data)) for suite in suites]
    return Evaluation(plans, with_prompts)


def _of(
    prompts: Sequence[tuple[tuple[Any, ...], tuple[PromptEntry, ...]]], data: tuple[Any, ...]
) -> tuple[PromptEntry, ...]:
    return next((entries for sources, entries in prompts if sources == data), ())
