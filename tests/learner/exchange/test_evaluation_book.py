"""Group ids of evaluations, and the suites and prompts that they stand for."""

import numpy as np

from learner.exchange.evaluation_book import Drawn, EvaluationBook, SuitePrompts
from learner.exchange.prompt_book import PromptEntry
from learner.ledger.groups import EVALUATION_IDS
from learner.suites import Suite


def entries(prefix, number):
    ids = np.array([1], np.int32)
    return [PromptEntry(f"{prefix}:{i}", "", ids, '""', "{}") for i in range(number)]


GREEDY, SAMPLED = Suite(("a",)), Suite(("b",), num_samples=4, temperature=1.0)


def test_every_evaluation_has_new_ids_for_the_same_prompts_in_order():
    book = EvaluationBook(
        [SuitePrompts(GREEDY, entries("a", 2)), SuitePrompts(SAMPLED, entries("b", 1))]
    )
    first, second = book.draw(), book.draw()
    assert first == Drawn((EVALUATION_IDS, EVALUATION_IDS + 1, EVALUATION_IDS + 2), (1, 1, 4))
    assert second.group_ids == tuple(group_id + 3 for group_id in first.group_ids)
    for drawn in (first, second):
        assert [book.entry(i).prompt_id for i in drawn.group_ids] == ["a:0", "a:1", "b:0"]
        assert [book.index(i) for i in drawn.group_ids] == [0, 0, 1]
        assert [book.suite(i) for i in drawn.group_ids] == [GREEDY, GREEDY, SAMPLED]


def test_without_suites_an_evaluation_is_empty():
    assert EvaluationBook().draw() == Drawn((), ())
    assert EvaluationBook().num_prompts == 0
