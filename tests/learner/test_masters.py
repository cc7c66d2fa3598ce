"""fp32 masters behind a rounded policy, on a model of one matrix."""

from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from learner.masters import Masters
from protocol.errors import CheckpointError
from protocol.policy import Policy


def make_policy(values=((1.0, 2.0), (3.0, -4.0))):
    model = nn.Linear(2, 2, bias=False)
    model.weight = mx.array(values)
    return Policy(model, SimpleNamespace(), Path(), mx.bfloat16, mx.float32)


def values(array):
    return np.array(array.astype(mx.float32)).tolist()


def test_masters_hold_fp32_and_the_policy_computes_with_them_rounded_to_bfloat16():
    # bfloat16 keeps 8 significant bits: between 1 and 2 its steps are 2^-7 = 0.0078125
    policy = make_policy()
    masters = Masters(policy)
    masters.replace({"weight": mx.array([[1.001, 1.005], [1.0078125, -1.001]])})
    assert masters.arrays["weight"].dtype == mx.float32
    assert masters.rounded()["weight"].dtype == mx.bfloat16
    assert values(masters.rounded()["weight"]) == [[1.0, 1.0078125], [1.0078125, -1.0]]
    assert policy.model.weight.dtype == mx.float32
    assert values(policy.model.weight) == [[1.0, 1.0078125], [1.0078125, -1.0]]


def test_a_model_that_is_loaded_is_rounded_at_once():
    policy = make_policy([[1.001, 1.0], [1.0, 1.0]])
    masters = Masters(policy)
    assert values(policy.model.weight) == [[1.0, 1.0], [1.0, 1.0]]
    assert masters.arrays["weight"][0, 0].item() == pytest.approx(1.001)


def test_updates_far_below_bfloat16_add_up_in_the_masters_until_the_policy_steps():
    # fp32 steps by 1.19e-7 from 1 on, so 1e-6 is taken as 8 steps, 9.54e-7: 100 times 9.54e-5.
    # bfloat16 steps by 2^-7: what lies below half of it, 0.00390625, rounds to 1.
    policy = make_policy([[1.0, 1.0], [1.0, 1.0]])
    masters = Masters(policy)
    for _ in range(100):
        masters.replace({"weight": masters.arrays["weight"] + 1e-6})
    assert masters.arrays["weight"][0, 0].item() == pytest.approx(1.0000954, abs=1e-7)
    assert values(policy.model.weight) == [[1.0, 1.0], [1.0, 1.0]]
    masters.replace({"weight": masters.arrays["weight"] + 3700e-6})
    assert values(policy.model.weight) == [[1.0, 1.0], [1.0, 1.0]]
    masters.replace({"weight": masters.arrays["weight"] + 200e-6})
    assert values(policy.model.weight) == [[1.0078125, 1.0078125], [1.0078125, 1.0078125]]


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"weight": mx.zeros((2, 3))}, "weight"),
        ({}, "weight"),
        ({"weight": mx.zeros((2, 2)), "bias": mx.zeros((2,))}, "bias"),
    ],
)
def test_masters_of_another_model_are_refused_and_nothing_changes(arrays, named):
    policy = make_policy()
    masters = Masters(policy)
    with pytest.raises(CheckpointError, match=f"masters do not fit this model: {named}"):
        masters.replace(arrays)
    assert values(masters.arrays["weight"]) == [[1.0, 2.0], [3.0, -4.0]]
    assert values(policy.model.weight) == [[1.0, 2.0], [3.0, -4.0]]


def test_a_version_lists_its_tensors_in_the_order_of_their_names():
    model = nn.Linear(2, 2, bias=True)
    masters = Masters(Policy(model, SimpleNamespace(), Path(), mx.float16, mx.float32))
    assert list(masters.rounded()) == ["bias", "weight"]


def test_what_is_frozen_has_no_master():
    model = nn.Linear(2, 2, bias=True)
    model.freeze(keys="weight")
    masters = Masters(Policy(model, SimpleNamespace(), Path(), mx.bfloat16, mx.float32))
    assert list(masters.arrays) == ["bias"]


def test_new_masters_keep_the_old_order():
    # the gradient's norm sums over them in their order, and a file gives them in any
    model = nn.Linear(2, 2, bias=True)
    masters = Masters(Policy(model, SimpleNamespace(), Path(), mx.bfloat16, mx.float32))
    order = list(masters.arrays)
    masters.replace({name: masters.arrays[name] for name in reversed(order)})
    assert list(masters.arrays) == order
