"""Which names are runs, and which are models."""

import pytest

from learner.evaluate.subject import as_model, is_run
from protocol.errors import ConfigError


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text(
        "model: {path: 'builtin:tiny'}\ndata: {train: [a.jsonl]}\nrewards: [{name: exact_match}]\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["builtin:tiny", "org/name", "some/folder", "org/name@main"])
def test_what_is_no_run_is_a_models_name(run_dir, name):
    with as_model(name) as path:
        assert path == name


def test_a_run_is_known_by_its_folder_with_and_without_a_step(run_dir):
    assert is_run(str(run_dir))
    assert is_run(f"{run_dir}@best")
    assert not is_run(str(run_dir / "checkpoints"))


def test_a_run_without_a_checkpoint_is_refused_in_its_exporters_words(run_dir):
    with pytest.raises(ConfigError, match="no checkpoint"), as_model(str(run_dir)):
        pass


def test_a_step_of_a_folder_that_is_no_run_is_refused(run_dir):
    with pytest.raises(ConfigError, match="no run folder"), as_model("run/checkpoints@3"):
        pass
