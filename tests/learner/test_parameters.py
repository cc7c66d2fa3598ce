"""What training changes: one step of policy and critic, the way back, and what is saved."""

from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from learner.critic import Critic
from learner.parameters import Parameters
from protocol.errors import CheckpointError
from protocol.policy import Policy


@pytest.fixture
def make(make_config):
    """Parameters of a 2 x 2 matrix of ones, and of a critic of 3 numbers where one is wanted."""

    def make(critic=False, weight_dtype=mx.bfloat16, **optimizer):
        section = {"critic_learning_rate": 0.5, "optimizer": {"learning_rate": 0.25, **optimizer}}
        config = make_config(learner=section, run={"max_steps": 10})
        model = nn.Linear(2, 2, bias=False)
        model.weight = mx.ones((2, 2))
        policy = Policy(model, SimpleNamespace(), Path(), weight_dtype, mx.float32)
        return Parameters(policy, Critic(2, config.learner) if critic else None, config)

    return make


def gradients(policy=1.0, critic=None):
    found = {"policy": {"weight": mx.full((2, 2), policy)}}
    if critic is not None:
        found["critic"] = {"weight": mx.full((2,), critic), "bias": mx.full((1,), critic)}
    return found


def bits(arrays):
    return {name: np.array(array).tobytes() for name, array in arrays.items()}


def test_what_is_trained_is_what_the_policy_computes_with(make):
    parameters = make()
    parameters.masters.replace({"weight": mx.full((2, 2), 1.001)})
    assert parameters.trained()["policy"]["weight"].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert parameters.trained().keys() == {"policy"}
    assert make(critic=True).trained()["critic"].keys() == {"weight", "bias"}


def test_a_first_step_by_hand(make):
    # Adam's first step is the learning rate long: 1 - 0.25, and 0 + 0.5 for the critic.
    # Norms before clipping to 1: sqrt(4 * 3^2) = 6, sqrt(3 * 2^2) = 3.464
    parameters = make(critic=True)
    norms = parameters.apply(gradients(policy=3.0, critic=-2.0), step=0)
    assert norms == {"grad_norm": 6.0, "critic_grad_norm": pytest.approx(12**0.5)}
    weight = parameters.masters.arrays["weight"]
    np.testing.assert_allclose(np.array(weight), np.full((2, 2), 0.75), atol=1e-5)
    assert parameters.critic is not None
    assert parameters.critic.arrays["weight"].tolist() == pytest.approx([0.5, 0.5], abs=1e-5)
    assert parameters.critic.arrays["bias"].tolist() == pytest.approx([0.5], abs=1e-5)
    assert parameters.trained()["policy"]["weight"][0, 0].item() == pytest.approx(0.75, abs=0.002)


def test_without_a_critic_there_is_one_norm(make):
    assert make().apply(gradients(policy=3.0), step=0) == {"grad_norm": 6.0}


def test_policy_and_critic_follow_one_schedule_with_peaks_of_their_own(make):
    # linear over 10 steps: half of 0.25 and of 0.5 at step 5
    parameters = make(critic=True, schedule="linear")
    assert parameters.learning_rate(5) == 0.125
    parameters.apply(gradients(critic=1.0), step=5)
    assert parameters.critic is not None
    assert parameters.critic.arrays["bias"].item() == pytest.approx(-0.25, abs=1e-5)


@pytest.mark.parametrize("critic", [False, True])
def test_the_way_back_leads_to_the_same_bits(make, critic):
    parameters = make(critic=critic)
    taught = gradients(critic=1.0) if critic else gradients()
    parameters.apply(taught, step=0)
    before, computed_with = bits(parameters.state()), bits(parameters.trained()["policy"])
    point = parameters.undo_point()
    for step in (1, 2):
        parameters.apply(taught, step=step)
    assert bits(parameters.state()) != before
    parameters.go_back(point)
    assert bits(parameters.state()) == before
    assert bits(parameters.trained()["policy"]) == computed_with


def test_steps_after_the_way_back_are_those_that_would_have_been(make):
    straight, around = make(critic=True), make(critic=True)
    for parameters in (straight, around):
        parameters.apply(gradients(critic=1.0), step=0)
    point = around.undo_point()
    around.apply(gradients(policy=-5.0, critic=7.0), step=1)
    around.go_back(point)
    for parameters in (straight, around):
        parameters.apply(gradients(policy=0.5, critic=-1.0), step=1)
    assert bits(around.state()) == bits(straight.state())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_found_in_policy_and_critic(make, bad):
    parameters = make(critic=True)
    assert parameters.are_finite()
    assert parameters.critic is not None
    parameters.critic.arrays["bias"] = mx.array([bad])
    assert not parameters.are_finite()
    parameters = make()
    parameters.masters.replace({"weight": mx.array([[1.0, bad], [-bad, 1.0]])})
    assert not parameters.are_finite()


def test_a_master_that_overflows_as_it_is_rounded_is_found(make):
    parameters = make(weight_dtype=mx.float16)
    parameters.masters.replace({"weight": mx.full((2, 2), 60_000.0)})  # four of them overflow too
    assert parameters.are_finite()
    parameters.masters.replace({"weight": mx.full((2, 2), 70_000.0)})  # float16 ends at 65,504
    assert not parameters.are_finite()


@pytest.mark.parametrize("critic", [False, True])
def test_a_state_goes_on_with_the_same_bits(make, critic):
    first, second = make(critic=critic), make(critic=critic)
    taught = gradients(critic=1.0) if critic else gradients()
    first.apply(taught, step=0)
    state = first.state()
    prefixes = {name.partition("/")[0] for name in state}
    more = {"critic", "critic_optimizer"} if critic else set()
    assert prefixes == {"masters", "optimizer"} | more
    second.restore(dict(reversed(state.items())))
    for parameters in (first, second):
        parameters.apply(taught, step=1)
    assert bits(second.state()) == bits(first.state())
    assert bits(second.trained()["policy"]) == bits(first.trained()["policy"])


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (False, "the checkpoint has no critic, the algorithm has one"),
        (True, "the checkpoint has a critic, the algorithm has none"),
    ],
)
def test_a_state_of_another_kind_of_algorithm_is_refused_and_changes_nothing(make, saved, message):
    state = make(critic=saved).state()
    other = make(critic=not saved)
    other.apply(gradients(critic=1.0), step=0)
    before = bits(other.state())
    with pytest.raises(CheckpointError, match=message):
        other.restore(state)
    assert bits(other.state()) == before
