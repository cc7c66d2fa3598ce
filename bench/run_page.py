"""How the run page's server bears a long run: 100,000 rollouts of about 100 tokens each.

    python bench/run_page.py                          # makes the run, measures, removes it
    python bench/run_page.py --run-dir /tmp/long      # keeps the run and uses it again
    python bench/run_page.py --steps 10000 --rollouts-per-step 10

A run folder is written as a learner writes it, `mlx-view` serves it in a process of its own, and
every figure is taken over HTTP: milliseconds, requests that were needed, bytes of the answers. The
first pass comes with nothing in the server's memory, the second with what the first left there.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20
GROUP_SIZE = 8
RARE = "Schrödinger's cat"
PROSE = (
    "the answer is therefore we know that each number of them sum total and so on let us first "
    "compute multiply divide by two three hundred apples left after she gave half to her friend"
)
WORDS = PROSE.split()
KEYS = [f"reward/function_{n}/mean" for n in range(30)] + [f"idle/{n}" for n in range(20)]


class Figure(NamedTuple):
    """What one thing took."""

    seconds: float
    num_requests: int
    num_bytes: int
    slowest: float


def make_run(folder: Path, num_steps: int, per_step: int) -> None:
    """Write a finished run; one rollout, in the first step, holds RARE."""
    draw = random.Random(0)
    (folder / "rollouts").mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"run: {{name: long, max_steps: {num_steps}}}\nmodel: {{path: 'builtin:tiny'}}\n"
    )
    with (folder / "metrics.jsonl").open("w") as metrics:
        for step in range(1, num_steps + 1):
            rows = [rollout(draw, step, n) for n in range(per_step)]
            if step == 1:
                rows[-1]["completion"] += f" like {RARE}."
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / "rollouts" / f"step_{step:06d}.jsonl").write_text(text)
            metrics.write(json.dumps(metrics_row(draw, step)) + "\n")
    (folder / "summary.json").write_text("{}\n")


def rollout(draw: random.Random, step: int, number: int) -> dict[str, Any]:
    """One rollout of 50 to 150 tokens."""
    num_tokens = draw.randint(50, 150)
    group = step * 1000 + number // GROUP_SIZE
    behaviour = [-draw.expovariate(2.0) for _ in range(num_tokens)]
    reward = float(draw.random() < 0.5)
    return {
        "group": group,
        "prompt_id": f"data/train:{group}",
        "sample": number % GROUP_SIZE,
        "attempt": 1,
        "actor": "actor-host-1234-abcd",
        "prompt": " ".join(draw.choices(WORDS, k=40)),
        "completion": " ".join(draw.choices(WORDS, k=num_tokens * 3 // 4)) + '\n"done"',
        "token_ids": [draw.randrange(49152) for _ in range(num_tokens)],
        "behaviour_logprobs": behaviour,
        "logprobs": [value + draw.gauss(0.0, 0.01) for value in behaviour],
        "rewards": {"exact_match": reward},
        "reward": reward,
        "advantage": draw.gauss(0.0, 1.0),
        "policy_versions": [[step - 1, num_tokens]],
        "finish_reason": draw.choice(["stop", "length"]),
        "status": "ok" if draw.random() < 0.99 else "reward_failed",
    }


def metrics_row(draw: random.Random, step: int) -> dict[str, Any]:
    """One step's figures."""
    figures = {key: draw.random() for key in KEYS}
    return {"step": step, "policy_version": step, "time": 1.8e9 + step, "loss": 0.1, **figures}


def ask(url: str, name: str, **parameters: object) -> tuple[Any, float, int]:
    """An answer, the seconds it took, and its bytes."""
    query = urllib.parse.urlencode(parameters)
    began = time.perf_counter()
    with urllib.request.urlopen(f"{url}api/{name}?{query}", timeout=60) as answer:
        body = answer.read()
    return json.loads(body), time.perf_counter() - began, len(body)


def pages(url: str, **parameters: object) -> tuple[list[Any], Figure]:
    """The rows of all pages until the end, or until one row is found."""
    rows: list[Any] = []
    seconds, sizes = [], []
    before: dict[str, object] = {}
    while True:
        page, took, size = ask(url, "rollouts", **parameters, **before)
        rows += page["rows"]
        seconds.append(took)
        sizes.append(size)
        if page["next"] is None:
            return rows, Figure(sum(seconds), len(seconds), sum(sizes), max(seconds))
        before = {"before": page["next"]}


def measure(url: str, num_steps: int) -> Iterator[tuple[str, Figure]]:
    """Every figure of one pass."""

    def once(name: str, **parameters: object) -> Figure:
        _, seconds, size = ask(url, name, **parameters)
        return Figure(seconds, 1, size, seconds)

    yield "/api/run", once("run")
    yield "/api/series", once("series")
    yield "/api/series after the last step", once("series", after=num_steps)
    yield "first page of rollouts", once("rollouts")
    yield "first page of failed rewards", once("rollouts", status="reward_failed")
    yield "/api/rollout of the middle", once("rollout", step=num_steps // 2, line=5)
    rows, figure = pages(url, text=RARE.upper())
    assert [row["step"] for row in rows] == [1]
    yield "a rare text, to the end", figure
    rows, figure = pages(url, text="é")
    assert not rows
    yield "a text without plain letters, to the end", figure
    rows, figure = pages(url, min_reward=2.0)
    assert not rows
    yield "a reward that nobody has, to the end", figure


def serve(run_dir: Path, num_steps: int) -> None:
    """Serve the run and print the figures of two passes."""
    command = [sys.executable, "-c", "from learner.run_page.view import main; main()"]
    with subprocess.Popen(
        [*command, str(run_dir), "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+/", process.stdout.readline())
        assert found is not None
        memory = psutil.Process(process.pid)
        print(f"{'':44} {'seconds':>8} {'requests':>9} {'slowest':>8} {'KiB':>8}")
        for number in (1, 2):
            print(f"pass {number}; server holds {memory.memory_info().rss / MIB:.0f} MiB")
            for name, figure in measure(found[0], num_steps):
                print(
                    f"  {name:42} {figure.seconds:8.3f} {figure.num_requests:9d} "
                    f"{figure.slowest:8.3f} {figure.num_bytes / 1024:8.0f}"
                )
        print(f"at the end the server holds {memory.memory_info().rss / MIB:.0f} MiB")
        page, _, _ = ask(found[0], "rollouts", limit=1)
        print(f"{page['num_rollouts']} rollouts, counted: {page['is_counted']}")
        process.terminate()


def main() -> None:
    """Make a run where there is none, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rollouts-per-step", type=int, default=250)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="run-page-") as scratch:
        run_dir = given.run_dir or Path(scratch, "run")
        if not run_dir.exists():
            make_run(run_dir, given.steps, given.rollouts_per_step)
        num_bytes = sum(path.stat().st_size for path in run_dir.glob("rollouts/*"))
        print(f"{run_dir}: {num_bytes / MIB:.0f} MiB of rollouts")
        serve(run_dir, given.steps)


if __name__ == "__main__":
    main()
