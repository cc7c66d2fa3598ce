"""Run folders that the trainer itself filled: all weights, and LoRA adapters."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_sampler
from mlx_lm.utils import load_model, quantize_model, save_config, save_model

from learner.algorithm import make_algorithm
from learner.checkpoints.position import Position
from learner.checkpoints.restore import restore_checkpoint
from learner.checkpoints.writer import CheckpointWriter
from learner.export.command import export
from learner.ledger.snapshot import Snapshot
from learner.run_folder import RunFolder
from learner.step import Trainer
from protocol.config_file import load_config
from protocol.model_folder import BUILTIN
from protocol.policy import load_policy, logits

STEPS = (2, 4)
QUESTIONS = ("37+48=", "99+1=", "12+34=")
MAX_TOKENS = 8


def make_run(path, tuning, make_config, make_sample, **sections):
    """Train four steps; checkpoints after the second and the fourth, which are evaluated."""
    rate = {"full": 0.002, "lora": 0.01}[tuning]
    section = {"tuning": tuning, "optimizer": {"learning_rate": rate}}
    config = make_config(
        learner=section,
        run={"name": f"made-{tuning}", "max_steps": STEPS[-1]},
        generation={"max_completion_tokens": MAX_TOKENS},
        **sections,
    )
    folder = RunFolder(path)
    folder.create(config, resume=False)
    folder.keep_config(config, 1)
    trainer = Trainer(load_policy(config), make_algorithm(config.algorithm), config)
    fingerprint = json.dumps({"mlx": "0.1.2", "chip": "of a person"})
    writer = CheckpointWriter(
        folder.checkpoints, config, {"run_epoch": "1", "fingerprint": fingerprint}
    )
    folder.append_evaluations([evaluation(0)])
    for step in range(1, STEPS[-1] + 1):
        samples = [
            make_sample((7, 8, 16, 9, 20), (10 + step, 11, 5), reward=1.0),
            make_sample((7, 8, 16, 9, 20), (12, 5), reward=0.0, sample=1),
        ]
        assert not trainer.step(samples, step - 1, step - 1).skipped
        folder.append_metrics({"step": step, "reward/mean": step / 8, "loss": -step / 16})
        if step in STEPS:
            writer.save(Position(step, step, Snapshot()), trainer.policy, trainer.parameters)
            writer.wait()
            folder.append_evaluations([evaluation(step)])
    folder.release()
    return path


def evaluation(step):
    return {
        "step": step,
        "policy_version": step,
        "evaluator": "accuracy",
        "n": 32,
        "accuracy": (3 + step) / 8,
        "time": 1.0,
    }


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch):
    mx.disable_compile()
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")  # in mlx-lm's own commands too
    yield
    mx.enable_compile()


@pytest.fixture(scope="session")
def recorded(make_config, make_sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    return {
        tuning: make_run(folder / tuning, tuning, make_config, make_sample)
        for tuning in ("full", "lora")
    }


@pytest.fixture
def full_run(recorded, tmp_path):
    """A copy of the run that tuned all weights."""
    return shutil.copytree(recorded["full"], tmp_path / "full")


@pytest.fixture
def lora_run(recorded, tmp_path):
    """A copy of the run that tuned adapters."""
    return shutil.copytree(recorded["lora"], tmp_path / "lora")


@pytest.fixture
def runs(full_run, lora_run):
    return {"full": full_run, "lora": lora_run}


@pytest.fixture
def exported(tmp_path):
    """Exports a run, and returns the folder."""

    def made(run, *options):
        out = tmp_path / "exported"
        assert export([str(run), "--out", str(out), *map(str, options)]) == 0
        return out

    return made


def prompt_ids(tokenizer, question):
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True
    )


def learners_greedy(run: Path, step: int) -> list[list[int]]:
    """Tokens that the learner's own policy, restored from a checkpoint, thinks likeliest."""
    config = load_config(run / "config.yaml")
    policy = load_policy(config)
    trainer = Trainer(policy, make_algorithm(config.algorithm), config)
    assert restore_checkpoint(run / "checkpoints", trainer.parameters, config, step) is not None
    completions = []
    for question in QUESTIONS:
        tokens, completion = list(prompt_ids(policy.tokenizer, question)), []
        while len(completion) < MAX_TOKENS and not {*completion} & policy.stop_ids():
            likeliest = int(logits(policy.model, mx.array([tokens + completion]))[0, -1].argmax())
            completion.append(likeliest)
        completions.append(completion)
    return completions


def exports_greedy(model, tokenizer) -> list[list[int]]:
    """The same of a model that mlx-lm loaded, by its own decoding."""
    completions = []
    for question in QUESTIONS:
        prompt, completion = mx.array(prompt_ids(tokenizer, question)), []
        steps = generate_step(prompt, model, max_tokens=MAX_TOKENS, sampler=make_sampler(temp=0.0))
        for token, _ in steps:
            completion.append(int(token))
            if int(token) in tokenizer.eos_token_ids:
                break
        completions.append(completion)
    return completions


@pytest.fixture
def quantised_run(make_config, make_sample, tmp_path):
    """A run that tuned adapters of a 4-bit copy of the tiny policy, at a private place."""
    model, config = load_model(BUILTIN / "tiny")
    base = shutil.copytree(BUILTIN / "tiny", tmp_path / "of-a-person" / "tiny-4bit")
    model, config = quantize_model(model, config, 64, 4)
    save_model(base, model)
    save_config(config, base / "config.json")
    path = {"path": str(base)}
    return make_run(tmp_path / "quantised", "lora", make_config, make_sample, model=path)


@pytest.fixture
def greedy():
    return SimpleNamespace(of_learner=learners_greedy, of_export=exports_greedy)


@pytest.fixture
def mlx_lm_command():
    """mlx-lm's own command, as a process of its own."""
    return [sys.executable, "-m", "mlx_lm"]
