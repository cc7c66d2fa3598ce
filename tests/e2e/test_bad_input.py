"""Bad input through mlx-train: one sentence that names it, code 2, no traceback, soon."""

import socket
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

REFUSED_SECONDS = 10.0
"""About 1.5 s on a quiet machine."""


def refused(run, *words: str) -> None:
    """The run was refused in one sentence with these words, and nothing was left or made."""
    assert run.ends(REFUSED_SECONDS) == 2, run.tail()
    said = run.stderr.splitlines()
    assert said[-1].startswith("error: ")
    assert sum(line.startswith("error: ") for line in said) == 1
    assert "Traceback" not in run.stdout + run.stderr
    missing = [word for word in words if word not in said[-1]]
    assert missing == [], said[-1]
    assert run.members() == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("learner.optimiser.learning_rate=1", ["learner.optimiser", "optimizer"]),
        ("run.max_steps=many", ["run.max_steps", "integer", "'many'"]),
        ("generation.temperature=0", ["generation.temperature", "greater than or equal to 0.001"]),
        ("data.train=[nowhere/train.jsonl]", ["no", "file nowhere/train.jsonl"]),
        ("data.train=[arithmetic:mul9]", ["mul9", "add2"]),
        ("rewards=[{name: exact_mach}]", ["exact_mach", "exact_match"]),
        ("rewards=[{name: nowhere.py:f}]", ["nowhere.py"]),
        ("rewards=[{name: exact_match, colum: a}]", ["'colum'", "column"]),
        ("algorithm.name=grpoo", ["grpoo", "grpo"]),
        ("algorithm.clip_hi=0.3", ["clip_hi", "clip_high"]),
        ("evaluation.evaluators=[{name: accurate}]", ["accurate", "accuracy"]),
        ("model.path=nowhere/model", ["nowhere/model"]),
        ("model.path=builtin:huge", ["huge", "builtin:tiny"]),
        ("network.bind=0.0.0.0", ["0.0.0.0", "network.insecure"]),
    ],
)
def test_a_bad_value_is_refused(train, override: str, words: list[str]):
    run = train(override)
    refused(run, *words)
    assert not run.run_dir.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"prompt": "1+1=", "answer": "2"}\n{"promt": "2+2="}\n', [":2:", "prompt", "promt"]),
        ('{"prompt": "1+1="\n', [":1:", "JSON"]),
        ('{"prompt": 7}\n', [":1:", "prompt", "7"]),
        ("", ["no rows"]),
    ],
)
def test_a_bad_data_row_is_refused_with_its_file_and_line(
    train, tmp_path: Path, text: str, words: list[str]
):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    refused(train(f"data.train=[{path}]"), f"{path}{words[0]}" if ":" in words[0] else "", *words)


def test_a_config_file_that_is_not_there_is_refused(train):
    refused(train(config=Path("nowhere/config.yaml")), "nowhere/config.yaml")


@pytest.mark.parametrize("offset", range(5))
def test_an_occupied_port_is_named(train, port: int, offset: int):
    with socket.create_server(("127.0.0.1", port + offset)):
        refused(train(), f"port {port + offset}")


def test_a_run_folder_that_exists_is_refused_and_kept(train, tmp_path: Path):
    kept = tmp_path / "run" / "metrics.jsonl"
    kept.parent.mkdir()
    kept.write_text('{"step": 1}\n')
    refused(train(), str(kept.parent), "--resume")
    assert kept.read_text() == '{"step": 1}\n'


def test_there_must_be_something_to_resume(train):
    run = train(options=["--resume"])
    refused(run, str(run.run_dir), "resume")


def test_an_option_that_does_not_exist_is_refused(train):
    refused(train(options=["--max-steps", "3"]), "--max-steps")
