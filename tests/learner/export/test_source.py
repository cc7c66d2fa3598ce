import json

import pytest

from learner.export.source import find_source
from protocol.errors import ConfigError


def write_best(run, text=None, step=2):
    best = {"step": step, "evaluator": "accuracy", "figure": "accuracy", "value": 0.625}
    (run / "checkpoints/best.json").write_text(json.dumps(best) if text is None else text)


def damage(run, step, name):
    path = run / f"checkpoints/step_{step:06d}" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_the_best_checkpoint_is_the_default_where_there_is_one(full_run):
    assert find_source(full_run).step == 4
    write_best(full_run)
    source = find_source(full_run)
    assert (source.step, source.checkpoint.name) == (2, "step_000002")
    assert source.best is not None
    assert source.best.value == 0.625
    assert find_source(full_run, "best").step == 2
    assert find_source(full_run, "latest").step == 4
    assert find_source(full_run, "4").step == find_source(full_run, "step_000004").step == 4


def test_a_checkpoint_may_be_given_itself(full_run, monkeypatch):
    write_best(full_run)
    assert find_source(full_run / "checkpoints/step_000004").step == 4
    monkeypatch.chdir(full_run / "checkpoints/step_000004")
    assert find_source(type(full_run)(".")).step == 4
    with pytest.raises(ConfigError, match="leave --step out, or give the run folder"):
        find_source(full_run / "checkpoints/step_000004", "2")


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("3", "has no checkpoint of step 3: there are 2, 4"),
        ("best", r"kept no best checkpoint .*best\.json.* or one of 2, 4"),
        ("newest", "--step newest: wanted best, latest or the number"),
        ("-1", "--step -1: wanted best"),
    ],
)
def test_a_step_that_is_not_there_is_refused_with_those_that_are(full_run, wanted, sentence):
    with pytest.raises(ConfigError, match=sentence):
        find_source(full_run, wanted)


def test_what_is_no_run_is_refused(full_run, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for path, sentence in (
        ("none", "there is no run folder"),
        ("file", "is a file: give a run folder"),
        ("empty", "it has no config.yaml"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            find_source(tmp_path / path)
    for folder in full_run.glob("checkpoints/step_*"):
        folder.rename(tmp_path / folder.name)
    with pytest.raises(ConfigError, match="has no checkpoint yet"):
        find_source(full_run)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "trainer.json"])
def test_a_damaged_checkpoint_names_the_file_and_those_that_are_whole(full_run, name, caplog):
    damage(full_run, 4, name)
    with pytest.raises(ConfigError, match=rf"damaged: {name} .* digest.*Whole are 2$"):
        find_source(full_run, "4")
    assert find_source(full_run).step == 2
    assert "exporting step 2 instead" in caplog.text
    (full_run / "checkpoints/step_000002" / name).unlink()
    with pytest.raises(ConfigError, match=r"Whole are none$"):
        find_source(full_run, "4")
    with pytest.raises(ConfigError, match=f"no checkpoint is whole: .*{name}.*{name}"):
        find_source(full_run)


def test_what_only_a_resume_reads_may_be_damaged(full_run):
    damage(full_run, 4, "trainer.safetensors")
    assert find_source(full_run).step == 4


def test_a_damaged_best_file_is_named(full_run):
    write_best(full_run, '{"step": "x"}')
    with pytest.raises(ConfigError, match=r"best\.json is damaged"):
        find_source(full_run)
    write_best(full_run, step=3)
    with pytest.raises(ConfigError, match="has no checkpoint of step 3: there are 2, 4"):
        find_source(full_run)


def test_the_config_is_that_of_the_checkpoints_own_start(full_run):
    path = full_run / "config.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.002", "learning_rate: 0.5"))
    assert find_source(full_run).config.learner.optimizer.learning_rate == 0.002
