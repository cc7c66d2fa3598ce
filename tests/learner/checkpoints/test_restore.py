"""From a checkpoint back to a run: the same bits, the newest whole one, or a clear refusal."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from learner.checkpoints.groups import pack_groups
from learner.checkpoints.manifest import MANIFEST
from learner.checkpoints.position import Position
from learner.checkpoints.restore import restore_checkpoint
from learner.ledger.snapshot import Snapshot
from protocol.errors import CheckpointError, ConfigError
from protocol.weights import digest_of

SNAPSHOT = Snapshot(
    watermark=3, done=(5, 9), attempts=((4, 2),), counts={"trained": 5}, batch_groups=2
)


def contents_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("tuning", "algorithm"), [("full", "grpo"), ("lora", "grpo"), ("full", "ppo"), ("lora", "ppo")]
)
def test_a_restored_run_goes_on_with_the_same_bits(train, save, bits, tmp_path, tuning, algorithm):
    trainer, config = train.make(tuning=tuning, algorithm=algorithm)
    path = save(tmp_path, trainer, config, run_epoch="7", prompts="abc")
    fresh, _ = train.make(num_steps=0, tuning=tuning, algorithm=algorithm)
    restored = restore_checkpoint(tmp_path, fresh.parameters, config)
    assert restored is not None
    assert restored.position == Position(2, 2, SNAPSHOT)
    assert (restored.path, restored.facts) == (path, {"run_epoch": "7", "prompts": "abc"})
    assert bits(fresh.parameters.state()) == bits(trainer.parameters.state())
    for each in (trainer, fresh):
        train.more_steps(each, 2)
    assert bits(fresh.parameters.state()) == bits(trainer.parameters.state())
    for each in (trainer, fresh):
        each.policy.model.eval()
    weights = [bits(each.policy.trained()) for each in (trainer, fresh)]
    assert weights[0] == weights[1]


def test_scored_groups_come_back(table, save, tmp_path, scored_group, make_config):
    groups = (scored_group(4), scored_group(9))
    config = make_config(generation={"group_size": 2})
    save(tmp_path, table.make(), config, snapshot=Snapshot(watermark=4, scored=groups))
    restored = restore_checkpoint(tmp_path, table.make().parameters, config)
    assert restored is not None
    assert pack_groups(restored.position.snapshot.scored) == pack_groups(groups)
    assert restored.position.snapshot.watermark == 4


def test_without_a_checkpoint_there_is_nothing_to_restore(table, bits, tmp_path):
    parameters = table.make().parameters
    before = bits(parameters.state())
    assert restore_checkpoint(tmp_path, parameters, table.config) is None
    assert restore_checkpoint(tmp_path / "missing", parameters, table.config) is None
    assert bits(parameters.state()) == before


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
    file.write_bytes(b"")


def flip(file):
    """Of the same length and form: only the digest can tell."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def lengthen(file):
    file.write_bytes(file.read_bytes() + b"\0")


def remove(file):
    file.unlink()


@pytest.mark.parametrize("damage", [cut, empty, flip, lengthen, remove])
def test_whatever_file_is_damaged_the_one_before_is_taken_and_the_log_says_so(
    table, save, tmp_path, caplog, damage
):
    caplog.set_level(logging.WARNING, "learner.checkpoints")
    save(tmp_path, table.make(2.0), table.config, step=2)
    files = names(save(tmp_path, table.make(5.0), table.config, step=5))
    assert {"config.json", "model.safetensors", "trainer.json", "manifest.json"} <= set(files)
    for name in files:
        path = save(tmp_path, table.make(5.0), table.config, step=5)
        assert table.value_in(tmp_path) == (5, 5.0)
        caplog.clear()
        damage(path / name)
        assert table.value_in(tmp_path) == (2, 2.0)
        [message] = [record.getMessage() for record in caplog.records]
        assert f"{path} is damaged: " in message
        assert name in message or name == "manifest.json"
        assert message.endswith(f"using {tmp_path / 'step_000002'} instead")


def rewrite(path, name, content):
    """A file of a checkpoint, its size and its digest."""
    (path / name).write_bytes(content)
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"][name] = {"num_bytes": len(content), "digest": digest_of(content)}
    (path / MANIFEST).write_text(json.dumps(manifest))


def state_with(path, **changes):
    return json.dumps({**json.loads((path / "trainer.json").read_text()), **changes}).encode()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("trainer.json", lambda _: b"[1]", "bad form"),
        ("trainer.json", lambda _: b"[" * 100_000, "bad form"),
        ("trainer.json", lambda path: state_with(path, step=float("inf")), "bad step"),
        ("trainer.json", lambda path: state_with(path, step=2), "is of step 2, wanted 5"),
        ("trainer.json", lambda path: state_with(path, policy_version=2**53 + 1), "policy_version"),
        ("trainer.json", lambda path: state_with(path, ledger={"done": [2, 1]}), "bad ledger"),
        ("groups.msgpack", lambda _: b"\xc0", "scored groups"),
        ("groups.msgpack", lambda _: b"\x91" * 100_000, "no msgpack"),
        ("trainer.safetensors", lambda _: b"", "trainer.safetensors cannot be read"),
        ("trainer.safetensors", lambda _: b"\xff" * 64, "trainer.safetensors cannot be read"),
        (
            "trainer.safetensors",
            lambda _: (2).to_bytes(8, "little") + b"[]",
            "trainer.safetensors cannot be read",
        ),
    ],
)
def test_contents_that_make_no_sense_are_damage_whatever_their_digest(
    table, save, tmp_path, caplog, name, content, why
):
    save(tmp_path, table.make(2.0), table.config, step=2)
    path = save(tmp_path, table.make(5.0), table.config, step=5)
    rewrite(path, name, content(path))
    assert table.value_in(tmp_path) == (2, 2.0)
    [message] = [record.getMessage() for record in caplog.records]
    assert f"{path} is damaged: " in message
    assert why in message


def test_scored_groups_that_contradict_the_rest_are_damage(
    table, save, tmp_path, scored_group, make_config
):
    config = make_config(generation={"group_size": 2})
    groups = (scored_group(4),)
    for step, snapshot in enumerate(
        [
            Snapshot(watermark=5, scored=groups),
            Snapshot(watermark=3, done=(4,), scored=groups),
            Snapshot(scored=groups * 2),
            Snapshot(scored=(replace(groups[0], rollouts=groups[0].rollouts[:1]),)),
        ]
    ):
        save(tmp_path, table.make(), config, step=step, snapshot=snapshot)
        with pytest.raises(CheckpointError, match=r"is damaged: .*group 4"):
            restore_checkpoint(tmp_path, table.make().parameters, config, step)
    with pytest.raises(CheckpointError, match="none of the "):
        restore_checkpoint(tmp_path, table.make().parameters, config)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_of_several_whole_ones_is_taken_past_several_damaged_ones(
    table, save, tmp_path, caplog
):
    for step in (2, 4, 6, 8):
        path = save(tmp_path, table.make(step), table.config, step=step)
        if step > 4:
            flip(path / "trainer.safetensors")
    assert table.value_in(tmp_path) == (4, 4.0)
    assert len(caplog.records) == 2


def test_where_no_checkpoint_is_whole_the_run_does_not_begin_anew_in_silence(table, save, tmp_path):
    flip(save(tmp_path, table.make(), table.config) / "trainer.safetensors")
    with pytest.raises(CheckpointError, match=r"none of the 1 checkpoints .* is whole: .*digest"):
        table.value_in(tmp_path)


def test_a_checkpoint_that_was_being_written_is_no_checkpoint(table, save, tmp_path, caplog):
    save(tmp_path, table.make(2.0), table.config, step=2)
    path = save(tmp_path, table.make(5.0), table.config, step=5)
    path.rename(path.with_name(f".{path.name}.tmp"))
    assert table.value_in(tmp_path) == (2, 2.0)
    assert not caplog.records
    save(tmp_path, table.make(6.0), table.config, step=5)  # what was left is no hindrance
    assert table.value_in(tmp_path) == (5, 6.0)


def test_a_step_can_be_chosen(table, save, tmp_path):
    for step in (2, 4, 6):
        save(tmp_path, table.make(step), table.config, step=step)
    assert table.value_in(tmp_path, step=4) == (4, 4.0)
    with pytest.raises(ConfigError, match="no checkpoint of step 5: there are 2, 4, 6"):
        table.value_in(tmp_path, step=5)


def test_a_chosen_step_that_is_damaged_is_not_replaced_by_another(table, save, tmp_path):
    for step in (2, 4):
        path = save(tmp_path, table.make(step), table.config, step=step)
    flip(path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model.safetensors does not .*: there are 2"):
        table.value_in(tmp_path, step=4)


def test_restoring_writes_nothing(table, save, tmp_path):
    save(tmp_path, table.make(2.0), table.config, step=2)
    path = save(tmp_path, table.make(5.0), table.config, step=5)
    path.rename(path.with_name(f".{path.name}.tmp"))  # another learner may be writing it
    before = contents_of(tmp_path)
    table.value_in(tmp_path)
    assert contents_of(tmp_path) == before


def test_a_checkpoint_of_another_tuning_or_model_is_refused(
    train, save, bits, tmp_path, make_config
):
    trainer, config = train.make()
    save(tmp_path, trainer, config)
    lora, lora_config = train.make(num_steps=0, tuning="lora")
    before = bits(lora.parameters.state())
    with pytest.raises(ConfigError, match=r"full tuning of builtin:tiny.*for lora tuning"):
        restore_checkpoint(tmp_path, lora.parameters, lora_config)
    assert bits(lora.parameters.state()) == before
    other = make_config(model={"path": "org/other"})
    with pytest.raises(ConfigError, match="asks for full tuning of org/other"):
        restore_checkpoint(tmp_path, trainer.parameters, other)


def test_a_checkpoint_of_an_algorithm_of_another_kind_is_refused(train, save, tmp_path):
    trainer, config = train.make()
    save(tmp_path, trainer, config)
    other, other_config = train.make(num_steps=0, algorithm="ppo")
    with pytest.raises(ConfigError, match="checkpoint has no critic, the algorithm has one"):
        restore_checkpoint(tmp_path, other.parameters, other_config)


def test_adapters_of_another_rank_are_refused(train, save, tmp_path):
    trainer, config = train.make(tuning="lora", rank=4)
    save(tmp_path, trainer, config)
    other, other_config = train.make(num_steps=0, tuning="lora", rank=8)
    with pytest.raises(ConfigError, match="masters do not fit this model"):
        restore_checkpoint(tmp_path, other.parameters, other_config)


def test_a_restored_policy_says_the_same(train, save, tmp_path):
    trainer, config = train.make()
    save(tmp_path, trainer, config)
    fresh, _ = train.make(num_steps=0)
    restore_checkpoint(tmp_path, fresh.parameters, config)
    for name, array in trainer.policy.trained().items():
        np.testing.assert_array_equal(np.array(fresh.policy.trained()[name]), np.array(array))
