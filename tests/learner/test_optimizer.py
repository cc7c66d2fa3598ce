import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import math
from io import BytesIO

import mlx.core as mx
import numpy as np
import pytest

from learner.optimizer import (
    apply_gradients,
    clip_gradients,
    learning_rate_at,
    make_optimizer,
    optimizer_state,
    restore_optimizer,
)
from protocol.config_learner import OptimizerSection
from protocol.errors import CheckpointError

UNBOUNDED = 1e9


def parameters():
    return {"layers": [{"weight": mx.array([[1.0, -2.0], [3.0, 0.5]])}], "norm": mx.array([1.0, 4])}


def random_gradients(seed):
    rng = np.random.default_rng(seed)
    return {
        "layers": [{"weight": mx.array(rng.normal(size=(2, 2)).astype(np.float32))}],
        "norm": mx.array(rng.normal(size=2).astype(np.float32)),
    }


def take_steps(optimizer, params, seeds, max_grad_norm=UNBOUNDED):
    for seed in seeds:
        params, _ = apply_gradients(
            optimizer,
            params,
            random_gradients(seed),
            learning_rate=0.01 * (seed + 1),
            max_grad_norm=max_grad_norm,
        )
    return params


def as_bytes(arrays):
    return {name: bytes(memoryview(array)) for name, array in arrays.items()}


def through_a_file(state):
    buffer = BytesIO()
    mx.save_safetensors(buffer, state)
    buffer.seek(0)
    loaded = mx.load(buffer, format="safetensors")
    assert isinstance(loaded, dict)
    mx.eval(loaded)
    return loaded


def test_the_first_step_is_as_long_as_the_learning_rate():
    # t = 1: m' = (1 - b1) g / (1 - b1) = g, v' = g^2  ->  step lr g / (|g| + eps) = lr sign(g)
    params = {"w": mx.array([1.0, 1.0, 1.0])}
    optimizer = make_optimizer(OptimizerSection(), params)
    gradients = {"w": mx.array([0.003, -40.0, 1.0])}
    params, _ = apply_gradients(
        optimizer, params, gradients, learning_rate=0.1, max_grad_norm=UNBOUNDED
    )
    np.testing.assert_allclose(np.array(params["w"]), [0.9, 1.1, 0.9], rtol=1e-4)


def test_five_steps_match_a_float64_adamw_that_decays_matrices_only():
    section = OptimizerSection(betas=(0.9, 0.99), eps=0.1, weight_decay=0.1)
    params = parameters()
    optimizer = make_optimizer(section, params)
    expected = {"weight": np.array([[1.0, -2.0], [3.0, 0.5]]), "norm": np.array([1.0, 4.0])}
    m = {name: np.zeros_like(w) for name, w in expected.items()}
    v = {name: np.zeros_like(w) for name, w in expected.items()}
    for t in range(1, 6):
        drawn = random_gradients(t)
        lr = 0.01 * (t + 1)
        for name, gradient in (("weight", drawn["layers"][0]["weight"]), ("norm", drawn["norm"])):
            g = np.array(gradient, dtype=np.float64)
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.99 * v[name] + 0.01 * g**2
            if name == "weight":
                expected[name] *= 1 - lr * 0.1
            unbiased_v = v[name] / (1 - 0.99**t)
            expected[name] -= lr * m[name] / (1 - 0.9**t) / (np.sqrt(unbiased_v) + 0.1)
        params = take_steps(optimizer, params, [t])
    found = {"weight": params["layers"][0]["weight"], "norm": params["norm"]}
    for name, array in found.items():
        np.testing.assert_allclose(np.array(array), expected[name], atol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        # peak 1, 3 warm-up steps, max_steps 11. Warm-up: 1/4, 2/4, 3/4, then the peak at step 3
        ("constant", 0, 0.25),
        ("constant", 2, 0.75),
        ("constant", 3, 1.0),
        ("constant", 10, 1.0),
        # x = (5 - 3) / (11 - 3) = 1/4; the last step, 10: x = 7/8
        ("linear", 1, 0.5),
        ("linear", 3, 1.0),
        ("linear", 5, 0.75),
        ("linear", 10, 0.125),
        ("linear", 11, 0.0),
        ("linear", 50, 0.0),
        # x = 1/4: (1 + cos(45 degrees)) / 2; x = 1/2: (1 + 0) / 2
        ("cosine", 0, 0.25),
        ("cosine", 3, 1.0),
        ("cosine", 5, (1 + math.sqrt(0.5)) / 2),
        ("cosine", 7, 0.5),
        ("cosine", 11, 0.0),
        ("cosine", 50, 0.0),
    ],
)
def test_learning_rates_by_hand(schedule, step, expected):
    section = OptimizerSection(learning_rate=1.0, schedule=schedule, warmup_steps=3)
    assert learning_rate_at(step, section, max_steps=11) == pytest.approx(expected, abs=1e-12)


def test_without_warm_up_the_first_step_has_the_peak_learning_rate():
    for schedule in ("constant", "linear", "cosine"):
        section = OptimizerSection(learning_rate=2e-6, schedule=schedule)
        assert learning_rate_at(0, section, max_steps=1) == 2e-6


def test_a_warm_up_longer_than_the_run_never_reaches_the_peak():
    section = OptimizerSection(learning_rate=1.0, schedule="linear", warmup_steps=9)
    assert [learning_rate_at(step, section, max_steps=3) for step in range(3)] == [0.1, 0.2, 0.3]


def test_clipping_by_hand():
    # norm sqrt(3^2 + 4^2 + 12^2) = 13; to 6.5: halved
    gradients = {"a": mx.array([3.0, 4.0]), "b": [mx.array([[12.0]])]}
    clipped, norm = clip_gradients(gradients, 6.5)
    assert norm.item() == pytest.approx(13.0)
    np.testing.assert_allclose(np.array(clipped["a"]), [1.5, 2.0], rtol=1e-6)
    np.testing.assert_allclose(np.array(clipped["b"][0]), [[6.0]], rtol=1e-6)


@pytest.mark.parametrize("values", [[0.1, 0.7], [0.0, 0.0]])
def test_a_gradient_within_the_bound_keeps_its_bits(values):
    clipped, norm = clip_gradients({"a": mx.array(values)}, 1.0)
    assert norm.item() == pytest.approx(math.hypot(*values))
    assert clipped["a"].tolist() == mx.array(values).tolist()


def test_the_norm_of_half_precision_gradients_is_summed_in_fp32():
    # 300^2 = 90,000 is beyond float16's 65,504
    clipped, norm = clip_gradients({"a": mx.array([300.0, 400.0], dtype=mx.float16)}, 1.0)
    assert norm.item() == pytest.approx(500.0)
    assert clipped["a"].dtype == mx.float16


def test_the_norm_returned_is_that_before_clipping_and_the_step_uses_the_clipped_gradient():
    params = {"w": mx.array([0.0, 0.0])}
    optimizer = make_optimizer(OptimizerSection(), params)
    _, grad_norm = apply_gradients(
        optimizer, params, {"w": mx.array([3.0, 4.0])}, learning_rate=0.1, max_grad_norm=1.0
    )
    assert grad_norm == pytest.approx(5.0)
    # m = (1 - 0.9) g / 5
    np.testing.assert_allclose(np.array(optimizer.state["w"]["m"]), [0.06, 0.08], rtol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_changes_neither_parameters_nor_state(bad):
    params = parameters()
    optimizer = make_optimizer(OptimizerSection(), params)
    params = take_steps(optimizer, params, [0, 1])
    before = as_bytes(optimizer_state(optimizer))
    gradients = random_gradients(2) | {"norm": mx.array([bad, 1.0])}
    after, grad_norm = apply_gradients(
        optimizer, params, gradients, learning_rate=0.5, max_grad_norm=1.0
    )
    assert not math.isfinite(grad_norm)
    assert after is params
    assert as_bytes(optimizer_state(optimizer)) == before


def test_a_restored_optimizer_goes_on_with_the_same_bits():
    section = OptimizerSection(weight_decay=0.01)
    first = make_optimizer(section, parameters())
    params = take_steps(first, parameters(), range(3), max_grad_norm=1.0)
    state = through_a_file(optimizer_state(first))
    second = make_optimizer(section, params)
    restore_optimizer(second, state)
    assert as_bytes(optimizer_state(second)) == as_bytes(optimizer_state(first))

    through = take_steps(first, params, range(3, 6), max_grad_norm=1.0)
    resumed = take_steps(second, params, range(3, 6), max_grad_norm=1.0)
    assert resumed["norm"].tolist() == through["norm"].tolist()
    assert resumed["layers"][0]["weight"].tolist() == through["layers"][0]["weight"].tolist()
    assert as_bytes(optimizer_state(second)) == as_bytes(optimizer_state(first))


def test_parameters_in_a_flat_dict_with_dotted_names_are_restored_too():
    first = make_optimizer(OptimizerSection(), {"layers.0.weight": mx.ones((2, 2))})
    gradients = {"layers.0.weight": mx.array([[1.0, -2.0], [0.5, 0.0]])}
    params = {"layers.0.weight": mx.ones((2, 2))}
    params, _ = apply_gradients(first, params, gradients, learning_rate=0.1, max_grad_norm=1e9)
    second = make_optimizer(OptimizerSection(), params)
    restore_optimizer(second, through_a_file(optimizer_state(first)))
    small = {"layers.0.weight": mx.full((2, 2), 0.01)}  # the step is that of the moments
    after = [
        apply_gradients(each, params, small, learning_rate=0.1, max_grad_norm=1e9)[0]
        for each in (first, second)
    ]
    assert after[0]["layers.0.weight"].tolist() == after[1]["layers.0.weight"].tolist()
    assert after[0]["layers.0.weight"][0, 1].item() > 1.1


def test_the_state_is_named_by_parameter_and_can_be_saved_before_the_first_step():
    state = optimizer_state(make_optimizer(OptimizerSection(), parameters()))
    assert sorted(state) == [
        "layers.0.weight.m",
        "layers.0.weight.v",
        "learning_rate",
        "norm.m",
        "norm.v",
        "step",
    ]


def test_a_saved_state_is_not_moved_by_later_steps():
    params = parameters()
    optimizer = make_optimizer(OptimizerSection(), params)
    params = take_steps(optimizer, params, [0])
    state = optimizer_state(optimizer)
    saved = as_bytes(state)
    take_steps(optimizer, params, [1])
    assert as_bytes(state) == saved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm.m": mx.zeros(3)}, r"'norm.m': found \[3\] .*wanted \[2\]"),
        ({"extra.m": mx.zeros(1)}, r"'extra.m': found \[1\] .*wanted nothing"),
        ({"norm.v": mx.zeros(2, dtype=mx.float16)}, r"'norm.v': found .*float16, wanted .*float32"),
        ({"step": None}, r"'step': found nothing, wanted \[\] .*uint64"),
    ],
)
def test_a_state_of_another_model_is_refused_and_changes_nothing(change, message):
    optimizer = make_optimizer(OptimizerSection(), parameters())
    before = as_bytes(optimizer_state(optimizer))
    state = {k: a for k, a in (optimizer_state(optimizer) | change).items() if a is not None}
    with pytest.raises(CheckpointError, match=message):
        restore_optimizer(optimizer, state)
    assert as_bytes(optimizer_state(optimizer)) == before
