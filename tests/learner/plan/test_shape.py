import json

import pytest

from learner.plan.shape import read_shape
from learner.plan.trained import trained_part

# A llama of hidden 8, 2 layers, MLP 16, 2 heads of 4 (one kv head), 10 tokens, tied:
#   a layer: q 64 + k 32 + v 32 + o 64 + three of the MLP 128 each + two norms 8 each = 592
#   all: embedding 80 + 2 x 592 + norm 8 = 1272 numbers
NUMBERS = 1272


def test_a_shape_is_read_from_config_and_headers_alone(make_llama):
    shape = read_shape(str(make_llama()))
    assert shape is not None
    assert (shape.num_layers, shape.hidden_size, shape.intermediate_size) == (2, 8, 16)
    assert (shape.query_size, shape.kv_size, shape.vocabulary) == (8, 4, 10)
    assert sum(tensor.size for tensor in shape.tensors) == NUMBERS
    assert sum(tensor.num_bytes for tensor in shape.tensors) == 2 * NUMBERS  # bfloat16
    assert shape.held_bytes(4) == 4 * NUMBERS


def test_the_built_in_models_shape_is_that_of_the_loaded_model(make_config):
    from mlx.utils import tree_flatten

    from protocol.policy import load_policy

    shape = read_shape("builtin:tiny")
    assert shape is not None
    arrays = dict(tree_flatten(load_policy(make_config()).model.parameters()))
    assert {t.name: t.shape for t in shape.tensors} == {n: a.shape for n, a in arrays.items()}


def test_full_tuning_publishes_every_tensor_in_two_bytes_a_number(make_llama, make_run):
    folder = make_llama()
    shape = read_shape(str(folder))
    assert shape is not None
    trained = trained_part(shape, make_run(folder), has_metal=False)
    assert (trained.count, trained.largest, trained.frozen_bytes) == (NUMBERS, 128, 0)
    assert trained.version_bytes == 2 * NUMBERS
    assert (trained.model, trained.masters) == (4 * NUMBERS, 4 * NUMBERS)


@pytest.mark.parametrize(("layers", "adapted"), [(-1, 2), (1, 1)])
def test_lora_trains_two_matrices_for_each_linear_map(make_llama, make_run, layers, adapted):
    # inputs + outputs of a layer: q 16, k 12, v 12, o 16, MLP 24 each: 128; of rank 3: 384
    folder = make_llama()
    shape = read_shape(str(folder))
    assert shape is not None
    config = make_run(folder, learner={"tuning": "lora", "lora": {"rank": 3, "layers": layers}})
    trained = trained_part(shape, config, has_metal=False)
    assert trained.count == adapted * 384
    assert trained.frozen_bytes == 4 * NUMBERS


def test_loras_adapters_are_those_that_the_policy_gets(make_config):
    from protocol.policy import load_policy

    config = make_config(learner={"tuning": "lora", "lora": {"rank": 4}})
    shape = read_shape("builtin:tiny")
    assert shape is not None
    sizes = [array.size for array in load_policy(config).trained().values()]
    assert trained_part(shape, config, has_metal=False).count == sum(sizes)


def test_packed_integers_keep_their_bytes_and_tell_their_inputs(
    make_llama, make_run, claim_tensors
):
    # four bits a weight: 128 inputs are 16 integers; groups of 64 inputs share a scale and a bias
    folder = make_llama()
    start = "model.layers.0.self_attn.q_proj."
    tensors = {
        f"{start}weight": ("U32", (32, 16)),
        f"{start}scales": ("BF16", (32, 2)),
        f"{start}biases": ("BF16", (32, 2)),
    }
    claim_tensors(folder / "model.safetensors", tensors)
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = {"group_size": 64, "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    shape = read_shape(str(folder))
    assert shape is not None
    assert list(shape.matrices()) == [(0, 128, 32)]
    # integers 32 x 16 x 4 bytes; scales and biases become float32: 2 x 64 x 4
    assert shape.held_bytes(4) == 2048 + 512
    lora = make_run(folder, learner={"tuning": "lora", "lora": {"rank": 8}})
    assert trained_part(shape, lora, has_metal=False).count == 8 * (128 + 32)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").write_text('{"hidden_size": 8}'),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64),
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
    ],
    ids=["no config", "no JSON", "other keys", "no weights", "a huge header", "empty weights"],
)
def test_what_cannot_be_understood_has_no_shape(make_llama, damage):
    folder = make_llama()
    damage(folder)
    assert read_shape(str(folder)) is None


@pytest.mark.parametrize("path", ["nobody/never-fetched", "./absent", "builtin:absent", "x:y"])
def test_a_model_that_is_not_here_has_no_shape(path):
    assert read_shape(path) is None


def test_the_text_part_of_a_vision_model_is_what_counts(make_llama):
    folder = make_llama()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "x", "text_config": config}))
    shape = read_shape(str(folder))
    assert shape is not None
    assert shape.num_layers == 2
