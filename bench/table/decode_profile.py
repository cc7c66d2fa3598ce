"""Where a decode step's time goes."""

import cProfile
import io
import pstats
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from protocol.blas import preload_blas

preload_blas()

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402

from actors.engine import Engine  # noqa: E402
from actors.sampler import sample  # noqa: E402
from bench.table.decoding import Decoding  # noqa: E402

STEPS = 12
TOP = 15


def profile(decoding: Decoding) -> str:
    """Seconds of prefill and of a step, of what a step cannot do without, and of Python."""
    caches, tokens_B1 = decoding.prefilled()

    def bare_forward() -> None:
        mx.eval(decoding.model(tokens_B1, cache=caches))

    bare_forward()
    began = time.perf_counter()
    engine = decoding.settled(2 * STEPS)
    first = time.perf_counter() - began
    steps, waits, bare = list[float](), list[float](), list[float]()
    for _ in range(STEPS):  # in turn, so that other work on the machine slows both down alike
        with _counting_waits() as spent:
            steps.append(_seconds(engine.step))
        waits.append(spent[0])
        bare.append(_seconds(bare_forward))
    functions = _functions(engine)
    engine.clear()
    outside = [step - wait for step, wait in zip(steps, waits, strict=True)]
    longer = [step - forward for step, forward in zip(steps, bare, strict=True)]
    lines = [
        ("until every row has two tokens, prefill included", first),
        ("decode step", median(steps)),
        ("  in MLX's eval and numpy's array, which wait for what is computed", median(waits)),
        ("  outside of them: Python, and building the graph", median(outside)),
        ("bare forward of the same batch, logits evaluated", median(bare)),
        ("  a step takes longer by", median(longer)),
        ("sampling alone: tokens and logprobs of ready logits", _sampling_seconds(decoding)),
        ("caches alone: a token's keys and values stored in every layer", _cache_seconds(caches)),
    ]
    text = "\n".join(f"{1000 * seconds:9.2f} ms  {what}" for what, seconds in lines)
    return f"medians of {STEPS} steps\n{text}\n\nPython functions by their own time\n{functions}"


def _seconds(once: Callable[[], Any]) -> float:
    began = time.perf_counter()
    once()
    return time.perf_counter() - began


def _median_seconds(once: Callable[[], Any]) -> float:
    once()
    return median(_seconds(once) for _ in range(STEPS))


@contextmanager
def _counting_waits() -> Iterator[list[float]]:
    """Let the functions that wait for the computing note their time."""
    spent = [0.0]
    waiting = [(mx, "eval"), (mx, "async_eval"), (np, "array"), (np, "asarray")]
    originals = [(module, name, getattr(module, name)) for module, name in waiting]

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            began = time.perf_counter()
            try:
                return original(*arguments, **named)
            finally:
                spent[0] += time.perf_counter() - began

        return counted

    for module, name, original in originals:
        setattr(module, name, counting(original))
    try:
        yield spent
    finally:
        for module, name, original in originals:
            setattr(module, name, original)


def _functions(engine: Engine) -> str:
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(STEPS):
        engine.step()
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(TOP)
    return "\n".join(line for line in text.getvalue().splitlines() if line.strip())


def _sampling_seconds(decoding: Decoding) -> float:
    logits_BV = decoding.model(mx.array(decoding.prompts[:, :8]))[:, 0].astype(mx.float32)
    logits_BV = mx.repeat(logits_BV, decoding.group_size, axis=0)
    mx.eval(logits_BV)
    ones = np.ones(decoding.rows, np.float32)
    counts = np.arange(decoding.rows, dtype=np.uint64)

    def once() -> None:
        sampled = sample(logits_BV, ones, counts, counts)
        mx.eval(sampled.tokens_B, sampled.logprobs_B)

    return _median_seconds(once)


def _cache_seconds(caches: list[Any]) -> float:
    keys, *_ = caches[0].state
    new = mx.zeros((*keys.shape[:2], 1, keys.shape[3]), keys.dtype)
    return _median_seconds(
        lambda: mx.eval([part for cache in caches for part in cache.update_and_fetch(new, new)])
    )
