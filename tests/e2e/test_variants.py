"""The quickstart with LoRA, and with other bounds on staleness."""

import subprocess
import sys

import pytest

from learner.audit import audit
from protocol.model_folder import model_folder

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LOAD = """
import sys
import mlx.core as mx
import mlx_lm
from mlx.utils import tree_flatten

base, adapters = sys.argv[1:]
prompt = mx.array([[3, 4, 5]])
plain, _ = mlx_lm.load(base)
adapted, _ = mlx_lm.load(base, adapter_path=adapters)
num_adapters = sum("lora" in name for name, _ in tree_flatten(adapted.parameters()))
print(num_adapters, mx.abs(plain(prompt) - adapted(prompt)).max().item())
"""


def test_lora_learns_and_mlx_lm_loads_its_adapters(train):
    run = train(
        "run.max_steps=12",
        "evaluation.interval=0",
        "learner.tuning=lora",
        "learner.optimizer.learning_rate=1.0e-3",
    )
    run.succeeds(seconds=180)
    first, last = run.evaluations()
    assert last["accuracy"] - first["accuracy"] >= 0.2

    checkpoint = run.run_dir / "checkpoints" / "step_000012"
    assert (checkpoint / "adapters.safetensors").is_file()
    assert not (checkpoint / "model.safetensors").exists()
    base = model_folder("builtin:tiny")
    command = [sys.executable, "-c", LOAD, str(base), str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    num_adapters, difference = done.stdout.split()
    assert int(num_adapters) > 0
    assert float(difference) > 0.01


@pytest.mark.parametrize("bound", [0, 4])
def test_staleness_keeps_to_its_bound_and_uses_it(train, bound: int):
    run = train("run.max_steps=12", "data.heldout=[]", f"learner.max_off_policy_steps={bound}")
    run.succeeds()
    oldest = [row["staleness/max"] for row in run.rows()]
    assert len(oldest) == 12
    assert max(oldest) <= bound
    assert bound == 0 or max(oldest) > 0
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations
