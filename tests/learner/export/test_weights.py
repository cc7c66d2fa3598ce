import json
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import load

from learner.checkpoints.arrays import load_arrays
from learner.export.form import Form
from learner.export.source import find_source
from learner.export.weights import is_quantised, load_exported
from protocol.errors import ConfigError
from protocol.model_folder import BUILTIN


def dtypes(model):
    flat: Any = tree_flatten(model.parameters())
    return {str(array.dtype).removeprefix("mlx.core.") for _, array in flat}


def loaded(out) -> tuple[Any, Any, dict]:
    model, tokenizer = load(str(out))[:2]
    return model, tokenizer, json.loads((out / "config.json").read_text())


@pytest.mark.parametrize("step", [2, 4])
def test_a_full_export_decodes_token_by_token_as_the_learner(full_run, exported, greedy, step):
    out = exported(full_run, "--step", step, "--dtype", "float32")
    wanted = greedy.of_learner(full_run, step)
    assert greedy.of_export(*load(str(out))[:2]) == wanted
    assert greedy.of_export(*load(str(BUILTIN / "tiny"))[:2]) != wanted  # it learned something


@pytest.mark.parametrize("options", [["--fuse", "--dtype", "float32"], ["--dtype", "float32"]])
def test_a_lora_export_decodes_token_by_token_as_the_learner(lora_run, exported, greedy, options):
    out, wanted = exported(lora_run, *options), greedy.of_learner(lora_run, 4)
    if "--fuse" in options:
        model, tokenizer = load(str(out))[:2]
    else:
        model, tokenizer = load(str(BUILTIN / "tiny"), adapter_path=str(out))[:2]
    assert greedy.of_export(model, tokenizer) == wanted
    assert greedy.of_export(*load(str(BUILTIN / "tiny"))[:2]) != wanted


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_number_is_of_the_dtype_that_is_asked_for(runs, exported, tuning, dtype):
    fuse = ["--fuse"] if tuning == "lora" else []
    out = exported(runs[tuning], "--dtype", dtype, *fuse)
    model, _, config = loaded(out)
    assert dtypes(model) == {dtype}
    assert config["dtype"] == dtype


@pytest.mark.parametrize(("bits", "group_size"), [(4, 64), (8, 32)])
def test_a_quantised_export_loads_and_generates(full_run, exported, greedy, bits, group_size):
    out = exported(full_run, "--quantize", bits, "--group-size", group_size)
    model, tokenizer, config = loaded(out)
    assert config["quantization"]["bits"] == bits
    assert config["quantization"]["group_size"] == group_size
    assert "uint32" in dtypes(model)
    assert all(greedy.of_export(model, tokenizer))
    layer = model.layers[0].mlp.up_proj
    found = mx.dequantize(layer.weight, layer.scales, layer.biases, group_size, bits)
    path = full_run / "checkpoints/step_000004/model.safetensors"
    wanted = load_arrays(path)["model.layers.0.mlp.up_proj.weight"]
    one_step = (wanted.max() - wanted.min()).item() / (2**bits - 1)
    assert mx.abs(found - wanted).max().item() < 2 * one_step  # scales are of 16 bits


def test_a_group_size_that_fits_no_layer_is_refused(full_run, tmp_path, monkeypatch):
    source = find_source(full_run)
    monkeypatch.setattr("learner.export.weights.quantize_model", lambda *given: given[:2])
    with pytest.raises(ConfigError, match=r"no layer .* in groups of 128"):
        load_exported(source, Form(bits=4, group_size=128))


def test_a_fused_quantised_base_stays_quantised_unless_asked(quantised_run, greedy):
    source = find_source(quantised_run)
    assert is_quantised(source.checkpoint)
    model, config = load_exported(source, Form(fuse=True))
    assert "uint32" in dtypes(model)
    assert config["quantization"]["bits"] == 4
    model, config = load_exported(source, Form(fuse=True, dequantize=True, dtype="float32"))
    assert dtypes(model) == {"float32"}
    assert not {"quantization", "quantization_config"} & config.keys()
    _, tokenizer = load(str(BUILTIN / "tiny"))[:2]
    assert greedy.of_export(model, tokenizer) == greedy.of_learner(quantised_run, 4)


def test_a_base_that_the_adapters_do_not_fit_is_named(lora_run):
    config = lora_run / "checkpoints/step_000004/adapter_config.json"
    config.write_text(config.read_text().replace('"rank": 8', '"rank": 4'))
    source = find_source(lora_run, "2")
    checkpoint = config.parent
    broken = type(source)(**{**vars(source), "checkpoint": checkpoint})
    with pytest.raises(ConfigError, match=r"cannot load builtin:tiny with the adapters of .*step_"):
        load_exported(broken, Form(fuse=True))
