"""What it costs to see a run: CPU seconds per trained token, with everything on and with nothing.

On: a real Prometheus with our rules scrapes learner and peers every 2 s, the run page is polled as
an open browser does, and W&B (offline) and TensorBoard are reported to. Off: no HTTP port and no
tracker. Each pair runs one after the other, in turns of order. Counted is the user and system time
of mlx-train and all that it starts (W&B's own process too), from --from-step to --to-step; not that
of Prometheus, whose machine may be another. The cost is by step and by second, so that the built-in
tiny policy is the hardest case: eight steps a second.

    .venv/bin/python bench/observation_cost.py                 # 10 pairs, about 8 minutes
    .venv/bin/python bench/observation_cost.py --config configs/smollm2_arithmetic.yaml \
        --set generation.group_size=4 --set learner.groups_per_step=2 --from-step 1 --to-step 6
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
MLX_TRAIN = Path(sys.executable).with_name("mlx-train")
PORT = 23550
PAGE_SECONDS = 2.0
POLL_SECONDS = 0.05


def main() -> None:
    """Run the pairs and print each, then the median ratio."""
    options = _options()
    ratios: list[float] = []
    with tempfile.TemporaryDirectory(prefix="observation-cost-") as folder:
        for number in range(options.pairs):
            costs: dict[bool, float] = {}
            for is_on in (True, False) if number % 2 == 0 else (False, True):
                run_dir = Path(folder, f"{number}-{is_on}")
                costs[is_on] = _cost(run_dir, is_on, options)
                shutil.rmtree(run_dir)
            ratios.append(costs[True] / costs[False])
            print(
                f"pair {number + 1}: on {1e6 * costs[True]:.1f}, off {1e6 * costs[False]:.1f} "
                f"CPU us a token, ratio {ratios[-1]:.4f}",
                flush=True,
            )
    print(
        f"median {statistics.median(ratios):.4f} of {len(ratios)} pairs "
        f"({min(ratios):.4f} to {max(ratios):.4f})"
    )


def _cost(run_dir: Path, is_on: bool, options: argparse.Namespace) -> float:
    """CPU seconds per trained token of one run."""
    sets = {
        "run.max_steps": options.to_step + 50,
        "evaluation.interval": 0,
        "evaluation.before_training": "false",
        "checkpoints.interval": 0,
        "network.port": PORT,
        "network.http_port": PORT + 4 if is_on else 0,
    }
    if is_on and not options.without_trackers:
        sets["report_to"] = '["tensorboard", {"name": "wandb", "mode": "offline"}]'
    command = [str(MLX_TRAIN), "--config", options.config, "--run-dir", str(run_dir)]
    command += [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    command += [part for value in options.set for part in ("--set", value)]
    with _started(command) as run, contextlib.ExitStack() as watching:
        if is_on:
            watching.enter_context(_prometheus(run_dir.with_suffix(".prometheus")))
            watching.enter_context(_open_page())
        _wait_for_step(run, run_dir, options.from_step)
        before, first = _cpu_seconds(run), len(_rows(run_dir))
        _wait_for_step(run, run_dir, options.to_step)
        after, last = _cpu_seconds(run), len(_rows(run_dir))
        rows = _rows(run_dir)[first:last]
    tokens = sum(row["tokens_per_second"] * row["seconds/step"] for row in rows)
    return (after - before) / tokens


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[psutil.Popen]:
    with tempfile.TemporaryFile() as output:
        run = psutil.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield run
        except Exception:
            output.seek(0)
            sys.stderr.write(output.read().decode(errors="replace"))
            raise
        finally:
            run.terminate()
            run.wait(30)


def _cpu_seconds(run: psutil.Popen) -> float:
    """Of a process and all below it; what has ended below them is in their children's time."""
    total = 0.0
    for process in (run, *run.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _wait_for_step(run: psutil.Popen, run_dir: Path, step: int) -> None:
    while len(_rows(run_dir)) < step:
        if run.poll() is not None:
            raise RuntimeError(f"the run ended with code {run.returncode}")
        time.sleep(POLL_SECONDS)


def _rows(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


@contextlib.contextmanager
def _prometheus(folder: Path) -> Iterator[None]:
    """Debian's or Homebrew's, with our configuration at the bench's ports."""
    shutil.copytree(ROOT / "configs" / "prometheus", folder)
    config = folder / "prometheus.yml"
    config.write_text(config.read_text().replace(":19560", f":{PORT + 4}"))
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    process = subprocess.Popen(
        [*command, f"--web.listen-address=127.0.0.1:{PORT + 5}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "GOMAXPROCS": "1"},
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


@contextlib.contextmanager
def _open_page() -> Iterator[None]:
    """Ask for what an open run page asks for."""
    closed = threading.Event()

    def poll() -> None:
        after = ""
        while not closed.wait(PAGE_SECONDS):
            with contextlib.suppress(OSError):
                _get("/api/run")
                series = json.loads(_get(f"/api/series{after}"))
                after = f"?after={series['step']}"

    polling = threading.Thread(target=poll)
    polling.start()
    try:
        yield
    finally:
        closed.set()
        polling.join()


def _get(path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT + 4}{path}", timeout=10) as answer:
        return answer.read()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--config", default="configs/quickstart.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--from-step", type=int, default=10)
    parser.add_argument("--to-step", type=int, default=130)
    parser.add_argument("--without-trackers", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
