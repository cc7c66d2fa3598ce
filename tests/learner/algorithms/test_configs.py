import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
from pathlib import Path

import pytest

from learner.algorithm import algorithm, make_algorithm
from protocol.config_file import load_config

FOLDER = Path(__file__).parents[3] / "configs" / "algorithms"
CONFIGS = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_makes_the_algorithm_that_it_is_named_for(path):
    config = load_config(path)
    assert path.stem.startswith(config.algorithm.name)
    assert config.run.name == path.stem
    assert config.run.max_steps == 40
    made = make_algorithm(config.algorithm)
    assert (made.returns is not None) == (config.algorithm.name == "ppo")
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_every_algorithm_has_a_config():
    assert set(algorithm.names()) <= {path.stem for path in CONFIGS}


def test_dapos_config_asks_for_dynamic_sampling():
    assert load_config(FOLDER / "dapo.yaml").learner.max_refill_groups == 16
