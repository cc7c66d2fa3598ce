"""Group ids and the prompts that they stand for."""

import json

from learner.data import PromptStream, TokenizedPrompt
from learner.exchange.prompt_book import PromptBook
from learner.ledger.groups import EVALUATION_IDS
from learner.sources import Row


def prompts(prefix, number):
    return [
        TokenizedPrompt(Row(f"{prefix}:{i}", f"{prefix} {i}?", {"answer": str(i)}), (i, i + 1))
        for i in range(number)
    ]


def make_book(*, epochs=None, first=0, train=3, heldout=2, seed=0):
    stream = PromptStream(train, seed, epochs)
    return PromptBook(prompts("train", train), prompts("heldout", heldout), stream, first)


def test_group_ids_rise_from_the_first_without_gaps():
    book = make_book(first=4)
    assert book.draw(2) == (4, 5)
    assert book.draw(3) == (6, 7, 8)


def test_the_prompts_of_an_epoch_are_each_drawn_once():
    book = make_book(epochs=2)
    drawn = book.draw(6)
    for epoch in (drawn[:3], drawn[3:]):
        ids = sorted(book.entry(group_id).prompt_id for group_id in epoch)
        assert ids == ["train:0", "train:1", "train:2"]


def test_a_draw_at_the_end_of_the_last_epoch_is_short_and_then_empty():
    book = make_book(epochs=2)
    assert book.draw(4) == (0, 1, 2, 3)
    assert book.draw(4) == (4, 5)
    assert book.draw(4) == ()
    assert make_book(epochs=1, first=3).draw(1) == ()


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


def test_every_evaluation_has_new_ids_for_the_same_prompts_in_order():
    book = make_book(heldout=3)
    assert book.num_heldout == 3
    first, second = book.draw_evaluation(), book.draw_evaluation()
    assert first == (EVALUATION_IDS, EVALUATION_IDS + 1, EVALUATION_IDS + 2)
    assert second == (EVALUATION_IDS + 3, EVALUATION_IDS + 4, EVALUATION_IDS + 5)
    for ids in (first, second):
        names = [book.entry(group_id).prompt_id for group_id in ids]
        assert names == ["heldout:0", "heldout:1", "heldout:2"]


def test_without_held_out_prompts_an_evaluation_is_empty():
    assert make_book(heldout=0).draw_evaluation() == ()
