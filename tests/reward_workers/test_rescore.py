"""Scoring again: requests on one stream, answers on another, and nothing left behind."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from protocol.config_file import load_config
from protocol.errors import ConfigError, DataError
from reward_workers.rescore import rescore

REWARD = """
import time

def judge(completions, answer):
    def one(completion, answer):
        if completion == "sleep":
            time.sleep(600)
        if completion == "raise":
            raise ValueError("raised")
        return 1.0 if completion == answer else 0.25
    return [one(*pair) for pair in zip(completions, answer)]
"""


@pytest.fixture
def config_file(tmp_path):
    (tmp_path / "mine.py").write_text(REWARD)
    path = tmp_path / "config.yaml"
    path.write_text(
        "model: {path: 'builtin:tiny'}\n"
        "data: {train: ['arithmetic:add2']}\n"
        "rewards:\n"
        f"  - {{name: '{tmp_path}/mine.py:judge', weight: 2.0, timeout_seconds: 0.5}}\n"
        "  - {name: exact_match}\n"
        "reward_worker: {processes: 1}\n"
    )
    return path


def line(number, completion, **more):
    request = {
        "id": number,
        "prompt": "2+3=",
        "completion": completion,
        "completion_tokens": len(completion),
        "finish_reason": "stop",
        "columns": {"answer": "5"},
        **more,
    }
    return json.dumps(request) + "\n"


def rescored(config_file, *lines):
    answers = io.StringIO()
    source = io.BytesIO("".join(lines).encode())
    asyncio.run(asyncio.wait_for(rescore(load_config(config_file), source, answers), 60))
    return {answer.pop("id"): answer for answer in map(json.loads, answers.getvalue().splitlines())}


def children():
    return psutil.Process().children(recursive=True)


def test_every_completion_gets_the_score_that_a_reward_worker_gives(config_file):
    lines = [line(number, text) for number, text in enumerate(["5", "4", "raise", "sleep"])]
    answers = rescored(config_file, *lines)
    judge = next(name for name in answers[0]["rewards"] if name != "exact_match")
    # 2.0 * 1.0 + 1.0 and 2.0 * 0.25 + 0.0
    assert answers[0] == {
        "reward": 3.0,
        "rewards": {judge: 1.0, "exact_match": 1.0},
        "status": "ok",
    }
    assert (answers[1]["reward"], answers[1]["rewards"][judge]) == (0.5, 0.25)
    assert (answers[2]["reward"], answers[2]["status"]) == (None, "reward_error")
    assert (answers[3]["reward"], answers[3]["status"]) == (None, "reward_timeout")
    assert children() == []


def test_equal_completions_are_each_answered(config_file):
    answers = rescored(config_file, *(line(f"again {n}", "5") for n in range(40)), "\n")
    assert len(answers) == 40
    assert {answer["reward"] for answer in answers.values()} == {3.0}


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ("{", "stdin:2: the line: Invalid JSON"),
        (line(1, "5", columns=[]), "stdin:2: columns: "),
        (line(1, "5", finish_reason="bored"), "stdin:2: finish_reason: "),
        (json.dumps({"id": 1}), "stdin:2: prompt: Field required"),
    ],
)
def test_a_line_that_is_no_request_is_refused_with_its_number(config_file, bad, sentence):
    with pytest.raises(DataError, match=sentence):
        rescored(config_file, line(0, "5"), bad)
    assert children() == []


def test_rewards_that_cannot_be_used_are_refused(config_file):
    config_file.write_text(config_file.read_text().replace("mine.py:judge", "mine.py:gone"))
    with pytest.raises(ConfigError, match="gone"):
        rescored(config_file, line(0, "5"))


def test_a_process_that_is_told_to_end_takes_its_children_with_it(config_file):
    slow = config_file.read_text().replace("timeout_seconds: 0.5", "timeout_seconds: 600")
    config_file.write_text(slow)
    with subprocess.Popen(
        [sys.executable, "-m", "reward_workers.rescore", "--config", str(config_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write((line(0, "5")).encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["reward"] == 3.0
        started = psutil.Process(process.pid).children(recursive=True)
        assert started
        process.stdin.write((line(1, "sleep")).encode())
        process.stdin.flush()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 1
        assert process.stderr is not None
        assert process.stderr.read().decode().splitlines()[-1] == "error: told to end"
        assert psutil.wait_procs(started, timeout=5)[1] == []
