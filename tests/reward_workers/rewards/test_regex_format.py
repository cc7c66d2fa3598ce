import re

import pytest

from protocol.config import RewardConfig
from protocol.errors import ConfigError
from reward_workers.binding import bind_rewards
from reward_workers.rewards.regex_format import regex_format


def test_the_whole_completion_must_have_the_form():
    completions = ["85", " 85", "85\n", "8x"]
    assert regex_format(completions, pattern=re.compile(r"\d+")) == [1.0, 0.0, 0.0, 0.0]


def test_a_part_is_enough_for_search():
    completions = ["so <answer>85</answer>.", "85"]
    pattern = re.compile("<answer>.*</answer>")
    assert regex_format(completions, pattern=pattern, match="search") == [1.0, 0.0]


def test_the_config_gives_the_pattern_as_text():
    [bound] = bind_rewards([RewardConfig.model_validate({"name": "regex_format", "pattern": "a+"})])
    assert bound.parameters == {"pattern": re.compile("a+")}


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"pattern": "(a"}, r"parameter 'pattern': .*regular expression \(found '\(a'\)"),
        ({"pattern": "a", "match": "find"}, r"'match': .*'fullmatch' or 'search'"),
        ({}, "reward 'regex_format' needs the parameter 'pattern'"),
    ],
)
def test_a_bad_parameter_is_refused_at_the_start(parameters, sentence):
    with pytest.raises(ConfigError, match=sentence):
        bind_rewards([RewardConfig.model_validate({"name": "regex_format", **parameters})])
