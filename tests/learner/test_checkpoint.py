"""Checkpoints: what mlx-lm loads, what a run continues from, and what damage does."""

import json
import logging
import shutil
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_lm.utils import load

from learner.algorithm import make_algorithm
from learner.checkpoint import (
    Position,
    prune_checkpoints,
    restore_checkpoint,
    save_checkpoint,
)
from learner.ledger.snapshot import Snapshot
from learner.step import Trainer
from protocol.errors import CheckpointError
from protocol.model_folder import model_folder
from protocol.policy import load_policy, logits

SNAPSHOT = Snapshot(
    watermark=3, done=(5, 9), attempts=((4, 2),), counts={"trained": 5}, batch_groups=2
)


@pytest.fixture
def train(make_config, make_sample):
    """Makes a trainer of the tiny policy and takes some steps."""

    def make(num_steps=2, tuning="full", algorithm="grpo", **lora):
        section = {"tuning": tuning, "lora": lora, "optimizer": {"learning_rate": 0.01}}
        config = make_config(learner=section, algorithm={"name": algorithm})
        trainer = Trainer(load_policy(config), make_algorithm(config.algorithm), config)
        more_steps(trainer, num_steps)
        return trainer, config

    def more_steps(trainer, num_steps):
        for step in range(num_steps):
            samples = [
                make_sample((7, 8, 16, 9, 20), (10 + step, 11, 5), reward=1.0),
                make_sample((7, 8, 16, 9, 20), (12, 5), reward=0.0, sample=1),
            ]
            assert not trainer.step(samples, step, step).skipped

    return SimpleNamespace(make=make, more_steps=more_steps)


def save(folder, trainer, config, step=2):
    return save_checkpoint(
        folder,
        Position(step, step, SNAPSHOT),
        trainer.policy,
        trainer.parameters,
        config,
    )


def bits(arrays):
    return {name: np.array(array).tobytes() for name, array in arrays.items()}


def prompt_logits(model):
    return np.array(logits(model, mx.array([[7, 8, 16, 9, 20, 10, 11]])))


def test_a_full_checkpoint_is_a_model_that_mlx_lm_loads(train, tmp_path):
    trainer, config = train.make()
    path = save(tmp_path, trainer, config)
    assert path == tmp_path / "step_000002"
    model, tokenizer = load(str(path))[:2]
    model.update(tree_map(lambda a: a.astype(mx.float32), model.parameters()))
    trainer.policy.model.eval()
    np.testing.assert_allclose(prompt_logits(model), prompt_logits(trainer.policy.model), atol=1e-5)
    assert tokenizer.encode("12+3=") == trainer.policy.tokenizer.encode("12+3=")
    initial = load(str(model_folder("builtin:tiny")))[0]
    assert abs(prompt_logits(initial) - prompt_logits(model)).max() > 0.1


def test_a_checkpoints_weights_are_in_the_published_dtype(train, tmp_path):
    trainer, config = train.make()
    arrays = mx.load(str(save(tmp_path, trainer, config) / "model.safetensors"))
    assert isinstance(arrays, dict)
    assert {array.dtype for array in arrays.values()} == {mx.bfloat16}
    rounded = trainer.parameters.masters.rounded()
    for name, array in rounded.items():
        assert mx.array_equal(arrays[name], array)


def test_a_lora_checkpoint_is_an_adapter_of_its_base(train, tmp_path):
    trainer, config = train.make(tuning="lora", rank=4, scale=3.0, layers=1)
    path = save(tmp_path, trainer, config)
    assert not (path / "model.safetensors").exists()
    model = load(str(model_folder("builtin:tiny")), adapter_path=str(path))[0]
    model.update(tree_map(lambda a: a.astype(mx.float32), model.parameters()))
    model.eval()
    trainer.policy.model.eval()
    ours = prompt_logits(trainer.policy.model)
    np.testing.assert_allclose(prompt_logits(model), ours, atol=1e-4)
    initial = load(str(model_folder("builtin:tiny")))[0]
    assert abs(prompt_logits(initial) - ours).max() > 0.1


@pytest.mark.parametrize(
    ("tuning", "algorithm"), [("full", "grpo"), ("lora", "grpo"), ("full", "ppo"), ("lora", "ppo")]
)
def test_a_restored_run_goes_on_with_the_same_bits(train, tmp_path, tuning, algorithm):
    trainer, config = train.make(tuning=tuning, algorithm=algorithm)
    save(tmp_path, trainer, config)
    fresh, _ = train.make(num_steps=0, tuning=tuning, algorithm=algorithm)
    position = restore_checkpoint(tmp_path, fresh.parameters, config)
    assert position == Position(2, 2, SNAPSHOT)
    assert bits(fresh.parameters.state()) == bits(trainer.parameters.state())
    for each in (trainer, fresh):
        train.more_steps(each, 2)
    assert bits(fresh.parameters.state()) == bits(trainer.parameters.state())
    np.testing.assert_array_equal(
        prompt_logits(fresh.policy.model), prompt_logits(trainer.policy.model)
    )


def test_without_a_checkpoint_there_is_nothing_to_restore(train, tmp_path):
    trainer, config = train.make(num_steps=0)
    before = bits(trainer.parameters.masters.arrays)
    assert restore_checkpoint(tmp_path, trainer.parameters, config) is None
    assert bits(trainer.parameters.masters.arrays) == before


def cut_arrays(path):
    file = path / "trainer.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def empty_arrays(path):
    (path / "trainer.safetensors").write_bytes(b"")


def flipped_bits(path):
    """Of the same length and form: only the digest can tell."""
    file = path / "trainer.safetensors"
    data = bytearray(file.read_bytes())
    data[-8:] = b"\xff" * 8
    file.write_bytes(data)


def cut_state(path):
    file = path / "trainer.json"
    file.write_text(file.read_text()[:40])


def half_state(path):
    (path / "trainer.json").write_text('{"step": 5}')


def no_state(path):
    (path / "trainer.json").unlink()


def still_temporary(path):
    path.rename(path.with_name(f".{path.name}.tmp"))


DAMAGES = [cut_arrays, empty_arrays, flipped_bits, cut_state, half_state, no_state]


@pytest.mark.parametrize("damage", DAMAGES)
def test_of_a_damaged_checkpoint_the_one_before_is_taken_and_the_log_says_so(
    train, tmp_path, caplog, damage
):
    trainer, config = train.make()
    before = bits(trainer.parameters.masters.arrays)
    save(tmp_path, trainer, config, step=2)
    train.more_steps(trainer, 1)
    damage(save(tmp_path, trainer, config, step=5))
    fresh, _ = train.make(num_steps=0)
    caplog.set_level(logging.WARNING, "learner.checkpoint")
    position = restore_checkpoint(tmp_path, fresh.parameters, config)
    assert position is not None
    assert position.step == 2
    assert bits(fresh.parameters.masters.arrays) == before
    [message] = [record.getMessage() for record in caplog.records]
    assert "step_000005 is damaged" in message
    assert message.endswith("trying the one before")


def test_where_no_checkpoint_is_whole_the_run_does_not_begin_anew_in_silence(train, tmp_path):
    trainer, config = train.make()
    flipped_bits(save(tmp_path, trainer, config, step=2))
    with pytest.raises(CheckpointError, match=r"none of the 1 checkpoints .* is whole"):
        restore_checkpoint(tmp_path, trainer.parameters, config)


def test_a_checkpoint_that_was_being_written_is_no_checkpoint(train, tmp_path, caplog):
    trainer, config = train.make()
    save(tmp_path, trainer, config, step=2)
    still_temporary(save(tmp_path, trainer, config, step=5))
    caplog.set_level(logging.WARNING, "learner.checkpoint")
    position = restore_checkpoint(tmp_path, trainer.parameters, config)
    assert position is not None
    assert position.step == 2
    assert not caplog.records
    assert save(tmp_path, trainer, config, step=5).is_dir()  # what was left is no hindrance


def test_a_checkpoint_can_be_written_again(train, tmp_path):
    trainer, config = train.make()
    save(tmp_path, trainer, config)
    train.more_steps(trainer, 1)
    path = save(tmp_path, trainer, config)
    arrays = mx.load(str(path / "trainer.safetensors"))
    assert isinstance(arrays, dict)
    name = "model.embed_tokens.weight"
    assert mx.array_equal(arrays[f"masters/{name}"], trainer.parameters.masters.arrays[name])


def test_a_checkpoint_of_another_tuning_or_model_is_refused(train, tmp_path, make_config):
    trainer, config = train.make()
    save(tmp_path, trainer, config)
    lora, lora_config = train.make(num_steps=0, tuning="lora")
    with pytest.raises(CheckpointError, match=r"full tuning of builtin:tiny.*for lora tuning"):
        restore_checkpoint(tmp_path, lora.parameters, lora_config)
    other = make_config(model={"path": "org/other"})
    with pytest.raises(CheckpointError, match="asks for full tuning of org/other"):
        restore_checkpoint(tmp_path, trainer.parameters, other)


def test_a_checkpoint_of_an_algorithm_of_another_kind_is_refused(train, tmp_path):
    trainer, config = train.make()
    save(tmp_path, trainer, config)
    other, other_config = train.make(num_steps=0, algorithm="ppo")
    with pytest.raises(CheckpointError, match="checkpoint has no critic, the algorithm has one"):
        restore_checkpoint(tmp_path, other.parameters, other_config)


def test_adapters_of_another_rank_are_refused(train, tmp_path):
    trainer, config = train.make(tuning="lora", rank=4)
    save(tmp_path, trainer, config)
    other, other_config = train.make(num_steps=0, tuning="lora", rank=8)
    with pytest.raises(CheckpointError, match="masters do not fit this model"):
        restore_checkpoint(tmp_path, other.parameters, other_config)


def test_the_files_hold_nothing_but_arrays_and_json(train, tmp_path):
    trainer, config = train.make()
    path = save(tmp_path, trainer, config)
    assert {file.suffix for file in path.iterdir()} <= {".json", ".safetensors", ".jinja", ".txt"}
    state = json.loads((path / "trainer.json").read_text())
    assert Snapshot.from_json(state["ledger"]) == SNAPSHOT


def make_folders(folder, *steps):
    for step in steps:
        (folder / f"step_{step:06d}").mkdir()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_only_the_newest_checkpoints_stay(tmp_path):
    make_folders(tmp_path, 2, 4, 10, 12)
    prune_checkpoints(tmp_path / "step_000012", 2)
    assert names(tmp_path) == ["step_000010", "step_000012"]
    prune_checkpoints(tmp_path / "step_000012", 5)
    assert names(tmp_path) == ["step_000010", "step_000012"]


def test_a_damaged_later_checkpoint_does_not_push_out_the_one_just_saved(tmp_path):
    # the run could not resume from step 20, went on from 10 and has now saved 12
    make_folders(tmp_path, 5, 10, 12, 20)
    prune_checkpoints(tmp_path / "step_000012", 1)
    assert names(tmp_path) == ["step_000012", "step_000020"]


def test_a_model_folder_may_hold_any_other_files(train, tmp_path):
    trainer, config = train.make()
    base = tmp_path / "base"
    shutil.copytree(trainer.policy.folder, base)
    (base / "notes").mkdir()
    (base / "generation_config.json").write_text("{}")
    (base / "model.safetensors.index.json").write_text("{}")
    (base / "pytorch_model.bin").write_bytes(b"x" * 100)
    (base / "trainer.safetensors").write_bytes(b"of the run before")
    trainer.policy.folder = base
    (tmp_path / "checkpoints").mkdir()
    found = names(save(tmp_path / "checkpoints", trainer, config))
    assert "generation_config.json" in found
    assert "model.safetensors.index.json" not in found
    assert "pytorch_model.bin" not in found
    assert mx.load(str(tmp_path / "checkpoints" / "step_000002" / "trainer.safetensors"))
