import pytest
import yaml

from protocol.config_data import SourceConfig
from protocol.config_file import dump_config, validated
from protocol.errors import ConfigError


def config(data):
    tree = {"model": {"path": "m"}, "rewards": [{"name": "r"}], "data": {"train": ["a"], **data}}
    return validated(tree)


def test_a_source_is_a_text_or_a_mapping_and_stays_what_it_was():
    found = config({"train": ["a", {"source": "b", "weight": 2}]})
    assert found.data.train[0] == "a"
    assert found.data.train[1] == SourceConfig(source="b", weight=2)
    assert validated(yaml.safe_load(dump_config(found))) == found


@pytest.mark.parametrize(
    ("train", "weights"),
    [
        (["a", "b"], None),
        (["a", {"source": "b"}], None),
        (["a", {"source": "b", "weight": 0.5}], (1.0, 0.5)),
    ],
)
def test_weights_are_one_where_any_source_has_one(train, weights):
    assert config({"train": train}).data.weights == weights


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"train": "a"}, ["wanted a list, such as [a]"]),
        ({"train": [{"sourc": "a"}]}, ["data.train.0", "sourc"]),
        ({"train": [{"source": "a", "weight": 0}]}, ["weight", "greater than 0"]),
        ({"train": [3]}, ["data.train.0"]),
        ({"heldout": [{"source": "a", "weight": 1}]}, ["heldout has a source with a weight"]),
        ({"train": [{"source": "a", "weight": 1}], "epochs": 2}, ["epochs 2", "run.max_steps"]),
        (
            {"train": [{"source": "a", "weight": 1}], "order": "by_source"},
            ["by_source", "take turns"],
        ),
        ({"train": [{"source": "a", "template": "{a.b}"}]}, ["{a.b}", "plain name"]),
        ({"train": [{"source": "a", "template": "{a!r}"}]}, ["plain name"]),
        ({"train": [{"source": "a", "template": "{}"}]}, ["plain name"]),
        ({"train": [{"source": "a", "template": "{a"}]}, ["double the braces"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(data, words):
    with pytest.raises(ConfigError) as refused:
        config(data)
    for word in words:
        assert word in str(refused.value)


def test_an_evaluators_source_has_no_weight_either():
    section = {"name": "accuracy", "data": [{"source": "a", "weight": 2}]}
    tree = {"model": {"path": "m"}, "rewards": [{"name": "r"}], "data": {"train": ["a"]}}
    with pytest.raises(ConfigError, match="data of evaluator accuracy has a source with a weight"):
        validated({**tree, "evaluation": {"evaluators": [section]}})
