"""Putting a learner together: what is refused before anything is written, and what is resumed."""

import json
import re
import socket
import time
from pathlib import Path

import pytest

from learner.assemble import assemble, check, ledger_limits, make_evaluators
from learner.checkpoints.position import Position
from learner.checkpoints.retention import checkpoints_in
from learner.checkpoints.writer import CheckpointWriter
from learner.ledger.snapshot import Snapshot
from learner.resume import Resume
from learner.run_folder import RunFolder, config_of
from protocol.config_file import load_config
from protocol.errors import ConfigError, DataError
from protocol.messages import Hello, Welcome
from protocol.peer import PeerLink
from protocol.process import this_host
from protocol.transport import PeerSockets
from protocol.weights_folders import learner_folder

HOST = "127.0.0.1"
DEADLINE_SECONDS = 30.0
DIGEST_CHARACTERS = 32


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def make_learner(make_config, free_port, folder):
    """Assembles a learner and takes it apart again."""

    def make(*, resume=None, run_id="", into=None, **sections):
        config = make_config(network={"port": free_port}, **sections)
        learner = assemble(config, into or folder, resume=resume, run_id=run_id)
        learner.exchange.start()
        learner.close("the test is over")
        return learner

    return make


def save(learner, step=3, watermark=5):
    """Saves a checkpoint as the learner's loop would."""
    loop = learner.loop
    position = Position(step, step, Snapshot(watermark=watermark, counts={"trained": step}))
    trainer = loop.trainer
    writer = CheckpointWriter(loop.folder.checkpoints, loop.config, loop.facts)
    writer.save(position, trainer.policy, trainer.parameters)
    writer.wait()


def test_a_new_run_begins_at_step_0_in_epoch_1(make_learner, folder):
    learner = make_learner()
    assert learner.loop.position == Position(0, 0, Snapshot())
    assert (folder.path / "run_epoch").read_text() == "1\n"
    assert load_config(folder.path / "config.yaml") == learner.loop.config
    [plan] = learner.loop.evaluation.plans
    assert (plan.evaluate.name, plan.suite, len(plan.prompts)) == ("accuracy", 0, 2)


def long_prompt(tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"prompt": "1+" * 100, "answer": "2"}) + "\n")
    return {"train": [str(path)], "max_prompt_tokens": 100}


@pytest.mark.parametrize(
    ("sections", "error", "named"),
    [
        ({"learner": {"publish": {"kind": "lora"}}}, ConfigError, "adapters only.*tuning is full"),
        *(
            (
                {"learner": {"tuning": "lora", "publish": {"kind": kind}}},
                ConfigError,
                f"learner.publish.kind {kind} is for versions of the whole model.*tuning is lora",
            )
            for kind in ("full", "delta")
        ),
        ({"learner": {"tuning": "lora", "lora": {"layers": 9}}}, ConfigError, "lora.layers is 9"),
        ({"data": "long"}, DataError, "long.jsonl:1"),
        ({"data": {"train": ["arithmetic:add2?count=0"]}}, DataError, "add2.count=0 holds no rows"),
    ],
)
def test_what_is_refused_leaves_no_run_folder_and_no_taken_port(
    make_learner, folder, tmp_path, sections, error, named
):
    if sections.get("data") == "long":
        sections = {"data": long_prompt(tmp_path)}
    with pytest.raises(error, match=named):
        make_learner(**sections)
    assert not folder.path.exists()
    make_learner()


@pytest.mark.parametrize("offset", range(4))
def test_a_taken_port_leaves_no_run_folder(make_learner, folder, free_port, offset):
    with socket.socket() as taken:
        taken.bind((HOST, free_port + offset))
        taken.listen()
        with pytest.raises(ConfigError, match=f"port {free_port + offset}: .*in use"):
            make_learner()
    assert not folder.path.exists()
    make_learner()


def test_a_run_goes_on_where_its_checkpoint_stands(make_learner, folder):
    first = make_learner()
    for step in (1, 2, 3, 4, 5):
        folder.append_metrics({"step": step})
    save(first)
    second = make_learner(resume=Resume(), learner={"lease_seconds": 7.0})
    assert config_of(folder.path, 1) == first.loop.config
    assert config_of(folder.path, 2) == second.loop.config
    position = second.loop.position
    assert (position.step, position.policy_version, position.snapshot.watermark) == (3, 3, 5)
    rows = (folder.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2, 3]
    assert (folder.path / "run_epoch").read_text() == "2\n"


def test_a_run_goes_on_at_an_earlier_step_and_keeps_the_later_checkpoints_aside(
    make_learner, folder
):
    first = make_learner()
    for step in (1, 2, 3, 4, 5):
        folder.append_metrics({"step": step})
    save(first, 2)
    save(first, 4)
    assert make_learner(resume=Resume(2)).loop.position.step == 2
    assert checkpoints_in(folder.checkpoints).keys() == {2}
    aside = folder.path / "aside" / "run_epoch_000002"
    assert (aside / "checkpoints" / "step_000004" / "trainer.json").is_file()
    assert len((aside / "metrics.jsonl").read_text().splitlines()) == 3
    assert make_learner(resume=Resume()).loop.position.step == 2


def test_a_fork_begins_where_another_run_was_and_leaves_it_alone(make_learner, folder, tmp_path):
    first = make_learner()
    for step in (1, 2, 3):
        folder.append_metrics({"step": step})
        folder.write_rollouts(step, [{"group": step}])
    save(first, 2)
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    into = RunFolder(tmp_path / "fork")
    learner = make_learner(resume=Resume(source=folder.path), into=into)
    assert learner.loop.position.step == 2
    rows = (into.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2]
    assert (into.path / "run_epoch").read_text() == "2\n"  # after the other's: configs/ has both
    assert make_learner(resume=Resume(), into=into).loop.position.step == 2
    after = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    assert after == before


def test_a_run_without_a_checkpoint_cannot_be_forked(make_learner, folder, tmp_path):
    make_learner()
    with pytest.raises(ConfigError, match="has no checkpoint yet"):
        make_learner(resume=Resume(source=folder.path), into=RunFolder(tmp_path / "fork"))
    assert not (tmp_path / "fork").exists()


def test_a_resume_with_another_tuning_changes_nothing_in_the_run_folder(make_learner, folder):
    save(make_learner())
    folder.append_metrics({"step": 4})
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="use the config it was made with"):
        make_learner(resume=Resume(), learner={"tuning": "lora"})
    after = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    assert after == before


def welcome_of(config, folder, port):
    """What a learner says to a peer; returns it with what was in its folder of versions."""
    learner = assemble(config, folder, resume=None, run_id="")
    learner.exchange.start()
    hello = Hello(role="actor", peer="actor-1", host=this_host(), pid=1)
    link = PeerLink(hello, PeerSockets(f"tcp://{HOST}:{port}", "actor-1"))
    link.start()
    try:
        learner.loop.publishing.publish(0, learner.loop.trainer.parameters.masters.rounded())
        welcome, files = None, set()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while welcome is None or (welcome.weights_dir and not files):
            assert time.monotonic() < deadline, "nothing was heard, or nothing written"
            if (received := link.receive(0.05)) and isinstance(received.message, Welcome):
                welcome = received.message
            if welcome is not None and welcome.weights_dir:
                there = Path(welcome.weights_dir).iterdir()
                files = {path.name for path in there if len(path.name) == DIGEST_CHARACTERS}
        return welcome, files
    finally:
        link.close("the test is over")
        learner.close("the test is over")


@pytest.mark.parametrize(
    ("section", "is_shared"),
    [
        ({}, True),
        ({"publish": {"kind": "full"}}, True),
        ({"publish": {"share_files": False}}, False),
        ({"tuning": "lora"}, False),
    ],
)
def test_versions_are_shared_with_this_host_until_the_end_of_the_run(
    make_config, free_port, folder, section, is_shared
):
    config = make_config(network={"port": free_port}, learner=section)
    welcome, files = welcome_of(config, folder, free_port)
    assert bool(welcome.weights_dir) == is_shared
    if is_shared:
        assert welcome.weights_dir == str(learner_folder(folder.path))
        assert len(files) == 1
        assert not Path(welcome.weights_dir).exists()


def test_a_folder_that_cannot_be_shared_is_told_and_the_run_goes_on(
    make_learner, folder, tmp_path, monkeypatch, caplog
):
    taken = tmp_path / "taken"
    taken.write_text("a file")
    monkeypatch.setattr("learner.assemble.learner_folder", lambda run_dir: taken)
    assert make_learner().loop.position.step == 0
    assert "actors on this host receive every version" in caplog.text
    assert taken.read_text() == "a file"


def test_the_ledgers_limits_are_the_configs(make_config):
    limits = ledger_limits(
        make_config(
            learner={
                "groups_per_step": 4,
                "max_off_policy_steps": 2,
                "max_attempts": 7,
                "lease_seconds": 11.0,
                "score_seconds": 13.0,
                "max_refill_groups": 5,
            },
            generation={"group_size": 3},
            data={"train": ["x"], "no_resampling_pass_rate": 0.9, "pass_reward": 0.5},
        )
    )
    assert (limits.groups_per_step, limits.group_size) == (4, 3)
    assert (limits.max_off_policy_steps, limits.max_attempts) == (2, 7)
    assert (limits.lease_seconds, limits.score_seconds) == (11.0, 13.0)
    assert limits.max_refill_groups == 5
    assert (limits.no_resampling_pass_rate, limits.pass_reward) == (0.9, 0.5)
    assert limits.prompts_low_water == 12  # what admission lets be in flight
    assert not limits.deterministic
    sections = {"run": {"deterministic": True}, "learner": {"max_off_policy_steps": 0}}
    assert ledger_limits(make_config(**sections)).deterministic


def test_a_colocated_actors_leases_outlast_a_step(make_config):
    section = {"lease_seconds": 11.0, "no_progress_seconds": 90.0}
    assert ledger_limits(make_config(learner=section)).lease_seconds == 11.0
    colocated = {**section, "colocated_actor": True}
    assert ledger_limits(make_config(learner=colocated)).lease_seconds == 90.0
    longer = {**colocated, "lease_seconds": 120.0}
    assert ledger_limits(make_config(learner=longer)).lease_seconds == 120.0


def test_an_evaluator_that_is_named_twice_is_refused(make_config):
    twice = [{"name": "accuracy"}, {"name": "accuracy", "threshold": 0.5}]
    with pytest.raises(ConfigError, match="names accuracy twice"):
        make_evaluators(make_config(evaluation={"evaluators": twice}))


def test_a_run_that_goes_on_elsewhere_is_not_resumed_from_a_checkpoint_read_before(
    make_learner, folder
):
    save(make_learner(), 2)
    owner = RunFolder(folder.path)
    owner.lock()
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="another learner is running"):
        make_learner(resume=Resume())
    assert {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()} == before
    owner.release()
    assert make_learner(resume=Resume()).loop.position.step == 2


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"stop_tokens": ["<|im_end|>"]}, "model.stop_tokens has '<|im_end|>'"),
        ({"chat_template": "no/such.jinja"}, "no/such.jinja cannot be read"),
        ({"revision": "v2"}, "model.revision is 'v2' and builtin:tiny is no Hub id"),
    ],
)
def test_what_a_tokenizer_cannot_do_is_refused_without_the_weights(make_config, keys, words):
    with pytest.raises((ConfigError, DataError), match=re.escape(words)):
        check(make_config(model={"path": "builtin:tiny", **keys}))
