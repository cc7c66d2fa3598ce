import pytest
from pydantic import ValidationError

from protocol.config import GenerationSection, NetworkSection, RewardConfig, RunConfig, RunSection
from protocol.config_file import dump_config, load_config
from protocol.config_learner import AlgorithmSection
from protocol.errors import ConfigError

MINIMAL = {"model": {"path": "m"}, "data": {"train": ["a"]}, "rewards": [{"name": "exact_match"}]}


def test_a_config_of_model_data_and_a_reward_is_enough():
    config = RunConfig.model_validate(MINIMAL)
    assert config.algorithm.name == "grpo"
    assert config.rewards == (RewardConfig(name="exact_match", weight=1.0),)


def test_a_config_is_frozen():
    config = RunConfig.model_validate(MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        config.run = RunSection()


def test_a_plugins_parameters_are_all_keys_but_name_and_weight():
    reward = RewardConfig.model_validate({"name": "length", "weight": 2, "target": 5, "soft": True})
    assert reward.parameters == {"target": 5, "soft": True}
    assert AlgorithmSection.model_validate({"clip": 0.2}).parameters == {"clip": 0.2}


@pytest.mark.parametrize("bind", ["0.0.0.0", "192.168.1.5", "::", "mac-a.local"])
def test_a_bind_beyond_loopback_is_refused_unless_called_insecure(bind):
    with pytest.raises(ValidationError, match=r"set network\.insecure=true"):
        NetworkSection(bind=bind)
    assert NetworkSection(bind=bind, insecure=True).bind == bind


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_leave(bind):
    assert not NetworkSection(bind=bind).insecure


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "-x", "a b", "x" * 101])
def test_a_run_name_that_could_leave_the_runs_folder_is_refused(name):
    with pytest.raises(ValidationError):
        RunSection(name=name)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_that_json_cannot_say_are_refused(value):
    tree = MINIMAL | {"learner": {"no_progress_seconds": value}}
    with pytest.raises(ValidationError, match="finite number"):
        RunConfig.model_validate(tree)


def test_a_config_survives_the_json_of_a_welcome():
    config = RunConfig.model_validate(MINIMAL | {"algorithm": {"name": "ppo", "clip": 0.2}})
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("key", "value"),
    [("top_p", 0.9), ("top_k", 50), ("min_p", 0.05), ("repetition_penalty", 1.1), ("top_p", 1.0)],
)
def test_sampling_from_less_than_the_policy_is_refused_also_where_the_value_means_off(key, value):
    with pytest.raises(ValidationError, match=rf"{key} = {value} is refused .* Remove it, and set"):
        GenerationSection.model_validate({key: value})


def test_truncated_sampling_is_refused_in_one_sentence_in_a_file_and_on_the_command_line(tmp_path):
    minimal = "{model: {path: m}, data: {train: [a]}, rewards: [{name: exact_match}]"
    plain, truncated = tmp_path / "plain.yaml", tmp_path / "truncated.yaml"
    plain.write_text(minimal + "}")
    truncated.write_text(minimal + ", generation: {top_k: 20, temperature: 0.7}}")
    with pytest.raises(ConfigError, match=r"generation: top_k = 20 is refused .*TRL #7269.*0\.896"):
        load_config(truncated)
    with pytest.raises(
        ConfigError, match=r"generation: top_p = 0\.9 .*set generation\.temperature"
    ):
        load_config(plain, ["generation.top_p=0.9"])
    assert load_config(plain, ["generation.temperature=0.9"]).generation.temperature == 0.9


def colocated(stale: int, *, in_flight: bool) -> RunConfig:
    generation = {"in_flight_weight_updates": in_flight}
    learner = {"colocated_actor": True, "max_off_policy_steps": stale}
    return RunConfig.model_validate(MINIMAL | {"generation": generation, "learner": learner})


def test_a_colocated_actor_without_in_flight_updates_must_be_synchronous():
    wanted = (
        r"learner\.colocated_actor with generation\.in_flight_weight_updates=false needs "
        r"learner\.max_off_policy_steps=0, found 2: .* replaces the one copy of the weights.* Set "
    )
    with pytest.raises(ValidationError, match=wanted):
        colocated(2, in_flight=False)
    assert colocated(0, in_flight=False).learner.colocated_actor
    assert colocated(2, in_flight=True).learner.colocated_actor


def test_a_deterministic_run_may_be_colocated():
    learner = {"colocated_actor": True, "max_off_policy_steps": 0}
    tree = MINIMAL | {"run": {"deterministic": True}, "learner": learner}
    assert RunConfig.model_validate(tree).learner.colocated_actor


def test_a_tracker_is_a_name_or_a_section_in_a_file_and_in_what_is_saved(tmp_path, make_config):
    config = make_config(report_to=["tensorboard", {"name": "wandb", "mode": "offline"}])
    first, second = config.report_to
    assert (first.name, first.parameters) == ("tensorboard", {})
    assert (second.name, second.parameters) == ("wandb", {"mode": "offline"})
    (tmp_path / "saved.yaml").write_text(dump_config(config))
    saved = tmp_path / "saved.yaml"
    assert load_config(saved) == config
    assert make_config(report_to="tensorboard").report_to == config.report_to[:1]
    assert load_config(saved, ["report_to=[]"]).report_to == ()
    assert load_config(saved, ["report_to=tensorboard"]).report_to == config.report_to[:1]
    with pytest.raises(ConfigError, match="wanted a list"):
        load_config(saved, ["report_to=3"])
