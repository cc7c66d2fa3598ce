"""What a checkpoint holds: a model that mlx-lm loads, arrays, JSON and msgpack."""

import json
import shutil

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from mlx_lm.utils import load

from learner.checkpoints.contents import contents, num_bytes
from learner.checkpoints.groups import unpack_groups
from learner.checkpoints.position import Position
from learner.ledger.snapshot import Snapshot
from protocol.model_folder import model_folder
from protocol.policy import logits


def prompt_logits(model):
    return np.array(logits(model, mx.array([[7, 8, 16, 9, 20, 10, 11]])))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_full_checkpoint_is_a_model_that_mlx_lm_loads(train, save, tmp_path):
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


def test_a_checkpoints_weights_are_in_the_published_dtype(train, save, tmp_path):
    trainer, config = train.make()
    arrays = mx.load(str(save(tmp_path, trainer, config) / "model.safetensors"))
    assert isinstance(arrays, dict)
    assert {array.dtype for array in arrays.values()} == {mx.bfloat16}
    rounded = trainer.parameters.masters.rounded()
    for name, array in rounded.items():
        assert mx.array_equal(arrays[name], array)


def test_a_lora_checkpoint_is_an_adapter_of_its_base(train, save, tmp_path):
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


def test_the_files_hold_nothing_but_arrays_json_and_msgpack(train, save, tmp_path, scored_group):
    trainer, config = train.make()
    snapshot = Snapshot(watermark=3, done=(5, 9), scored=(scored_group(4),))
    path = save(tmp_path, trainer, config, snapshot=snapshot, run_epoch="3")
    kinds = {".json", ".safetensors", ".jinja", ".txt", ".msgpack"}
    assert {file.suffix for file in path.iterdir()} <= kinds
    state = json.loads((path / "trainer.json").read_text())
    assert Snapshot.from_json(state["ledger"]) == Snapshot(watermark=3, done=(5, 9))
    assert state["facts"] == {"run_epoch": "3"}
    [group] = unpack_groups((path / "groups.msgpack").read_bytes())
    assert group.group_id == 4


def test_a_model_folder_may_hold_any_other_files(train, save, tmp_path):
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


def test_a_checkpoint_can_be_the_base_of_another_run(train, save, tmp_path):
    trainer, config = train.make()
    base = save(tmp_path, trainer, config, step=2, run_epoch="1")
    trainer.policy.folder = base
    path = save(tmp_path, trainer, config, step=4, run_epoch="2")
    state = json.loads((path / "trainer.json").read_text())
    assert (state["step"], state["facts"]) == (4, {"run_epoch": "2"})
    assert names(path) == names(base)


def test_the_same_state_is_the_same_bytes(train, save, tmp_path):
    found = []
    for run in ("one", "two"):
        trainer, config = train.make()
        (tmp_path / run).mkdir()
        path = save(tmp_path / run, trainer, config)
        found.append({file.name: file.read_bytes() for file in path.iterdir()})
    assert found[0] == found[1]


def test_the_size_is_known_before_anything_is_written(table, tmp_path):
    trainer = table.make()
    position = Position(1, 1, Snapshot())
    found = contents(position, trainer.policy, trainer.parameters, table.config, {})
    copied = {"config.json"}
    written = sum(len(b"".join(pieces)) for name, pieces in found.items() if name not in copied)
    assert num_bytes(found) == written
