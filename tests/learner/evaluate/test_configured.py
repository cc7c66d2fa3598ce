"""mlx-eval's options as a run's config."""

from pathlib import Path

import pytest

from learner.evaluate.configured import Wanted, evaluation_config
from protocol.errors import ConfigError

QUICKSTART = Path(__file__).resolve().parents[3] / "configs" / "quickstart.yaml"


def test_nothing_is_trained_and_the_lightest_adapters_are_sent():
    wanted = Wanted(["accuracy"], data=["a.jsonl"], rewards=["exact_match"], num_actors=3)
    config = evaluation_config(wanted, "builtin:tiny", "one")
    assert (config.run.max_steps, config.run.name, config.data.train) == (0, "one", ())
    assert config.data.heldout == ("a.jsonl",)
    assert (config.learner.tuning, config.learner.lora.rank) == ("lora", 1)
    assert config.policy.weight_dtype == "float32"
    assert (config.roles.actor, config.network.http_port) == (3, 0)


def test_an_evaluator_may_be_a_mapping():
    text = "{name: pass_at_k, k: [1, 5], num_samples: 10, temperature: 0.8}"
    config = evaluation_config(Wanted([text]), "builtin:tiny", "one")
    (section,) = config.evaluation.evaluators
    assert (section.name, section.num_samples, section.temperature) == ("pass_at_k", 10, 0.8)
    assert section.parameters == {"k": [1, 5]}


def test_what_is_not_given_is_the_configs():
    config = evaluation_config(Wanted(["accuracy"], config=QUICKSTART), "builtin:tiny", "one")
    assert config.data.heldout == ("arithmetic:add2?count=1024",)
    assert [reward.name for reward in config.rewards] == ["exact_match"]
    assert config.generation.max_completion_tokens == 8
    assert config.run.max_steps == 0


def test_an_override_comes_last():
    wanted = Wanted(["accuracy"], config=QUICKSTART, overrides=["generation.max_sequences=7"])
    assert evaluation_config(wanted, "builtin:tiny", "one").generation.max_sequences == 7


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{num_samples: 2}", "no name in it"),
        ("{name: a", "not YAML"),
        ("{name: pass_at_k, num_samples: 2}", "at temperature 0"),
    ],
)
def test_an_evaluator_that_is_none_is_refused(text, told):
    with pytest.raises(ConfigError, match=told):
        evaluation_config(Wanted([text]), "builtin:tiny", "one")
