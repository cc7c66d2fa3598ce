import json

import pytest

from learner.run_page.run_facts import RunFacts
from learner.run_page.series import Series


def facts_of(run_dir, live=None):
    return RunFacts(run_dir, Series(run_dir), live).answer()


def add_steps(run_dir, last, seconds=2.0):
    rows = [{"step": n, "policy_version": n, "seconds/step": seconds} for n in range(1, last + 1)]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_that_has_just_begun(run_dir):
    found = facts_of(run_dir)
    assert found.pop("config")["run"] == {"name": "mine", "max_steps": 10}
    assert found == {
        "name": "mine",
        "run_dir": str(run_dir),
        "is_live": False,
        "is_finished": False,
        "step": 0,
        "policy_version": None,
        "max_steps": 10,
        "model": "builtin:tiny",
        "algorithm": "grpo",
        "rewards": ["exact_match", "length"],
        "max_off_policy_steps": 2,
        "groups": None,
        "peers": [],
        "warnings": [],
        "seconds_per_step": None,
        "eta_seconds": None,
    }


def test_a_run_in_the_middle_has_a_time_left(run_dir):
    add_steps(run_dir, 4, seconds=3.0)
    found = facts_of(run_dir)
    assert (found["step"], found["policy_version"], found["is_finished"]) == (4, 4, False)
    assert (found["seconds_per_step"], found["eta_seconds"]) == (3.0, 18.0)


def test_all_steps_done_is_finished(run_dir):
    add_steps(run_dir, 10)
    found = facts_of(run_dir, live=dict)
    assert (found["is_finished"], found["eta_seconds"], found["is_live"]) == (True, None, True)


def test_a_summary_says_that_a_run_has_ended_unless_a_learner_serves_it(run_dir):
    add_steps(run_dir, 4)
    (run_dir / "summary.json").write_text("{}")
    assert facts_of(run_dir)["is_finished"] is True
    assert facts_of(run_dir, live=dict)["is_finished"] is False


def test_a_learner_knows_more_than_its_folder(run_dir):
    add_steps(run_dir, 4)
    live = {"groups": {"ready": 3}, "peers": [{"name": "a"}], "step": 5, "name": "other"}
    found = facts_of(run_dir, live=lambda: live)
    assert (found["groups"], found["peers"], found["step"]) == ({"ready": 3}, [{"name": "a"}], 5)
    assert (found["name"], found["policy_version"], found["eta_seconds"]) == ("mine", 4, 10.0)


@pytest.mark.parametrize(
    "text",
    ["", "[1, 2]", "a: [", "run: 7\nrewards: 8\n", "\x00", "run: {max_steps: x}", "[" * 9999],
)
def test_a_config_that_says_little_is_no_hindrance(run_dir, text):
    (run_dir / "config.yaml").write_text(text)
    found = facts_of(run_dir)
    assert (found["name"], found["rewards"], found["max_steps"]) == ("run", [], None)
    assert isinstance(found["config"], dict)


def test_a_changed_config_is_read_again(run_dir):
    facts = RunFacts(run_dir, Series(run_dir), None)
    assert facts.model_path() == "builtin:tiny"
    (run_dir / "config.yaml").write_text("model: {path: 'elsewhere'}\n")
    assert facts.model_path() == "elsewhere"
    (run_dir / "config.yaml").unlink()
    assert facts.model_path() == ""
