"""mlx-train as a command, with stand-ins for the roles: packages of their names in the folder."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from learner.launch.command import check_ports, role_environment
from protocol.config import NetworkSection
from protocol.config_file import load_config
from protocol.errors import ConfigError

MLX_TRAIN = [sys.executable, "-P", "-c", "from learner.launch.train import main; main()"]

LEARNER = """
import json, os, sys, time
from pathlib import Path

if "--check" in sys.argv:
    sys.exit(CHECK)
run_dir = Path(sys.argv[sys.argv.index("--run-dir") + 1])
run_dir.mkdir(parents=True, exist_ok=True)
Path("environment.json").write_text(json.dumps(dict(os.environ)))
Path("arguments.json").write_text(json.dumps(sys.argv[1:]))
Path("config.yaml").write_text(Path(os.environ["CONFIG"]).read_text())
metrics = {"time": time.time(), "step": 3, "reward/mean": 0.5}
(run_dir / "metrics.jsonl").write_text(json.dumps(metrics) + "\\n")
row = {"step": 0, "evaluator": "accuracy", "n": 600, "accuracy": 0.4}
lines = [json.dumps(row), json.dumps({**row, "step": 3, "accuracy": 0.75})]
(run_dir / "eval.jsonl").write_text("\\n".join(lines) + "\\n")
while not Path("joined").exists():
    time.sleep(0.02)
END
"""
ACTOR = "from pathlib import Path\nPath('joined').touch()\n"
REWARD_WORKER = "import sys\nsys.exit(CHECK if '--check-config' in sys.argv else 0)\n"


def free_ports() -> int:
    """Returns the first of four ports in a row that nobody has."""
    for port in range(21000, 30000, 4):
        try:
            check_ports(NetworkSection(port=port))
        except ConfigError:
            continue
        return port
    raise AssertionError("no four free ports")


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"prompt": "1+1="}\n')
    tree: dict[str, Any] = {
        "run": {"name": "trial", "max_steps": 3},
        "model": {"path": "builtin:tiny"},
        "data": {"train": ["train.jsonl"]},
        "rewards": [{"name": "exact_match"}],
        "network": {"port": free_ports()},
    }
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture
def run(config: Path) -> Run:
    """Runs mlx-train among stand-ins; `check` and `end` are what these do."""

    def run(
        *arguments: str, check: str = "0", end: str = "sys.exit(0)"
    ) -> subprocess.CompletedProcess[str]:
        stand_ins = {
            "learner": LEARNER.replace("CHECK", check).replace("END", end),
            "actors": ACTOR,
            "reward_workers": REWARD_WORKER.replace("CHECK", check),
        }
        for package, text in stand_ins.items():
            (config.parent / package).mkdir(exist_ok=True)
            (config.parent / package / "__init__.py").touch()
            (config.parent / package / "__main__.py").write_text(text)
        command = [*MLX_TRAIN, "--config", str(config), *arguments]
        return subprocess.run(
            command, cwd=config.parent, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in last


def test_a_run_ends_with_a_summary_and_code_0(run: Run, config: Path):
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    folder = config.parent / "runs" / "trial"
    assert done.stdout.splitlines()[-3:] == [
        "held-out accuracy 0.400 -> 0.750 (+0.350, n 600)",
        f"run folder {folder}",
        "no checkpoint",
    ]
    assert "step 3/3 reward 0.500" in done.stdout


def test_roles_get_what_they_need_by_environment(run: Run, config: Path):
    port = load_config(config).network.port
    earlier = config.parent / "runs" / "trial"
    earlier.mkdir(parents=True)
    (earlier / "metrics.jsonl").touch()
    assert run("--set", "run.max_steps=7", "--resume").returncode == 0
    environment = json.loads((config.parent / "environment.json").read_text())
    wanted = {
        "LEARNER": f"tcp://127.0.0.1:{port}",
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "text",
        "MLX_RL_SUPERVISED": "1",
        "PYTHON": sys.executable,
        "PYTHONUNBUFFERED": "1",
        "RESUME": "latest",
        "HONCHO_PROCESS_NAME": "learner.1",
    }
    assert wanted.items() <= environment.items()
    assert len(environment["RUN_ID"]) == 16
    assert not Path(environment["CONFIG"]).exists()  # was private, and is removed
    arguments = json.loads((config.parent / "arguments.json").read_text())
    folder, resume = str(config.parent / "runs" / "trial"), ("--resume", "latest")
    assert arguments == ["--config", environment["CONFIG"], "--run-dir", folder, *resume]
    assert load_config(config.parent / "config.yaml").run.max_steps == 7


def test_a_failed_run_closes_with_the_learners_reason(run: Run):
    done = run(end="print('error: gradient is not finite', file=sys.stderr); sys.exit(1)")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: the learner ended with code 1: gradient is not finite"
    )


def test_json_says_how_a_run_ended_on_standard_output_too(run: Run, config: Path):
    record = {"time": "t", "level": "WARNING", "logger": "a", "message": "m", "process": "p"}
    end = f"print('{json.dumps(record)}')\nprint('no record')\nsys.exit(1)"
    done = run("--log-format", "json", end=end)
    assert done.returncode == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {**record, "process": "learner.1"} in rows
    assert any((row.get("message"), row.get("level")) == ("no record", "INFO") for row in rows)
    progress, summary, error = [row for row in rows if "event" in row]
    assert (progress["event"], progress["step"], progress["reward"]) == ("progress", 3, 0.5)
    assert (summary["event"], summary["code"], summary["step"]) == ("summary", 1, 3)
    assert summary["run_dir"] == str(config.parent / "runs" / "trial")
    assert (error["event"], error["code"]) == ("error", 1)
    assert error["reason"] == "the learner ended with code 1"
    assert done.stderr.splitlines()[-1] == "error: the learner ended with code 1"


def test_json_says_what_was_refused(run: Run):
    done = run("--log-format", "json", "--set", "run.max_steps=many")
    assert done.returncode == 2
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert row["event"] == "error"
    assert "run.max_steps" in row["reason"]


def test_a_reason_cannot_drive_the_terminal(run: Run):
    done = run(end="print('error: bad \\x1b[2J thing', file=sys.stderr); sys.exit(1)")
    assert done.stderr.splitlines()[-1] == "error: the learner ended with code 1: bad thing"


def test_ctrl_c_ends_with_130(run: Run):
    # The learner's parent is honcho's wrapper, whose parent is mlx-train.
    done = run(
        end="import psutil\npsutil.Process().parent().parent().send_signal(2)\ntime.sleep(60)"
    )
    assert done.returncode == 130, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == "error: interrupted by SIGINT"


def test_a_dry_run_prints_the_resolved_config_and_starts_nothing(run: Run, config: Path):
    done = run("--dry-run", "--set", "learner.groups_per_step=5")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["learner"]["groups_per_step"] == 5
    assert not (config.parent / "runs").exists()
    assert not (config.parent / "environment.json").exists()


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_what_a_role_refuses_is_told_in_its_words(run: Run, arguments: tuple[str, ...]):
    check = "(print('error: unknown reward \"exat\"', file=sys.stderr), 2)[1]"
    assert_refused(run(*arguments, check=check), 'error: unknown reward "exat"')


def test_how_far_a_check_is_with_a_download_is_shown(run: Run):
    line = "INFO protocol.hub_model model org/name: 1.0 MB of 2.0 MB are here"
    say = f"print('a warning', {line!r}, sep='\\n', file=sys.stderr)"
    done = run("--dry-run", check=say)
    assert done.returncode == 0
    assert line in done.stderr.splitlines()
    assert "a warning" not in done.stderr


def test_a_check_that_breaks_is_no_bad_input(run: Run):
    done = run("--dry-run", check="(print('error: no memory', file=sys.stderr), 1)[1]")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("ended with code 1: no memory")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "learner.goups_per_step=1"], ["goups_per_step", "did you mean groups_per_step"]),
        (["--set", "run.max_steps=many"], ["run.max_steps", "'many'"]),
        (["--config", "absent.yaml"], ["no config file absent.yaml"]),
        (["--unknown"], ["--unknown"]),
        (["--log-format", "xml"], ["log format 'xml'", "wanted one of text, json"]),
    ],
    ids=["unknown key", "wrong type", "no config", "unknown option", "unknown format"],
)
def test_bad_input_is_one_sentence_and_code_2(run: Run, arguments: list[str], words: list[str]):
    assert_refused(run(*arguments), *words)


def claim_a_huge_model(folder: Path) -> Path:
    """A folder that claims 70 billion numbers, without one of them."""
    folder.mkdir()
    sizes = {
        "hidden_size": 8192,
        "num_hidden_layers": 1,
        "intermediate_size": 28672,
        "num_attention_heads": 64,
        "vocab_size": 128256,
    }
    (folder / "config.json").write_text(json.dumps(sizes))
    shape = [70_000_000, 1000]
    tensor = {"dtype": "BF16", "shape": shape, "data_offsets": [0, 140_000_000_000]}
    header = json.dumps({"model.layers.0.mlp.up_proj.weight": tensor}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def test_a_run_that_cannot_fit_is_refused_before_anything_starts(run: Run, config: Path):
    model = f"model.path={claim_a_huge_model(config.parent / 'huge')}"
    assert_refused(run("--set", model), "this run needs about", "--ignore-plan")
    assert not (config.parent / "environment.json").exists()
    assert_refused(run("--set", model, "--dry-run"), "this run needs about")


def test_a_run_that_cannot_fit_starts_if_told_so(run: Run, config: Path):
    model = f"model.path={claim_a_huge_model(config.parent / 'huge')}"
    done = run("--set", model, "--ignore-plan")
    assert done.returncode == 0, done.stderr
    assert "this run needs about" in done.stderr


def test_a_model_whose_shape_cannot_be_read_is_no_reason_to_refuse(run: Run, config: Path):
    folder = claim_a_huge_model(config.parent / "huge")
    (folder / "model.safetensors").write_bytes(b"no header")
    assert run("--set", f"model.path={folder}").returncode == 0


@pytest.mark.parametrize("number", ["0", "many"])
def test_an_expected_length_is_a_number_above_0(run: Run, number: str):
    assert_refused(run("--plan", "--plan-completion-tokens", number), "--plan-completion-tokens")


@pytest.mark.parametrize("offset", [0, 3])
def test_an_occupied_port_is_named(offset: int):
    first = free_ports()
    with socket.create_server(("127.0.0.1", first + offset)) as taken:
        port = taken.getsockname()[1]
        refusal = rf"port {port} on 127.0.0.1 cannot be used .*network.port=... \(the first of 4"
        with pytest.raises(ConfigError, match=refusal):
            check_ports(NetworkSection(port=first))
    check_ports(NetworkSection(port=first))


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("127.0.0.1", "tcp://127.0.0.1:4000"),
        ("0.0.0.0", "tcp://127.0.0.1:4000"),
        ("::1", "tcp://[::1]:4000"),
        ("10.0.0.7", "tcp://10.0.0.7:4000"),
    ],
)
def test_local_peers_dial_an_address_that_can_be_dialled(bind: str, address: str, tmp_path: Path):
    network = NetworkSection(bind=bind, port=4000, insecure=True)
    assert role_environment(network, tmp_path, tmp_path, "INFO")["LEARNER"] == address


def test_resume_is_not_inherited_from_the_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(os.environ, "RESUME", "latest")
    assert "RESUME" not in role_environment(NetworkSection(), tmp_path, tmp_path, "INFO")
