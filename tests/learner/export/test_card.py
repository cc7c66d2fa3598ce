import json

import pytest
import yaml
from huggingface_hub import ModelCard

from learner.export.source import find_source


def rows_of(text, heading):
    """Cells of the first table under a heading, the heads first."""
    part = text.split(f"\n## {heading}\n", 1)[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [cells[0], *cells[2:]]


def jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_cards_numbers_are_those_of_the_runs_files(full_run, exported):
    best = {"step": 2, "evaluator": "accuracy", "figure": "accuracy", "value": 0.625}
    (full_run / "checkpoints/best.json").write_text(json.dumps(best))
    text = (exported(full_run, "--step", "latest") / "README.md").read_text()
    heads, *rows = rows_of(text, "Evaluation")
    assert heads == [
        *("evaluator", "figure", "step 0 (before training)", "step 2 (best)"),
        "step 4 (exported, last)",
    ]
    evaluations = jsonl(full_run / "eval.jsonl")
    for name in ("n", "accuracy"):
        wanted = [str(row[name]) for row in evaluations]
        assert ["accuracy", name, *wanted] in rows
    heads, *rows = rows_of(text, "Reward")
    assert heads == ["step", "reward/mean", "loss"]
    assert [[float(cell) for cell in row] for row in rows] == [
        [row["step"], row["reward/mean"], row["loss"]] for row in jsonl(full_run / "metrics.jsonl")
    ]


def test_the_config_in_the_card_is_the_runs(full_run, exported):
    text = (exported(full_run) / "README.md").read_text()
    found = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    config = find_source(full_run).config.model_dump(mode="json")
    for section in ("run", "model", "data", "generation", "rewards", "algorithm", "learner"):
        assert found[section] == config[section]
    trained = dict(row[:2] for row in rows_of(text, "Training"))
    assert trained["trained on"] == "arithmetic:add2?count=8"
    assert trained["learning rate"] == "0.002"
    versions = rows_of(text, "Versions")
    assert versions[2][:2] == ["mlx", "0.1.2"]


@pytest.mark.parametrize(
    ("path", "options", "relation", "tags"),
    [
        ("org/model", [], "finetune", ["mlx", "mlx-rl-trainer", "reinforcement-learning", "grpo"]),
        ("org/model", ["--quantize", "8"], "quantized", None),
        ("builtin:tiny", [], None, None),
        ("/home/ann/model", [], None, None),
    ],
)
def test_the_hub_reads_the_front_matter(full_run, exported, path, options, relation, tags):
    for file in (full_run / "config.yaml", *full_run.glob("configs/*.yaml")):
        file.write_text(file.read_text().replace("builtin:tiny", path))
    data = ModelCard.load(exported(full_run, *options) / "README.md").data.to_dict()
    assert data["library_name"] == "mlx"
    assert data["pipeline_tag"] == "text-generation"
    assert data.get("base_model") == (path if relation else None)
    assert data.get("base_model_relation") == relation
    assert tags is None or data["tags"] == tags


def test_the_card_of_adapters_names_base_and_commands(lora_run, exported):
    text = (exported(lora_run) / "README.md").read_text()
    assert "LoRA adapters (rank 8, bfloat16) for builtin:tiny" in text
    model = "--model protocol/builtin/tiny --adapter-path exported"
    for command in ("generate", "server", "fuse"):
        assert f"mlx_lm.{command} {model}" in text
    fused = (exported(lora_run, "--fuse", "--force") / "README.md").read_text()
    assert "builtin:tiny with its LoRA adapters fused, bfloat16" in fused
    assert "--adapter-path" not in fused


def test_no_file_of_an_export_names_a_folder_of_this_machine(quantised_run, exported, tmp_path):
    out = exported(quantised_run)
    texts = {path.name: path.read_bytes() for path in out.iterdir()}
    assert not [name for name, text in texts.items() if str(tmp_path).encode() in text]
    assert not [name for name, text in texts.items() if b"of-a-person" in text]
    assert b"--model path/to/tiny-4bit" in texts["README.md"]
    assert json.loads(texts["adapter_config.json"])["model"] == "tiny-4bit"


def test_a_run_without_records_has_a_card_that_says_so(full_run, exported):
    for name in ("metrics.jsonl", "eval.jsonl"):
        (full_run / name).unlink()
    out = exported(full_run)
    text = (out / "README.md").read_text()
    assert "The run was not evaluated." in text
    assert "no record of its rewards" in text
    assert "curve.svg" not in text
    assert not (out / "curve.svg").exists()


def test_what_a_config_says_cannot_break_a_table(full_run, exported):
    for file in (full_run / "config.yaml", *full_run.glob("configs/*.yaml")):
        file.write_text(file.read_text().replace("name: exact_match", "name: 'a|b<i>'"))
    trained = dict(rows_of((exported(full_run) / "README.md").read_text(), "Training"))
    assert trained["rewards"] == "a&#124;b&#60;i> (weight 1)"
