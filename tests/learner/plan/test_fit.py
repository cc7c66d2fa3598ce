import json
import logging
import time

import pytest

from learner.plan import fit
from learner.plan.fit import gib, refuse_misfit
from learner.plan.machine import Machine
from learner.plan.remedies import changes
from learner.plan.shape import read_shape
from protocol.errors import ConfigError

GIB = 1 << 30


@pytest.fixture
def huge(make_llama):
    """Llama-3-70B's sizes, without a byte of data: 67 to 71 billion numbers."""
    return make_llama(hidden=8192, layers=80, mlp=28672, heads=64, kv_heads=8, vocabulary=128256)


@pytest.fixture
def machine(monkeypatch):
    def of(memory_bytes, *, has_metal=False):
        found = Machine(memory_bytes, 8, has_metal)
        monkeypatch.setattr(fit, "this_machine", lambda: found)

    return of


def refusal(config, **options):
    with pytest.raises(ConfigError) as caught:
        refuse_misfit(config, **options)
    return str(caught.value)


def test_a_huge_model_is_refused_at_once(huge, make_run, machine):
    machine(64 * GIB)
    began = time.perf_counter()
    said = refusal(make_run(huge))
    assert time.perf_counter() - began < 1.0
    assert "this machine has 64 GB" in said
    assert "no setting makes it fit" in said
    assert "--ignore-plan" in said


def test_the_flag_turns_a_refusal_into_a_warning(huge, make_run, machine, caplog):
    machine(64 * GIB)
    refuse_misfit(make_run(huge), ignore=True)
    assert "this run needs about" in caplog.text


def test_the_cheapest_setting_that_helps_is_named(huge, make_run, machine):
    # LoRA in bfloat16: 131 GiB of weights in the learner and again in the actor
    learner = {"tuning": "lora", "groups_per_step": 1, "grad_checkpoint": True}
    config = make_run(
        huge,
        policy={"compute_dtype": "bfloat16"},
        roles={"actor": 2},
        generation={"group_size": 2, "max_completion_tokens": 16},
        learner=learner,
    )
    machine(300 * GIB, has_metal=True)
    assert "set roles.actor=1," in refusal(config)
    machine(200 * GIB, has_metal=True)
    assert "set learner.colocated_actor=true and roles.actor=0," in refusal(config)
    machine(120 * GIB, has_metal=True)
    assert "4-bit copy" in refusal(config)


def test_lora_is_named_where_full_tuning_is_too_much(make_llama, make_run, machine):
    # 1.1 billion numbers: 16 GB with masters and moments, far more in the optimizer's step
    folder = make_llama(hidden=2048, layers=22, mlp=5632, heads=32, kv_heads=4, vocabulary=32000)
    machine(24 * GIB)
    config = make_run(
        folder,
        generation={"group_size": 2, "max_completion_tokens": 16},
        learner={"groups_per_step": 1, "grad_checkpoint": True},
    )
    assert "set learner.tuning=lora," in refusal(config)


def test_long_completions_ask_for_smaller_microbatches_first(make_llama, make_run, machine):
    folder = make_llama(hidden=1024, layers=24, mlp=4096, heads=16, kv_heads=4, vocabulary=32000)
    config = make_run(
        folder,
        generation={"max_completion_tokens": 1024, "max_sequences": 16},
        learner={"tuning": "lora", "microbatch_tokens": 16384},
    )
    machine(24 * GIB)
    assert "set learner.microbatch_tokens=" in refusal(config)


def test_where_no_single_setting_helps_two_are_named(make_llama, make_run, machine):
    # half a billion numbers: the optimizer alone is too much, and so are such microbatches
    folder = make_llama(hidden=896, layers=24, mlp=4864, heads=14, kv_heads=2, vocabulary=151936)
    machine(12 * GIB, has_metal=True)
    config = make_run(
        folder, policy={"compute_dtype": "bfloat16"}, generation={"max_completion_tokens": 512}
    )
    assert "set learner.grad_checkpoint=true and learner.tuning=lora," in refusal(config)


def test_a_run_that_fits_says_nothing(make_llama, make_run, machine, caplog):
    machine(64 * GIB)
    refuse_misfit(make_run(make_llama()))
    assert caplog.text == ""


def test_a_run_that_fits_barely_is_warned_of(make_llama, make_run, machine, caplog):
    config = make_run(make_llama())
    shape = read_shape(config.model.path)
    assert shape is not None
    from learner.plan.fit import memory_here
    from learner.plan.work import shortest_work

    here = Machine(GIB, 8, has_metal=False)
    total = memory_here(shape, config, shortest_work(config), here).total_bytes
    for share, warned in ((0.79, False), (0.81, True)):
        caplog.clear()
        machine(int(total / share))
        with caplog.at_level(logging.WARNING):
            refuse_misfit(config)
        assert ("--plan says more" in caplog.text) is warned


def test_what_cannot_be_read_is_let_by(make_run, machine, monkeypatch, huge):
    machine(GIB)
    refuse_misfit(make_run("nobody/never-fetched"))
    (huge / "config.json").write_text("{}")
    refuse_misfit(make_run(huge))
    monkeypatch.setattr(fit, "this_machine", lambda: None)
    refuse_misfit(make_run("builtin:tiny"))


def test_changes_are_single_and_the_run_stays_the_same_otherwise(make_llama, make_run):
    folder = make_llama()
    config, shape = make_run(folder, roles={"actor": 3}), read_shape(str(folder))
    assert shape is not None
    found = list(changes(shape, config))
    settings = [change.setting for change in found]
    assert settings[:2] == ["learner.logits_chunk_tokens=128", "learner.logits_chunk_tokens=64"]
    assert settings[-5:] == [
        "learner.grad_checkpoint=true",
        "roles.actor=2",
        "roles.actor=1",
        "learner.colocated_actor=true and roles.actor=0",
        "learner.tuning=lora",
    ]
    before = config.model_dump()
    for change in found:
        after = change.config.model_dump()
        differ = [
            (section, key)
            for section, keys in before.items()
            if isinstance(keys, dict)
            for key, value in keys.items()
            if after[section][key] != value
        ]
        assert len(differ) == len(change.setting.split(" and "))


def test_colocating_is_no_remedy_where_the_config_refuses_it(make_llama, make_run):
    folder = make_llama()
    config = make_run(folder, generation={"in_flight_weight_updates": False})
    shape = read_shape(str(folder))
    assert shape is not None
    assert not any("colocated" in change.setting for change in changes(shape, config))


def test_sizes_are_told_in_three_figures():
    assert gib(int(1.5 * GIB)) == "1.5 GB"
    assert gib(1536 * GIB) == "1536 GB"


@pytest.mark.parametrize(
    "damage",
    [
        {"num_hidden_layers": 0},
        {"num_hidden_layers": -5},
        {"hidden_size": [8]},
        {"num_key_value_heads": "many"},
    ],
)
def test_a_folder_whose_numbers_make_no_sense_is_let_by(make_llama, make_run, machine, damage):
    machine(64 * GIB)
    folder = make_llama()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **damage}))
    refuse_misfit(make_run(folder))


@pytest.mark.parametrize("text", ["[" * 200_000, " " * (1 << 20) + "{}"])
def test_a_config_that_is_a_bomb_is_let_by(make_llama, make_run, machine, text):
    machine(64 * GIB)
    folder = make_llama()
    (folder / "config.json").write_text(text)
    refuse_misfit(make_run(folder))


def test_weights_that_lie_there_twice_count_once(make_llama):
    folder = make_llama()
    once = read_shape(str(folder))
    [file] = folder.glob("model*.safetensors")
    (folder / "model.fp16.safetensors").write_bytes(file.read_bytes())
    assert read_shape(str(folder)) == once
