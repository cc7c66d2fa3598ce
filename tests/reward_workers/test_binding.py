from collections.abc import Mapping

import pytest

from protocol.config import RewardConfig
from protocol.errors import ConfigError, RewardError, UnknownPluginError
from reward_workers.binding import bind_rewards
from reward_workers.rows import read_row


def bind_config(*configs: Mapping[str, object]):
    return bind_rewards([RewardConfig.model_validate(config) for config in configs])


@pytest.fixture
def rewards_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def bonus(completions, answer, level=1, *, by: float = 1.0, **columns):\n"
        "    return [by] * len(completions)\n"
        "def plain(completions): return [0.0] * len(completions)\n"
        "def positional(completions, /): return [0.0]\n"
        "def quoted(completions, *, pattern: 'no such type' = 1): return [0.0]\n"
        "def judge(completions, *, level: int = 1, sandbox): return [0.0]\n"
        "def online(completions): return [0.0]\n"
        "online.needs_network = True\n"
        "number = 3\n"
    )
    return path


@pytest.fixture
def row(make_task):
    return read_row(make_task("85", answer="85", by="taken", source="s"))


def test_the_built_in_rewards_are_found_by_name():
    bound = bind_config({"name": "exact_match", "weight": 0.5}, {"name": "numeric_match"})
    assert [(reward.name, reward.weight) for reward in bound] == [
        ("exact_match", 0.5),
        ("numeric_match", 1.0),
    ]


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(UnknownPluginError, match="did you mean 'exact_match'"):
        bind_config({"name": "exact_mach"})


@pytest.mark.parametrize(
    ("misspelt", "meant"), [("wieght", "weight"), ("timeout_second", "timeout_seconds")]
)
def test_a_misspelt_key_of_every_reward_gets_the_nearest_one(misspelt, meant):
    with pytest.raises(ConfigError, match=f"no parameter '{misspelt}': did you mean '{meant}'"):
        bind_config({"name": "numeric_match", misspelt: 2.0})


def test_an_unknown_parameter_gets_the_nearest_one():
    with pytest.raises(ConfigError, match=r"no parameter 'tolerence': did you mean 'tolerance'\?"):
        bind_config({"name": "numeric_match", "tolerence": 0.1})


@pytest.mark.parametrize("tolerance", ["wide", -1.0, float("inf"), None])
def test_a_parameter_of_the_wrong_kind_is_refused(tolerance):
    with pytest.raises(ConfigError, match="reward 'numeric_match': parameter 'tolerance'"):
        bind_config({"name": "numeric_match", "tolerance": tolerance})


def test_a_reward_of_a_file_is_reported_by_its_functions_name(rewards_file):
    [bound] = bind_config({"name": f"{rewards_file}:bonus", "by": "2"})
    assert (bound.name, bound.parameters) == ("bonus", {"by": 2.0})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=f"no file {tmp_path}/gone.py"):
        bind_config({"name": f"{tmp_path}/gone.py:bonus"})


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("gone", "has no function 'gone'"),
        ("number", "has no function 'number'"),
        ("positional", "takes 'completions' by position only"),
    ],
)
def test_a_file_without_a_usable_function_is_refused(rewards_file, function, sentence):
    with pytest.raises(ConfigError, match=sentence):
        bind_config({"name": f"{rewards_file}:{function}"})


def test_a_file_that_does_not_load_is_refused(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=r"broken.py:f' cannot be loaded: ZeroDivisionError"):
        bind_config({"name": f"{path}:f"})


def test_a_column_cannot_be_set_as_a_parameter(rewards_file):
    with pytest.raises(ConfigError, match="'level' is a data column, not a parameter"):
        bind_config({"name": f"{rewards_file}:bonus", "level": 3})


def test_a_parameter_whose_annotation_means_nothing_is_passed_as_it_is(rewards_file):
    [bound] = bind_config({"name": f"{rewards_file}:quoted", "pattern": "x"})
    assert bound.parameters == {"pattern": "x"}


def test_a_reward_that_is_named_twice_is_numbered():
    one = {"name": "regex_format", "pattern": "a"}
    assert [reward.name for reward in bind_config(one, one, one)] == [
        "regex_format",
        "regex_format#2",
        "regex_format#3",
    ]


def test_a_function_gets_the_columns_that_it_names(rewards_file, row):
    [bound] = bind_config({"name": f"{rewards_file}:plain"})
    assert bound.arguments([row, row]) == {"completions": ["85", "85"]}


def test_an_open_function_gets_all_columns_but_none_for_a_parameter(rewards_file, row):
    [bound] = bind_config({"name": f"{rewards_file}:bonus"})
    assert bound.arguments([row]) == {
        "prompts": ["37+48="],
        "completions": ["85"],
        "raw_completions": ["85"],
        "thoughts": [""],
        "completion_tokens": [2],
        "finish_reason": ["stop"],
        "answer": ["85"],
        "source": ["s"],
    }


def test_a_column_that_the_data_lacks_is_named(rewards_file, make_task):
    [bound] = bind_config({"name": f"{rewards_file}:bonus"})
    with pytest.raises(RewardError, match="lacks the column 'answer'; it has: solution"):
        bound.arguments([read_row(make_task("85", solution="85"))])


def test_what_a_function_asks_for_is_no_parameter(rewards_file):
    judge, online, plain = bind_config(
        {"name": f"{rewards_file}:judge"},
        {"name": f"{rewards_file}:online"},
        {"name": f"{rewards_file}:plain"},
    )
    assert [reward.uses_sandbox for reward in (judge, online, plain)] == [True, False, False]
    assert [reward.needs_network for reward in (judge, online, plain)] == [False, True, False]
    assert judge.parameters == {}
    with pytest.raises(ConfigError, match="'sandbox' is given to the function, it cannot be set"):
        bind_config({"name": f"{rewards_file}:judge", "sandbox": 1})
    with pytest.raises(ConfigError, match="known are level"):
        bind_config({"name": f"{rewards_file}:judge", "gone": 1})


def test_the_time_limit_is_no_parameter(rewards_file):
    [bound] = bind_config({"name": f"{rewards_file}:bonus", "timeout_seconds": 2})
    assert bound.parameters == {}
