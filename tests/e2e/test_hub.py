"""A real run of a quantised model that comes from a stand-in for the Hub."""

from pathlib import Path
from typing import Any

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import pytest
from mlx_lm.utils import load, quantize_model, save

from learner.audit import audit
from protocol.model_folder import BUILTIN
from tests.hub_server import COMMIT, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

REPO = "test-org/tiny-4bit"
REWARD = """
def parts(completions, thoughts, raw_completions, answer):
    for reply, thought, raw in zip(completions, thoughts, raw_completions, strict=True):
        assert thought + reply == raw
        assert "1" not in reply
    return [float(len(thought)) for thought in thoughts]
"""
SETTINGS = (
    f"model.path={REPO}",
    "model.stop_tokens=['<|user|>']",
    "model.think_tags=['2','1']",
    "learner.tuning=lora",
    "run.max_steps=2",
    "data.heldout=[]",
    "evaluation.before_training=false",
    "generation.group_size=4",
    "learner.groups_per_step=4",
    "learner.optimizer.learning_rate=1.0e-3",
)


@pytest.fixture
def four_bits(tmp_path: Path) -> Path:
    folder = tmp_path / "quantised"
    loaded: Any = load(str(BUILTIN / "tiny"), return_config=True)
    model, tokenizer, config = loaded
    model, config = quantize_model(model, config, group_size=32, bits=4)
    save(folder, BUILTIN / "tiny", model, tokenizer, config, donate_model=False)
    return folder


def test_it_is_fetched_once_and_trained_and_then_needs_no_hub(
    train, four_bits, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "parts.py").write_text(REWARD)
    settings = (*SETTINGS, f"rewards=[{{name: '{tmp_path / 'parts.py'}:parts'}}]")
    with serving() as hub:
        hub.add(REPO, four_bits)
        hub.cut_after = 100_000
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        run = train(*settings)
        run.succeeds()
        size = (four_bits / "model.safetensors").stat().st_size
        assert hub.sent == {"model.safetensors": size}  # by the check; four roles had it from there
        weights = f"GET /{REPO}/resolve/{COMMIT}/model.safetensors"
        asked = [request for request in hub.requests if f"{request} ".startswith(f"{weights} ")]
        assert asked == [weights, f"{weights} bytes=100000-"]
    assert f"model {REPO}: 0." in run.stderr  # how much there is to fetch
    assert "trying again" in run.stderr
    for row in run.rollouts():  # a thought goes up to the last 1, but for a 2 after that
        before, closing, after = row["completion"].rpartition("1")
        thought = row["completion"] if "2" in after else before + closing
        assert row["rewards"] == {"parts": len(thought)}
    assert any(row["reward"] for row in run.rollouts())
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    train(*settings, options=["--resume", "--dry-run"]).succeeds()
