import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import mlx.core as mx
import pytest

from learner.checkpoints.arrays import load_arrays
from learner.export.command import export
from protocol.errors import ConfigError
from protocol.model_folder import BUILTIN

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-c", "from learner.export.command import main; main()"]
QUESTION = "37+48="


def run(*command):
    return subprocess.run(
        [*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def text_of(tokens, tokenizer):
    return tokenizer.decode([token for token in tokens if token not in tokenizer.eos_token_ids])


@pytest.fixture
def wanted(greedy):
    """The learner's greedy text of the first question."""
    from mlx_lm.utils import load

    tokenizer = load(str(BUILTIN / "tiny"))[1]
    return lambda folder: text_of(greedy.of_learner(folder, 4)[0], tokenizer)


def test_mlx_lm_generate_says_what_the_learner_would(full_run, exported, wanted, mlx_lm_command):
    out = exported(full_run, "--dtype", "float32")
    done = run(*mlx_lm_command, "generate", "--model", out, "--prompt", QUESTION, "-m", "8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("==========\n")[1].strip() == wanted(full_run)


def test_mlx_lm_server_says_what_the_learner_would(
    lora_run, exported, wanted, mlx_lm_command, free_port
):
    out = exported(lora_run, "--fuse", "--dtype", "float32")
    server = [*mlx_lm_command, "server", "--model", str(out), "--port", str(free_port)]
    process = subprocess.Popen(server, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert any("Starting httpd" in line for line in process.stderr)
        body = {
            "messages": [{"role": "user", "content": QUESTION}],
            "max_tokens": 8,
            "temperature": 0.0,
        }
        request = urllib.request.Request(
            f"http://127.0.0.1:{free_port}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            [choice] = json.load(answer)["choices"]
    finally:
        process.kill()
        process.communicate()
    assert choice["message"]["content"] == wanted(lora_run)


def test_mlx_lm_fuse_makes_the_same_numbers_as_fuse(lora_run, exported, mlx_lm_command, tmp_path):
    base = ["--model", BUILTIN / "tiny", "--adapter-path", exported(lora_run)]
    done = run(*mlx_lm_command, "fuse", *base, "--save-path", tmp_path / "theirs")
    assert done.returncode == 0, done.stderr
    assert export([str(lora_run), "--fuse", "--out", str(tmp_path / "ours")]) == 0
    theirs, ours, before = (
        load_arrays(folder / "model.safetensors")
        for folder in (tmp_path / "theirs", tmp_path / "ours", BUILTIN / "tiny")
    )
    assert theirs.keys() == ours.keys()
    assert all(mx.array_equal(theirs[name], ours[name]) for name in ours)
    changed = [name for name in ours if not mx.array_equal(ours[name], before[name])]
    assert len(changed) == 14  # seven matrices in each of two layers


def test_the_command_says_which_step_it_took_and_how_to_use_it(full_run):
    done = run(*COMMAND, full_run)
    assert (done.returncode, done.stderr) == (0, "")
    out = full_run / "export/step_000004"
    first, *others = done.stdout.splitlines()
    assert first == f"exported step 4 (the newest) of {full_run} to {out}"
    assert re.findall(r"mlx_lm\.(\w+) --model (\S+)", "\n".join(others)) == [
        (name, str(out)) for name in ("generate", "server", "chat")
    ]


def test_bad_input_ends_with_2_and_a_sentence_and_leaves_nothing(full_run, lora_run, tmp_path):
    out = tmp_path / "out"
    for arguments, sentence in (
        ([tmp_path / "none"], "there is no run folder"),
        ([full_run, "--fuse"], "nothing to fuse"),
        ([full_run, "--step", "3"], "there are 2, 4"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            export([*map(str, arguments), "--out", str(out)])
    done = run(*COMMAND, lora_run, "--quantize", "4", "--out", out)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --quantize is for a model")
    assert done.stderr.count("\n") == 1
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_leave_to_write_is_told(full_run, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    done = run(*COMMAND, full_run, "--out", tmp_path / "closed" / "out")
    assert done.returncode == 2
    assert "Permission denied" in done.stderr
