import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import pytest

from learner.algorithm import algorithm, make_algorithm
from protocol.config_learner import AlgorithmSection
from protocol.errors import ConfigError, UnknownPluginError


def test_every_algorithm_can_be_made_from_its_name_alone():
    assert "grpo" in algorithm.names()
    for name in algorithm.names():
        parts = make_algorithm(AlgorithmSection(name=name))
        assert callable(parts.advantages)
        assert callable(parts.loss)


def test_an_unknown_algorithm_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownPluginError, match="did you mean 'grpo'"):
        make_algorithm(AlgorithmSection(name="grpp"))


def test_an_unknown_parameter_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'grpo' takes no parameter 'clip'.*clip_high, clip_low"):
        make_algorithm(AlgorithmSection.model_validate({"name": "grpo", "clip": 0.2}))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("clip_low", -0.1),
        ("clip_low", 1.5),
        ("clip_high", "wide"),
        ("norm_by_std", 3),
        ("loss_aggregation", "sum"),
    ],
)
def test_a_value_that_the_plugin_does_not_take_is_refused_by_name(parameter, value):
    section = AlgorithmSection.model_validate({"name": "grpo", parameter: value})
    with pytest.raises(ConfigError, match=f"algorithm 'grpo': {parameter} = {value!r}"):
        make_algorithm(section)


def test_an_algorithm_of_the_users_own_is_found_by_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from learner.algorithm import Algorithm\n"
        "def quiet(*, scale: float = 1.0) -> Algorithm:\n"
        "    return Algorithm(advantages=lambda batch: scale, loss=lambda tokens, totals: None)\n"
    )
    section = AlgorithmSection.model_validate({"name": f"{file}:quiet", "scale": 3.0})
    assert make_algorithm(section).advantages(None) == 3.0  # pyright: ignore


def test_something_else_than_an_algorithm_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text("def mine():\n    return 7\n")
    with pytest.raises(ConfigError, match="returned int, wanted an Algorithm"):
        make_algorithm(AlgorithmSection(name=f"{tmp_path / 'mine.py'}:mine"))
