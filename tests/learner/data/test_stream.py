import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.data.sources import Row
from learner.data.stream import MixedStream, PromptStream, prompt_stream
from protocol.config_data import DataSection


def epoch_of(stream, num_prompts, epoch) -> list[Any]:
    return [stream.prompt_at(epoch * num_prompts + i) for i in range(num_prompts)]


@given(num_prompts=st.integers(1, 50), seed=st.integers(0, 2**64), epoch=st.integers(0, 1000))
def test_every_epoch_is_a_permutation(num_prompts, seed, epoch):
    found = epoch_of(PromptStream(num_prompts, seed), num_prompts, epoch)
    assert set(found) == set(range(num_prompts))


@given(num_prompts=st.integers(1, 20), seed=st.integers(0, 9), data=st.data())
def test_the_order_depends_on_the_seed_and_not_on_what_was_asked_before(num_prompts, seed, data):
    indices = data.draw(st.lists(st.integers(0, 6 * num_prompts)))
    stream = PromptStream(num_prompts, seed)
    found = [stream.prompt_at(index) for index in indices]
    assert found == [PromptStream(num_prompts, seed).prompt_at(index) for index in indices]


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = [epoch_of(PromptStream(100, seed), 100, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_the_order_is_the_same_in_every_release():
    # a checkpoint holds indices of the stream: another order would repeat and skip prompts
    assert epoch_of(PromptStream(8, 0), 8, 0) == [1, 5, 7, 2, 4, 6, 3, 0]


def test_the_stream_ends_after_the_last_epoch():
    stream = PromptStream(3, 0, epochs=2)
    assert [stream.prompt_at(i) is None for i in range(8)] == [False] * 6 + [True] * 2


def test_switching_between_two_epochs_permutes_each_once(monkeypatch):
    permuted = []

    class CountingRandom(random.Random):
        def __init__(self, seed):
            permuted.append(seed)
            super().__init__(seed)

    monkeypatch.setattr("learner.data.stream.random.Random", CountingRandom)
    stream = PromptStream(5, 0)
    for index in [0, 5, 1, 6, 2, 7]:
        stream.prompt_at(index)
    assert len(permuted) == 2


def test_given_order_is_the_rows_own_and_by_source_shuffles_each():
    given_order = PromptStream(5, 0, order="given")
    assert [given_order.prompt_at(i) for i in range(7)] == [0, 1, 2, 3, 4, 0, 1]
    by_source = PromptStream(60, 0, order="by_source", sizes=(40, 20))
    for epoch in (0, 1):
        rows = epoch_of(by_source, 60, epoch)
        assert sorted(rows[:40]) == list(range(40)) != rows[:40]
        assert sorted(rows[40:]) == list(range(40, 60)) != rows[40:]
    assert epoch_of(by_source, 60, 0) != epoch_of(by_source, 60, 1)


def test_sources_take_turns_by_their_weights():
    # shares 3/4 and 1/4: behind by 3-0, then 6-4, then 3*3-8=1 against 3-0=3, then 12-8
    stream = MixedStream((2, 3), (3.0, 1.0), 0, order="given")
    assert [stream.epoch_at(i)[0] for i in range(8)] == [0, 0, 1, 0, 0, 0, 1, 0]
    # rows of the first source are 0, 1, of the second 2, 3, 4
    assert [stream.prompt_at(i) for i in range(8)] == [0, 1, 2, 0, 1, 0, 3, 1]
    assert [stream.epoch_at(i)[1] for i in range(8)] == [0, 0, 0, 1, 1, 2, 0, 2]


SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=2)
WEIGHTS = st.lists(st.floats(0.1, 10.0), min_size=2, max_size=2)


@given(sizes=SIZES, weights=WEIGHTS, seed=st.integers(0, 9), count=st.integers(1, 200))
def test_every_beginning_of_a_mixture_has_each_sources_share(sizes, weights, seed, count):
    stream = MixedStream(sizes, weights, seed, order="shuffled")
    found = Counter(stream.epoch_at(index)[0] for index in range(count))
    for source, weight in enumerate(weights):
        assert abs(found[source] - count * weight / sum(weights)) <= 1 + 1e-6


@given(sizes=SIZES, weights=WEIGHTS, seed=st.integers(0, 9), data=st.data())
def test_a_mixture_depends_on_nothing_that_was_asked_before(sizes, weights, seed, data):
    indices = data.draw(st.lists(st.integers(0, 60)))

    def stream():
        return MixedStream(sizes, weights, seed, order="shuffled")

    one = stream()
    assert [one.prompt_at(i) for i in indices] == [stream().prompt_at(i) for i in indices]


def test_each_pass_over_a_source_of_a_mixture_has_every_row_once():
    stream = MixedStream((4, 7), (1.0, 2.5), 3, order="shuffled")
    passes: dict[tuple[int, int], list[int | None]] = {}
    for index in range(300):
        passes.setdefault(stream.epoch_at(index), []).append(stream.prompt_at(index))
    rows = {0: set(range(4)), 1: set(range(4, 11))}
    whole = [found for (source, _), found in passes.items() if len(found) == len(rows[source])]
    assert len(whole) == len(passes) - 2  # the last pass of each goes on
    for (source, _), found in passes.items():
        assert len(set(found)) == len(found)
        assert set(found) <= rows[source]


def test_a_source_whose_prompts_are_all_too_long_has_no_turn():
    stream = MixedStream((0, 2), (5.0, 1.0), 0, order="given")
    assert [stream.prompt_at(i) for i in range(4)] == [0, 1, 0, 1]
    assert MixedStream((0, 0), (1.0, 1.0), 0, order="given").prompt_at(0) is None


@pytest.mark.parametrize(
    ("section", "kind"),
    [({"train": ["a", "b"]}, PromptStream), ({"train": ["a", {"source": "b", "weight": 2}]}, None)],
)
def test_weights_make_a_mixture(section, kind):
    rows = [Row("a:1", "x", {}), Row("b:1", "y", {}, source=1)]
    stream = prompt_stream(DataSection.model_validate(section), rows, 0)
    assert isinstance(stream, kind or MixedStream)
