"""Every algorithm's loss against a plain reference, on random batches, whole and in parts."""

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import math
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.algorithm import StepTotals, TokenBatch, algorithm, make_algorithm
from protocol.config_learner import AlgorithmSection
from tests.learner.losses.reference import ALGORITHMS, reference_loss

FINE, COARSE = 64, 16
"""Logprobs are multiples of 1/64, exact in float32, so that no ratio lies on a bound by rounding;
estimates and advantages are multiples of 1/16."""
MAX_TOKENS = 6
GARBAGE = (1e4, -1e4, math.inf, -math.inf, math.nan)
TRAINED = ("logprobs_BT", "entropy_BT", "values_BT")
FIELDS = {  # of a TokenBatch: of the reference, smallest and largest integer, unit
    "logprobs_BT": ("logprob", -3 * FINE, 0, FINE),
    "behaviour_logprobs_BT": ("behaviour", -FINE, FINE, FINE),
    "proximal_logprobs_BT": ("proximal", -FINE, FINE, FINE),
    "ref_logprobs_BT": ("ref", -FINE, FINE, FINE),
    "entropy_BT": ("entropy", 0, 2 * COARSE, COARSE),
    "staleness_BT": ("staleness", 0, 4, 1),
    "advantages": ("advantage", -2 * COARSE, 2 * COARSE, COARSE),
    "values_BT": ("value", -COARSE, COARSE, COARSE),
    "old_values_BT": ("old_value", -COARSE, COARSE, COARSE),
    "returns_BT": ("return", -COARSE, COARSE, COARSE),
}
RELATIVE = ("behaviour", "proximal", "ref")
"""These are drawn as differences from the logprob."""


def used(settings):
    """Without the bounds of other corrections, which are refused."""
    own = ("correction", "proximal")
    kind = settings["correction"]
    return {k: v for k, v in settings.items() if k in own or k.startswith(kind)}


corrections = st.fixed_dictionaries(
    {
        "correction": st.sampled_from(["none", "tis", "token_mask", "geo_mask", "decoupled"]),
        "proximal": st.sampled_from(["recomputed", "interpolated"]),
        "tis_clip": st.sampled_from([1.1, 2.0]),
        "geo_mask_low": st.sampled_from([0.6, 0.99]),
        "geo_mask_high": st.sampled_from([1.01, 1.7]),
        "decoupled_cap": st.sampled_from([None, 1.3]),
    }
).map(used)
penalties = st.fixed_dictionaries(
    {
        "estimator": st.sampled_from(["k1", "k2", "k3"]),
        "coefficient": st.sampled_from([0.0, 0.1]),
    }
).map(lambda penalty: penalty if penalty["coefficient"] else {})
common = st.fixed_dictionaries(
    {
        "off_policy": corrections,
        "kl": penalties,
        "entropy_coefficient": st.sampled_from([0.0, 0.05]),
    }
)
OWN = {
    "grpo": {
        "dual_clip": [None, 1.5],
        "loss_aggregation": ["token_mean", "seq_mean_token_mean", "seq_mean_token_sum_norm"],
    },
    "gspo": {"clip_low": [3e-4, 0.1], "clip_high": [4e-4, 0.15]},
    "cispo": {"clip_low": [0.3, 1.0], "clip_high": [0.4, 4.0]},
    "dppo": {"mask_low": [0.1, 0.2], "penalty": [0.0, 1e-3, 0.1]},
    "ppo": {"value_clip": [0.2, 0.7], "value_coefficient": [0.0, 0.5]},
}


def parameters_of(name):
    own = {knob: st.sampled_from(values) for knob, values in OWN.get(name, {}).items()}
    everything = st.tuples(common, st.fixed_dictionaries(own)).map(lambda pair: pair[0] | pair[1])
    return st.just({}) | everything


@st.composite
def batches(draw):
    """Completions as the reference reads them; at least one has a token."""
    lengths = draw(st.lists(st.integers(0, MAX_TOKENS), min_size=1, max_size=4).filter(any))
    by_token = draw(st.booleans())
    completions = []
    for length in lengths:
        completion = {}
        for name, low, high, unit in FIELDS.values():
            drawn = draw(st.lists(st.integers(low, high), min_size=length, max_size=length))
            completion[name] = [number / unit for number in drawn]
        for name in RELATIVE:
            pairs = zip(completion["logprob"], completion[name], strict=True)
            completion[name] = [logprob + offset for logprob, offset in pairs]
        if not by_token:
            completion["advantage"] = completion["advantage"][:1] * length
        completions.append(completion)
    return completions, by_token


def token_batch(completions, by_token, garbage=0.0):
    """The same as arrays, with `garbage` in the padding."""
    shape = (len(completions), MAX_TOKENS)
    fields = {}
    for field, (name, *_) in FIELDS.items():
        fields[field] = np.full(shape, garbage, dtype=np.float32)
        for row, completion in enumerate(completions):
            fields[field][row, : len(completion[name])] = completion[name]
    if not by_token:
        fields["advantages"] = fields["advantages"][:, 0]
        empty_B = [not completion["advantage"] for completion in completions]
        fields["advantages"] = np.where(empty_B, garbage, fields["advantages"])
    lengths_B = np.array([len(completion["logprob"]) for completion in completions])
    mask_BT = np.arange(MAX_TOKENS) < lengths_B[:, None]
    arrays = {field: mx.array(array.astype(np.float32)) for field, array in fields.items()}
    return TokenBatch(**arrays, mask_BT=mx.array(mask_BT.tolist()))


def totals_of(completions):
    lengths = [len(completion["logprob"]) for completion in completions]
    return StepTotals(
        num_tokens=sum(lengths),
        num_sequences=sum(length > 0 for length in lengths),
        max_completion_tokens=MAX_TOKENS,
    )


def evaluate(made, batch, totals):
    """Loss, metrics, and the gradients by everything that is trained."""

    def loss(trained):
        return made.loss(replace(batch, **trained), totals)

    trained = {field: getattr(batch, field) for field in TRAINED}
    (value, metrics), gradients = mx.value_and_grad(loss)(trained)
    figures = {name: figure.item() for name, figure in metrics.items()}
    return value.item(), figures, {name: np.array(array) for name, array in gradients.items()}


def make(name, parameters):
    return make_algorithm(AlgorithmSection.model_validate({"name": name, **parameters}))


def padded(rows):
    array_BT = np.zeros((len(rows), MAX_TOKENS))
    for row, values in enumerate(rows):
        array_BT[row, : len(values)] = values
    return array_BT


def test_the_reference_knows_every_algorithm():
    assert set(ALGORITHMS) == set(algorithm.names())


@pytest.mark.parametrize("name", ALGORITHMS)
@settings(max_examples=60)
@given(data=st.data())
def test_loss_metrics_and_gradients_are_those_of_the_reference(name, data):
    completions, by_token = data.draw(batches())
    parameters = data.draw(parameters_of(name))
    totals = totals_of(completions)
    expected = reference_loss(
        name, parameters, completions, totals.num_tokens, totals.num_sequences, MAX_TOKENS
    )
    garbage = data.draw(st.sampled_from(GARBAGE))
    batch = token_batch(completions, by_token, garbage)
    loss, metrics, gradients = evaluate(make(name, parameters), batch, totals)
    assert loss == pytest.approx(expected.loss, rel=1e-5, abs=1e-5)
    assert metrics == pytest.approx(expected.metrics, rel=1e-5, abs=1e-5)
    for field, rows in (
        ("logprobs_BT", expected.by_logprob),
        ("entropy_BT", expected.by_entropy),
        ("values_BT", expected.by_value),
    ):
        np.testing.assert_allclose(gradients[field], padded(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ALGORITHMS)
@settings(max_examples=25)
@given(data=st.data())
def test_microbatches_add_up_to_the_whole(name, data):
    completions, by_token = data.draw(batches())
    made = make(name, data.draw(parameters_of(name)))
    totals = totals_of(completions)
    cut = data.draw(st.integers(0, len(completions)))
    parts = [part for part in (completions[:cut], completions[cut:]) if part]
    whole = evaluate(made, token_batch(completions, by_token), totals)
    split = [evaluate(made, token_batch(part, by_token), totals) for part in parts]
    assert sum(part[0] for part in split) == pytest.approx(whole[0], rel=1e-5, abs=1e-6)
    for metric, value in whole[1].items():
        assert sum(part[1][metric] for part in split) == pytest.approx(value, rel=1e-5, abs=1e-5)
    for field in TRAINED:
        joined_BT = np.concatenate([part[2][field] for part in split])
        np.testing.assert_allclose(joined_BT, whole[2][field], atol=1e-6)


@pytest.mark.parametrize("name", ALGORITHMS)
@settings(max_examples=25)
@given(drawn=batches())
def test_on_policy_every_algorithm_is_plain_policy_gradient(name, drawn):
    completions, by_token = drawn
    for completion in completions:
        completion["behaviour"] = completion["proximal"] = completion["logprob"]
    totals = totals_of(completions)
    _, metrics, gradients = evaluate(make(name, {}), token_batch(completions, by_token), totals)
    weight = {  # of a token, by how long its completion is
        "token_mean": lambda length: 1 / totals.num_tokens,
        "seq_mean_token_mean": lambda length: 1 / (totals.num_sequences * length),
        "seq_mean_token_sum_norm": lambda length: 1 / (totals.num_sequences * MAX_TOKENS),
    }[ALGORITHMS[name]["loss_aggregation"]]
    plain = [
        [-advantage * weight(len(completion["advantage"])) for advantage in completion["advantage"]]
        for completion in completions
    ]
    np.testing.assert_allclose(gradients["logprobs_BT"], padded(plain), rtol=1e-5, atol=1e-6)
    assert metrics["clip_fraction"] == 0
    assert metrics["mismatch_kl"] == 0
    assert metrics["importance_ratio"] == totals.num_tokens


def test_off_policy_the_surrogates_part_ways(gradient):
    # ratios 1.25, 2.5, 0.5 with A = +1; what each makes of them is worked out in its own test file
    names = ("grpo", "dapo", "dr_grpo", "gspo", "cispo", "dppo")
    rows = [gradient(make(name, {}), 1.0) for name in names]
    for first in range(len(rows)):
        for second in range(first):
            assert np.abs(rows[first] - rows[second]).max() > 1e-3 / 3, (
                names[first],
                names[second],
            )
