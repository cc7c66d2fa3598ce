import os
import subprocess
import sys

import psutil
import pytest

from protocol.errors import ConfigError, SandboxUnavailable
from reward_workers.__main__ import main


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: {path: 'builtin:tiny'}\n"
        "data: {train: ['arithmetic:add2']}\n"
        "rewards: [{name: numeric_match, tolerance: 0.5}]\n"
    )
    return str(path)


def test_a_good_config_is_checked_without_a_learner(config, capsys):
    assert main(["--check-config", config]) == 0
    assert capsys.readouterr().out == "rewards: numeric_match\n"


@pytest.mark.parametrize(
    ("override", "error", "sentence"),
    [
        ("rewards=[{name: gone}]", ConfigError, "unknown reward 'gone'"),
        ("rewards=[{name: exact_match, tolerance: 1}]", ConfigError, "no parameter 'tolerance'"),
        ("rewards=[{name: gone/mine.py:f}]", ConfigError, r"no file .*gone/mine\.py"),
    ],
)
def test_a_bad_reward_is_refused_with_its_sentence(config, override, error, sentence):
    with pytest.raises(error, match=sentence):
        main(["--check-config", config, "--set", override])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no learner address"),
        (["--learner", "somewhere"], "wanted tcp://HOST:PORT"),
        (["--learner", "tcp://localhost:19550", "--slots", "0"], "wanted 1 or more"),
    ],
)
def test_bad_arguments_are_refused_before_anything_starts(arguments, sentence, monkeypatch):
    monkeypatch.delenv("LEARNER", raising=False)
    with pytest.raises(ConfigError, match=sentence):
        main(arguments)


@pytest.mark.parametrize(("num_workers", "refused"), [(1, True), (0, False)])
def test_a_sandbox_that_cannot_be_had_is_told_before_a_run_unless_no_worker_is_to_run_here(
    config, tmp_path, monkeypatch, num_workers, refused
):
    path = tmp_path / "mine.py"
    path.write_text("async def f(completions, *, sandbox): return [0.0]\n")
    overrides = [f"rewards=[{{name: '{path}:f'}}]", f"roles.reward_worker={num_workers}"]
    arguments = ["--check-config", config, *(x for o in overrides for x in ("--set", o))]

    def unavailable(_config: object) -> object:
        raise SandboxUnavailable("layer bwrap is missing")

    monkeypatch.setattr("reward_workers.scoring.make_pool", unavailable)
    if refused:
        with pytest.raises(SandboxUnavailable, match="bwrap"):
            main(arguments)
    else:
        assert main(arguments) == 0


def test_a_check_that_mlx_train_started_dies_with_it_before_it_reads(tmp_path):
    fifo, program = (
        tmp_path / "config.fifo",
        "import subprocess, sys; subprocess.call(sys.argv[1:])",
    )
    os.mkfifo(fifo)
    check = [sys.executable, "-m", "reward_workers", "--check-config", str(fifo)]
    parent = subprocess.Popen(
        [sys.executable, "-c", program, *check], env={**os.environ, "MLX_RL_SUPERVISED": "1"}
    )
    with parent, fifo.open("w"):  # opens when the check does, which then waits for what is in it
        [child] = psutil.Process(parent.pid).children()
        parent.kill()
        child.wait(timeout=30.0)
