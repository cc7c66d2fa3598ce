import json
import os
import shutil
import subprocess
import sys
from typing import Any, cast

import numpy as np
import pytest

from protocol.blas import preload_blas

preload_blas()

import mlx.core as mx  # noqa: E402 - the BLAS must be loaded first
import mlx.nn as nn  # noqa: E402
from mlx.utils import tree_flatten, tree_map  # noqa: E402

from protocol.config import RunConfig  # noqa: E402
from protocol.errors import ConfigError, WeightsError  # noqa: E402
from protocol.model_folder import BUILTIN  # noqa: E402
from protocol.policy import (  # noqa: E402
    dtypes,
    frozen_arrays,
    load_policy,
    log_softmax,
    logits,
    token_logprobs,
)

TOKENS = mx.array([[7, 8, 9, 10, 11]])


@pytest.fixture(autouse=True)
def _uncompiled():
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.fixture
def folder(tmp_path):
    """A copy of the built-in model, to be damaged."""
    return shutil.copytree(BUILTIN / "tiny", tmp_path / "model")


def make_config(path="builtin:tiny", *, weight="bfloat16", compute="float32", learner=None, seed=0):
    return RunConfig.model_validate(
        {
            "run": {"seed": seed},
            "model": {"path": str(path)},
            "policy": {"weight_dtype": weight, "compute_dtype": compute},
            "data": {"train": ["unused"]},
            "rewards": [{"name": "exact_match"}],
            "learner": learner or {},
        }
    )


def named(tree) -> dict[str, Any]:
    return dict(cast(Any, tree_flatten(tree)))


def parameters(policy):
    return named(policy.model.parameters())


def read_weights(folder) -> dict[str, Any]:
    return dict(cast(Any, mx.load(str(folder / "model.safetensors"))))


def edit_config(folder, **changes):
    path = folder / "config.json"
    held = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in held.items() if value is not None}))


def write_weights(folder, dtype, change=lambda array: array):
    held = read_weights(folder)
    arrays = {name: change(array.astype(mx.float32)).astype(dtype) for name, array in held.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), arrays)


# --- dtypes -----------------------------------------------------------------------------------


def test_every_tensor_of_a_full_policy_is_rounded_to_the_weight_dtype(folder):
    write_weights(folder, mx.float32, lambda array: array + 1 / 3)
    exact = read_weights(folder)
    policy = load_policy(make_config(folder))
    assert parameters(policy).keys() == exact.keys() == set(policy.names())
    for name, array in parameters(policy).items():
        assert array.dtype == mx.float32
        assert mx.array_equal(array, exact[name].astype(mx.bfloat16).astype(mx.float32))
        assert not mx.array_equal(array, exact[name])


def test_a_float32_policy_is_not_rounded(folder):
    write_weights(folder, mx.float32, lambda array: array + 1 / 3)
    exact = read_weights(folder)
    held = parameters(load_policy(make_config(folder, weight="float32")))
    assert all(mx.array_equal(held[name], exact[name]) for name in exact)


@pytest.mark.parametrize("compute", ["float32", "bfloat16", "float16"])
def test_the_model_computes_in_the_compute_dtype_and_gives_float32_logits(compute):
    policy = load_policy(make_config(compute=compute))
    wanted = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}[compute]
    assert {array.dtype for array in parameters(policy).values()} == {wanted}
    assert policy.model(TOKENS).dtype == wanted
    logits_BTV = logits(policy.model, TOKENS)
    assert logits_BTV.dtype == mx.float32
    assert token_logprobs(logits_BTV, TOKENS, 0.7).dtype == mx.float32


def test_auto_computes_in_float32_on_the_cpu_and_in_bfloat16_on_metal(monkeypatch):
    section = make_config(compute="auto").policy
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu))
    assert dtypes(section) == (mx.bfloat16, mx.float32)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    assert dtypes(section) == (mx.bfloat16, mx.bfloat16)


# --- apply ------------------------------------------------------------------------------------


def test_applied_weights_are_what_the_model_computes_with():
    policy = load_policy(make_config(compute="float32"))
    before = logits(policy.model, TOKENS)
    weights = {name: (array * 2).astype(mx.bfloat16) for name, array in parameters(policy).items()}
    policy.apply(weights)
    for name, array in parameters(policy).items():
        assert array.dtype == mx.float32
        assert mx.array_equal(array, weights[name].astype(mx.float32))
    assert not mx.allclose(before, logits(policy.model, TOKENS))


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop("model.norm.weight"),
        lambda weights: weights.update(extra=mx.zeros(3)),
        lambda weights: weights.update({"model.norm.weight": mx.zeros((127,))}),
        lambda weights: weights.update({"model.norm.weight": mx.zeros((1, 128))}),
        lambda weights: weights.update({"model.norm": weights.pop("model.norm.weight")}),
    ],
    ids=["missing", "extra", "size", "dimensions", "renamed"],
)
def test_weights_of_another_model_are_refused_and_nothing_changes(change):
    policy = load_policy(make_config())
    before = parameters(policy)
    weights = {name: array + 1.0 for name, array in before.items()}
    change(weights)
    with pytest.raises(WeightsError, match=r"extra|model\.norm"):
        policy.apply(weights)
    after = parameters(policy)
    assert all(mx.array_equal(before[name], after[name]) for name in before)


# --- lora -------------------------------------------------------------------------------------


def lora(**section):
    return {"tuning": "lora", "lora": section}


def test_a_lora_policy_is_its_adapters_on_a_frozen_base_and_begins_as_the_base():
    base, policy = load_policy(make_config()), load_policy(make_config(learner=lora(rank=4)))
    assert policy.names() == sorted(policy.names())
    assert {name.rsplit(".", 1)[1] for name in policy.names()} == {"lora_a", "lora_b"}
    assert mx.allclose(logits(base.model, TOKENS), logits(policy.model, TOKENS), atol=1e-6)
    frozen = dict(frozen_arrays(policy))
    assert frozen.keys().isdisjoint(policy.names())
    assert {name.replace(".linear.", ".").replace(".embedding.", ".") for name in frozen} == set(
        base.names()
    )
    assert [name for name, _ in frozen_arrays(policy)] == sorted(frozen)


def test_adapters_begin_alike_in_every_process_of_a_run_and_differ_between_runs():
    def first_adapters(seed):
        mx.random.uniform()  # whatever was drawn before
        policy = load_policy(make_config(learner=lora(rank=4), seed=seed))
        return {name: np.array(array).tolist() for name, array in policy.trained().items()}

    assert first_adapters(0) == first_adapters(0) != first_adapters(1)


def test_adapters_of_another_copy_make_the_same_policy_and_leave_the_base_alone():
    first = load_policy(make_config(learner=lora(rank=4, layers=1)))
    second = load_policy(make_config(learner=lora(rank=4, layers=1)))
    base = {name: np.array(array) for name, array in frozen_arrays(second)}
    keys = iter(mx.random.split(mx.random.key(0), 100))
    held = named(first.model.trainable_parameters())
    weights = {name: mx.random.normal(array.shape, key=next(keys)) for name, array in held.items()}
    assert all(name.startswith("model.layers.1.") for name in weights)  # the last layer alone
    first.apply(weights)
    second.apply(weights)
    assert mx.array_equal(logits(first.model, TOKENS), logits(second.model, TOKENS))
    assert not mx.allclose(
        logits(second.model, TOKENS), logits(load_policy(make_config()).model, TOKENS), atol=0.1
    )
    after = dict(frozen_arrays(second))
    assert all(np.array_equal(base[name], np.array(after[name])) for name in base)


def test_adapters_compute_in_the_compute_dtype():
    policy = load_policy(make_config(compute="bfloat16", learner=lora()))
    assert {array.dtype for array in parameters(policy).values()} == {mx.bfloat16}


@pytest.mark.parametrize("layers", [0, 3])
def test_more_layers_than_the_model_has_are_refused(layers):
    with pytest.raises(ConfigError, match=f"{layers}, the model has 2"):
        load_policy(make_config(learner=lora(layers=layers)))


def test_a_quantised_model_takes_adapters_and_refuses_full_tuning(folder):
    model = load_policy(make_config(folder)).model
    nn.quantize(model, group_size=64, bits=4)
    mx.save_safetensors(str(folder / "model.safetensors"), named(model.parameters()))
    edit_config(folder, quantization={"group_size": 64, "bits": 4})
    with pytest.raises(ConfigError, match=r"quantised: set learner\.tuning=lora"):
        load_policy(make_config(folder))
    policy = load_policy(make_config(folder, learner=lora()))
    assert {name.rsplit(".", 1)[1] for name in policy.names()} == {"lora_a", "lora_b"}
    packed = {array.dtype for name, array in frozen_arrays(policy) if "embed" not in name}
    assert mx.uint32 in packed  # codes are not rounded as numbers
    assert bool(mx.isfinite(logits(policy.model, TOKENS)).all())


# --- logprobs ---------------------------------------------------------------------------------


def logprobs64(logits_TV, temperature):
    scaled = np.array(logits_TV).astype(np.float64) / temperature
    shifted = scaled - scaled.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("offset", [0.0, 300.0, -300.0])
def test_logprobs_are_those_of_the_tempered_softmax(temperature, offset):
    values = np.random.default_rng(1).normal(0.0, 3.0, (4, 5, 13)).astype(np.float32) + offset
    logits_BTV = mx.array(values.astype(np.float32))
    token_ids = mx.array(np.random.default_rng(2).integers(0, 13, (4, 5)))
    wanted = logprobs64(logits_BTV, temperature)
    tolerance = 2e-5 if offset == 0.0 else 3e-4  # float32 has 24 bits, 1000 takes ten of them
    np.testing.assert_allclose(
        np.array(log_softmax(logits_BTV, temperature)), wanted, atol=tolerance, rtol=0
    )
    picked = np.take_along_axis(wanted, np.array(token_ids)[..., None], axis=-1)[..., 0]
    found = np.array(token_logprobs(logits_BTV, token_ids, temperature))
    np.testing.assert_allclose(found, picked, atol=tolerance, rtol=0)


def test_rows_may_have_temperatures_of_their_own():
    values = mx.array(np.random.default_rng(3).normal(0.0, 3.0, (2, 7)).astype(np.float32))
    found = np.array(log_softmax(values, mx.array([[0.5], [2.0]])))
    np.testing.assert_allclose(found[0], logprobs64(values[0], 0.5), atol=2e-5)
    np.testing.assert_allclose(found[1], logprobs64(values[1], 2.0), atol=2e-5)


def test_a_logprobs_gradient_is_one_minus_the_probability():
    # softmax([0, ln 3] / 1) = [1/4, 3/4]; at temperature 0.5 the logits double: [1/10, 9/10]
    # d logprob(token 1) / d logits = ([0, 1] - probabilities) / temperature
    logits_V = mx.array([0.0, float(np.log(3.0))])

    def gradient(temperature):
        token = mx.array(1)
        return mx.grad(lambda z: token_logprobs(z, token, temperature))(logits_V).tolist()

    assert gradient(1.0) == pytest.approx([-0.25, 0.25], abs=1e-6)
    assert gradient(0.5) == pytest.approx([-0.2, 0.2], abs=1e-6)


# --- damaged folders --------------------------------------------------------------------------


DAMAGE = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "broken config": lambda folder: (folder / "config.json").write_text('{"model_type": '),
    "config of another kind": lambda folder: (folder / "config.json").write_text("[]"),
    "no model type": lambda folder: edit_config(folder, model_type=None),
    "unknown model type": lambda folder: edit_config(folder, model_type="nonesuch"),
    "a size is missing": lambda folder: edit_config(folder, hidden_size=None),
    "a size is no number": lambda folder: edit_config(folder, hidden_size="large"),
    "another size": lambda folder: edit_config(folder, hidden_size=64),
    "more layers": lambda folder: edit_config(folder, num_hidden_layers=3),
    "fewer layers": lambda folder: edit_config(folder, num_hidden_layers=1),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "empty weights": lambda folder: os.truncate(folder / "model.safetensors", 0),
    "cut weights": lambda folder: os.truncate(folder / "model.safetensors", 100),
    "half the weights": lambda folder: os.truncate(folder / "model.safetensors", 400_000),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "broken tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{"),
    "tokenizer of another kind": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "broken tokenizer config": lambda folder: (folder / "tokenizer_config.json").write_text("["),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_refused_by_name(folder, damage):
    DAMAGE[damage](folder)
    with pytest.raises(ConfigError) as caught:
        load_policy(make_config(folder))
    assert str(folder) in str(caught.value)


def test_the_undamaged_copy_loads(folder):
    policy = load_policy(make_config(folder))
    assert policy.stop_ids() == {5}
    assert policy.folder == folder
    finite = tree_map(lambda array: bool(mx.isfinite(array).all()), policy.model.parameters())
    assert all(named(finite).values())


def test_the_policys_imports_bring_no_tracker():
    """mlx-lm imports wandb where it is: seconds at each start, and folders in /tmp."""
    code = "import protocol.policy, sys; print('wandb' in sys.modules); import wandb"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
