"""New weights between two decode steps, and random programs of everything that may happen."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.batches.merged import Merged
from actors.batches.rows import Rows
from actors.batches.single import Single
from actors.sampler import sample

TOLERANCE = 1e-4
SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
KINDS = {
    "rows": ({}, lambda model: Rows(model, None)),
    "shared prompts": ({}, lambda model: Rows(model, 1)),
    "merged": (SLIDING, Merged),
    "single": (SLIDING, Single),
}


@dataclass
class Changing:
    """A model, the weights of its versions, an engine, and what it has finished."""

    model: Any
    weights: dict[int, Any]
    engine: Any = None
    finished: list[Any] = field(default_factory=list)

    def switch(self):
        self.engine.policy_version += 1
        self.model.update(self.weights[self.engine.policy_version])
        self.engine.weights_changed()

    def step(self, steps=1):
        for _ in range(steps):
            self.finished += self.engine.step()

    def by_key(self):
        keyed = {(c.lease.group_id, c.sample): c for c in self.finished}
        assert len(keyed) == len(self.finished), "a completion was given out twice"
        return keyed


@pytest.fixture(scope="session")
def changing(make_model, make_engine):
    """(kind, options) -> a model of its own with an engine that holds version 3."""
    made = {}

    def make(kind, **options):
        fields, batch = KINDS[kind]
        if kind not in made:
            sizes = {"hidden_size": 16, "intermediate_size": 24, "head_dim": 4}
            made[kind] = [make_model("llama", seed, **sizes, **fields) for seed in range(1, 13)]
        model = made[kind][-1]
        weights = {3 + index: each.parameters() for index, each in enumerate(made[kind][:-1])}
        model.update(weights[3])
        return Changing(
            model, weights, make_engine(model, batch(model), **{"stop_ids": {5}, **options})
        )

    return make


@pytest.fixture(scope="session")
def assert_reference(in_flight_logits):
    """Tokens and logprobs are those of mlx-lm's plain caches, under the reported versions."""

    def check(changing, *, recompute=False):
        for completion in changing.finished:
            versions = [version for version, _ in completion.policy_versions]
            assert versions == sorted(set(versions))
            count = len(completion.token_ids)
            assert sum(tokens for _, tokens in completion.policy_versions) == count
            logits_TV = in_flight_logits(
                changing.model, changing.weights, completion, recompute=recompute
            )
            chosen = sample(
                logits_TV,
                np.full(count, completion.lease.temperature, np.float32),
                np.full(count, completion.seed, np.uint64),
                np.arange(count, dtype=np.uint64),
            )
            assert completion.token_ids == np.array(chosen.tokens_B).tolist()
            wanted = np.array(chosen.logprobs_B)
            np.testing.assert_allclose(
                completion.behaviour_logprobs, wanted, atol=TOLERANCE, rtol=0
            )

    return check


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("look_ahead", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_after_a_switch_tokens_are_of_the_new_weights(
    changing, make_lease, drain, assert_reference, kind, look_ahead, recompute
):
    case = changing(kind, look_ahead=look_ahead, recompute=recompute)
    case.engine.add(make_lease(1, range(6, 20), 2, max_completion_tokens=10))
    case.step(2)
    case.engine.add(make_lease(2, (7, 8, 9), 2, max_completion_tokens=10))
    case.step(2)
    case.switch()
    case.finished += drain(case.engine)
    assert len(case.by_key()) == 4
    assert_reference(case, recompute=recompute)


@pytest.mark.parametrize("look_ahead", [False, True])
def test_a_step_that_had_begun_is_of_the_version_that_it_began_with(
    changing, make_lease, drain, look_ahead
):
    for recompute in (False, True):
        case = changing("rows", look_ahead=look_ahead, recompute=recompute, stop_ids=())
        case.engine.add(make_lease(1, num_samples=1, temperature=0.0, max_completion_tokens=9))
        case.step(4)
        case.switch()
        case.finished += drain(case.engine)
        [completion] = case.finished
        assert completion.policy_versions == [(3, 4 + look_ahead), (4, 5 - look_ahead)]


def test_completions_that_end_within_a_switch_come_with_the_next_step(
    changing, make_lease, assert_reference
):
    case = changing("rows", look_ahead=True, recompute=True, stop_ids=())
    case.engine.add(make_lease(1, num_samples=2, max_completion_tokens=4))
    case.engine.add(make_lease(2, num_samples=2, max_completion_tokens=9))
    case.step(3)
    case.switch()
    assert case.engine.decoding
    case.step()
    assert set(case.by_key()) == {(1, 0), (1, 1)}
    assert_reference(case, recompute=True)


def test_what_ended_within_a_switch_and_is_cancelled_is_not_reported(changing, make_lease, drain):
    case = changing("rows", look_ahead=True, recompute=True, stop_ids=())
    case.engine.add(make_lease(1, num_samples=2, max_completion_tokens=4))
    case.engine.add(make_lease(2, num_samples=2, max_completion_tokens=9))
    case.step(3)
    case.switch()
    case.engine.cancel(1, attempt=1)
    case.finished += drain(case.engine)
    assert set(case.by_key()) == {(2, 0), (2, 1)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_that_is_half_computed_is_computed_anew(
    changing, make_lease, drain, assert_reference, kind
):
    case = changing(kind, prefill_step_tokens=4)
    case.engine.add(make_lease(1, (7, 8), 1, max_completion_tokens=12))
    case.step()
    case.engine.add(make_lease(2, range(6, 20), 2, max_completion_tokens=3))
    case.step(2)  # 8 of 13 tokens
    case.switch()
    assert case.engine.progress()[2, 1] == 0
    case.finished += drain(case.engine)
    assert case.by_key()[2, 0].policy_versions[0][0] == 4
    assert_reference(case)


def test_samples_that_join_after_a_switch_begin_with_a_prompt_of_the_new_version(
    changing, make_lease, drain, assert_reference
):
    case = changing("shared prompts", max_sequences=2, stop_ids=())
    case.engine.add(make_lease(1, range(6, 20), 4, max_completion_tokens=5))
    case.step(2)
    case.switch()
    case.finished += drain(case.engine)
    versions = [case.by_key()[1, index].policy_versions for index in range(4)]
    assert versions == [[(3, 2), (4, 3)]] * 2 + [[(4, 5)]] * 2
    assert_reference(case)


OPERATION = st.one_of(
    st.tuples(
        st.just("add"),
        st.integers(1, 20),  # the prompt's length
        st.integers(1, 4),  # samples
        st.integers(1, 12),  # max_completion_tokens
        st.sampled_from([0.0, 0.7, 1.3]),
    ),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("switch")),
)
STEPS = st.lists(st.lists(OPERATION, max_size=2), min_size=3, max_size=9)
OPTIONS = st.fixed_dictionaries(
    {
        "max_sequences": st.integers(1, 9),
        "prefill_step_tokens": st.sampled_from([1, 5, 16, 512]),
        "max_kv_bytes": st.sampled_from([0, 0, 1, 4000, 20_000]),
        "look_ahead": st.booleans(),
        "recompute": st.booleans(),
        "recycle_tokens": st.sampled_from([10, 10**6]),
    }
)


@pytest.mark.parametrize("kind", KINDS)
@given(steps=STEPS, options=OPTIONS)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_whatever_happens_around_it_a_completion_stays_the_same(
    changing, make_lease, drain, assert_reference, kind, steps, options
):
    case = changing(kind, **options)
    wanted: dict[int, int] = {}
    switches = 0
    for operations in steps:
        for name, *arguments in operations:
            if name == "add":
                length, num_samples, tokens, temperature = arguments
                group_id = len(wanted)
                prompt = [6 + (7 * group_id + 3 * index) % 34 for index in range(length)]
                fields = {"max_completion_tokens": tokens, "temperature": temperature}
                case.engine.add(make_lease(group_id, prompt, num_samples, **fields))
                wanted[group_id] = num_samples
            elif name == "cancel" and arguments[0] in wanted:
                case.engine.cancel(arguments[0], attempt=1)
                begun = [c for c in case.finished if c.lease.group_id == arguments[0]]
                wanted[arguments[0]] = len(begun)
            elif name == "switch" and switches < 6:
                switches += 1
                case.switch()
        case.step()
    case.finished += drain(case.engine)
    counts = dict.fromkeys(wanted, 0)
    for group_id, _ in case.by_key():
        counts[group_id] += 1
    assert counts == wanted
    assert_reference(case, recompute=options["recompute"])
