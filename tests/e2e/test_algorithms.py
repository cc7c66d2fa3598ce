"""Real runs of what the quickstart does not use: a critic, fresh prompts, a quantised base."""

import shutil
from pathlib import Path
from typing import Any

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import mlx.core as mx
import pytest
from mlx_lm.utils import load, quantize_model, save

from learner.audit import audit
from protocol.model_folder import model_folder

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CONFIGS = Path(__file__).parents[2] / "configs" / "algorithms"
SMALL = ("data.heldout=[]", "generation.group_size=4", "learner.groups_per_step=8")


def assert_sound(run):
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations


def test_ppo_goes_on_with_its_critic_after_a_kill(train):
    config = CONFIGS / "ppo.yaml"
    run = train("run.max_steps=100000", "checkpoints.interval=4", *SMALL, config=config)
    run.until_step(10)
    run.process.kill()
    run.kill_all()
    resumed = train("run.max_steps=20", *SMALL, config=config, options=["--resume"])
    resumed.succeeds()
    rows = resumed.rows()
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert all(row["value_loss"] >= 0.0 and row["critic_grad_norm"] > 0.0 for row in rows)
    state: Any = mx.load(str(max(run.run_dir.glob("checkpoints/step_*")) / "trainer.safetensors"))
    assert float(mx.abs(state["critic/weight"]).max()) > 0.0
    assert state["critic_optimizer/step"].item() == 20 * 2 * 2  # steps, epochs, minibatches
    assert_sound(run)


def test_groups_of_equal_rewards_are_replaced_and_every_prompt_is_accounted_for(train):
    run = train(
        "run.max_steps=6",
        "data.no_resampling_pass_rate=1.0",
        "data.train=['arithmetic:add2?count=64']",
        *SMALL,
        config=CONFIGS / "dapo.yaml",
    )
    run.succeeds()
    last = run.rows()[-1]
    assert last["dropped/zero_advantage"] > 0
    assert last["trained"] > 0
    assert_sound(run)


def test_adapters_on_a_quantised_base_learn_under_a_kl_penalty(train, tmp_path):
    base, folder = model_folder("builtin:tiny"), tmp_path / "quantised"
    loaded: Any = load(str(base), return_config=True)
    model, tokenizer, config = loaded
    model, config = quantize_model(model, config, group_size=32, bits=8)
    save(folder, base, model, tokenizer, config, donate_model=False)
    run = train(
        "run.max_steps=12",
        "evaluation.interval=0",
        f"model.path={folder}",
        "learner.tuning=lora",
        "learner.optimizer.learning_rate=1.0e-3",
        "algorithm={name: grpo, kl: {estimator: k3, coefficient: 0.001}}",
    )
    run.succeeds(seconds=180)
    shutil.rmtree(folder)
    first, last = run.evaluations()
    assert last["accuracy"] - first["accuracy"] >= 0.2
    rows = run.rows()
    assert rows[0]["kl_ref"] == pytest.approx(0.0, abs=1e-6)  # B = 0: the adapters add nothing yet
    assert rows[-1]["kl_ref"] > 1e-4
    assert_sound(run)
