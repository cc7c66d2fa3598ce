"""The plan with a real probe of the built-in model."""

import json

import pytest
import yaml

from learner.plan import command
from learner.plan.command import Findings, make_plan, plan_and_show
from learner.plan.machine import Machine
from learner.plan.probe import measure
from learner.plan.seconds import Parts
from learner.plan.work import Needs, Work
from protocol.config_file import load_config
from protocol.errors import ConfigError


@pytest.fixture
def run_file(tmp_path):
    def write(**sections):
        tree = {
            "model": {"path": "builtin:tiny"},
            "data": {"train": ["arithmetic:add2?count=8"], "heldout": ["arithmetic:add2?count=4"]},
            "rewards": [{"name": "exact_match"}],
            "generation": {"group_size": 2, "max_completion_tokens": 8},
            "learner": {"groups_per_step": 3},
            **sections,
        }
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(tree))
        return load_config(path), path

    return write


def test_a_probe_measures_lengths_and_all_parts_of_a_step(run_file):
    config, _ = run_file(algorithm={"name": "ppo"})
    found = measure(config, completion_tokens=4, rows=6, needs_only=False)
    assert (found.needs.optimizer_steps, found.needs.critic, found.needs.reference) == (
        4,
        True,
        False,
    )
    assert 5 <= found.prompts.mean <= found.prompts.longest <= 12  # such as <user>37+48=<assistant>
    assert found.prompts.num_heldout == 4
    assert min(found.learner_seconds, found.prefill_seconds, found.decode_seconds) > 0
    assert found.decode_rows == 6


@pytest.mark.slow
def test_a_plan_of_a_run_that_fits_ends_with_0(run_file, capsys):
    config, path = run_file()
    assert plan_and_show(config, path, None) == 0
    said = capsys.readouterr().out
    assert said.startswith("learner x1: ")
    assert "completions of 4 (half of the bound" in said
    assert "completions of 8 (generation.max_completion_tokens)" in said
    assert "\ncolocated (learner.colocated_actor=true, roles.actor=0): " in said
    assert said.endswith("it fits\n")


@pytest.fixture
def probed(monkeypatch):
    """Answers in the probe's place; keeps the options of each call."""
    calls: list[tuple[str, ...]] = []
    parts = Parts(learner=2.0, prefill=0.1, decode=0.05, decode_rows=6)

    def probe(_config, _file, _expected, *options):
        calls.append(options)
        return Findings(Work(9, 8, Needs()), 9.0, parts, 0)

    monkeypatch.setattr(command, "_probe", probe)
    return calls


def test_a_plan_compares_both_places_for_generation(run_file, probed, monkeypatch):
    monkeypatch.setattr(command, "this_machine", lambda: Machine(8 << 30, 2, has_metal=False))
    config, path = run_file()
    plan = make_plan(config, path, 4)
    # learner 2 s; actor 3 x 0.1 + 4 x 0.05 = 0.5 s, beside it or after it
    assert plan.other_way.startswith("colocated (learner.colocated_actor=true, roles.actor=0): ")
    assert "about 2.53 s a step instead of 2.03 s: separate actors are faster" in plan.other_way
    learner = {"groups_per_step": 3, "colocated_actor": True}
    config, path = run_file(learner=learner, roles={"actor": 0})
    colocated = make_plan(config, path, 4)
    assert colocated.other_way.startswith("separate actors (learner.colocated_actor=false, roles.a")
    assert "about 2.03 s a step instead of 2.53 s" in colocated.other_way
    assert colocated.memory.total_bytes < plan.memory.total_bytes
    assert probed == [("--needs-only",), ("--rows", "6")] * 2


def test_a_plan_times_the_rows_that_the_bound_on_the_cache_lets_in(run_file, probed):
    config, path = run_file(generation={"group_size": 2, "max_kv_bytes": 1})
    make_plan(config, path, 4)
    assert probed[1] == ("--rows", "2")


def test_a_plan_of_a_run_that_does_not_fit_ends_with_2_and_times_nothing(
    run_file, capsys, monkeypatch
):
    monkeypatch.setattr(command, "this_machine", lambda: Machine(1 << 20, 2, has_metal=False))
    config, path = run_file()
    assert plan_and_show(config, path, 5) == 2
    said = capsys.readouterr().out
    assert "does not fit: this run needs about" in said
    assert "a step" not in said


def test_a_plan_needs_a_shape(run_file):
    config, path = run_file(model={"path": "nobody/never-fetched"})
    with pytest.raises(ConfigError, match="the shape of nobody/never-fetched cannot be read"):
        make_plan(config, path, None)


def test_a_probe_that_refuses_is_told_in_its_words(run_file, tmp_path):
    (tmp_path / "bad.jsonl").write_text(json.dumps({"question": "1+1="}) + "\n")
    config, path = run_file(data={"train": [str(tmp_path / "bad.jsonl")]})
    with pytest.raises(Exception, match="prompt"):
        make_plan(config, path, None)
