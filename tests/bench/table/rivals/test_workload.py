"""Our config of a workload is one that a run accepts, and asks for what the rival's job does."""

import json
from pathlib import Path

import pytest

from bench.table.rivals.workload import (
    ADDITIONS,
    STORIES,
    TOLD_STORIES,
    Inputs,
    OurSettings,
    our_config,
)
from protocol.config_file import load_config

INPUTS = Inputs(Path("model"), Path("prompts.jsonl"))


@pytest.mark.parametrize("workload", [ADDITIONS, TOLD_STORIES])
def test_both_sides_are_asked_for_the_same(workload, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(our_config(workload, INPUTS, 7, 20_000, OurSettings(seed=3))))
    config = load_config(path)
    job = INPUTS.job(workload, tmp_path, 7, seed=3)
    assert config.learner.groups_per_step == job.prompts_per_step
    assert config.generation.group_size == job.group_size
    assert config.generation.max_completion_tokens == job.max_completion_tokens
    assert config.learner.optimizer.learning_rate == job.learning_rate
    assert config.rewards[0].name == job.reward
    assert (config.run.max_steps, config.run.seed) == (job.steps, job.seed)
    assert (config.learner.tuning == "lora") == bool(job.lora_rank)
    if job.lora_rank:
        lora = config.learner.lora
        assert (lora.rank, lora.scale) == (job.lora_rank, job.lora_scale)
    assert not config.data.heldout  # no evaluation in the timed part


def test_no_actor_of_its_own_means_a_colocated_one(tmp_path):
    settings = OurSettings(actors=0, sections={"learner": {"microbatch_tokens": 512}})
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(our_config(TOLD_STORIES, INPUTS, 1, 20_000, settings)))
    config = load_config(path)
    assert config.learner.colocated_actor
    assert config.roles.actor == 0
    assert config.learner.microbatch_tokens == 512
    assert config.learner.groups_per_step == TOLD_STORIES.prompts_per_step  # the rest stays


def test_stories_are_as_many_as_eight_steps_take():
    rows = [json.loads(line) for line in STORIES.read_text().splitlines()]
    assert len({row["prompt"] for row in rows}) == 32
