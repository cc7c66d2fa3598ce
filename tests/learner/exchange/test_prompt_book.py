"""Group ids and the prompts that they stand for."""

import json
import logging

from learner.data.prompts import TokenizedPrompt
from learner.data.sources import Row
from learner.data.stream import PromptStream
from learner.exchange.evaluation_book import EvaluationBook, SuitePrompts
from learner.exchange.prompt_book import PromptBook, prompt_entry
from learner.ledger.events import PromptsAdded, PromptsEnded
from learner.ledger.groups import EVALUATION_IDS
from learner.suites import Suite

STREAM = PromptStream(3, 0)


def prompts(prefix, number):
    return [
        TokenizedPrompt(Row(f"{prefix}:{i}", f"{prefix} {i}?", {"answer": str(i)}), (i, i + 1))
        for i in range(number)
    ]


def make_book(*, epochs=None, first=0, train=3, heldout=2, seed=0):
    stream = PromptStream(train, seed, epochs)
    entries = [prompt_entry(prompt) for prompt in prompts("heldout", heldout)]
    book = EvaluationBook([SuitePrompts(Suite(("heldout",)), entries)])
    return PromptBook(prompts("train", train), book, stream, first)


def draw(book, num_prompts, retired=()) -> PromptsAdded:
    added = book.draw(num_prompts, set(retired))
    assert isinstance(added, PromptsAdded)
    return added


def drawn(book, num_prompts, retired=()):
    return draw(book, num_prompts, retired).group_ids


def test_group_ids_rise_from_the_first_without_gaps():
    book = make_book(first=4)
    assert drawn(book, 2) == (4, 5)
    assert drawn(book, 3) == (6, 7, 8)


def test_the_prompts_of_an_epoch_are_each_drawn_once():
    book = make_book(epochs=2)
    added = draw(book, 6)
    ids = [book.entry(group_id).prompt_id for group_id in added.group_ids]
    assert ids == [f"train:{row}" for row in added.rows]
    assert sorted(ids[:3]) == sorted(ids[3:]) == ["train:0", "train:1", "train:2"]


def test_a_draw_at_the_end_of_the_last_epoch_is_short_and_then_the_end(caplog):
    caplog.set_level(logging.INFO)
    book = make_book(epochs=2)
    assert drawn(book, 4) == (0, 1, 2, 3)
    assert drawn(book, 4) == (4, 5)
    assert book.draw(4, set()) == PromptsEnded()
    assert make_book(epochs=1, first=3).draw(1, set()) == PromptsEnded()
    assert not caplog.records


def test_retired_rows_come_on_top_of_what_was_asked_for():
    # three rows, one retired: 4 that are not take two epochs, maybe but for the last place
    added = draw(make_book(), 4, {1})
    assert [row for row in added.rows if row != 1] == [*rows_of_epoch(0, 1), *rows_of_epoch(1, 1)]
    assert added.rows.count(1) in (1, 2)
    assert added.group_ids == tuple(range(len(added.rows)))


def rows_of_epoch(epoch, but):
    return [row for place in range(3) if (row := STREAM.prompt_at(3 * epoch + place)) != but]


def test_once_every_row_is_retired_the_epoch_is_finished_and_then_the_data_ends(caplog):
    caplog.set_level(logging.INFO)
    book = make_book()
    assert drawn(book, 4) == (0, 1, 2, 3)
    assert drawn(book, 4, {0, 1, 2}) == (4, 5)
    assert "every prompt is retired" not in caplog.text
    assert book.draw(4, {0, 1, 2}) == PromptsEnded()
    assert caplog.text.count("every prompt is retired") == 1
    assert make_book(first=6).draw(4, {0, 1, 2}) == PromptsEnded()


def test_a_group_id_stands_for_the_same_prompt_wherever_the_run_begins():
    one, other = make_book(seed=5), make_book(seed=5, first=7)
    for group_id in range(12):
        assert one.entry(group_id).prompt_id == other.entry(group_id).prompt_id


def test_an_entry_carries_what_leases_and_scoring_need():
    book = make_book()
    entry = next(e for e in map(book.entry, range(3)) if e.prompt_id == "train:2")
    assert entry.prompt == "train 2?"
    assert entry.prompt_ids.dtype == "int32"
    assert entry.prompt_ids.tolist() == [2, 3]
    assert json.loads(entry.prompt_json) == "train 2?"
    assert json.loads(entry.columns_json) == {"answer": "2"}


def test_an_evaluations_id_stands_for_a_held_out_prompt():
    book = make_book(heldout=3)
    names = [book.entry(EVALUATION_IDS + n).prompt_id for n in range(4)]
    assert names == ["heldout:0", "heldout:1", "heldout:2", "heldout:0"]
