import contextlib
import subprocess
import sys
import textwrap
import threading
from typing import Any

import mlx.core as mx
import pytest

from actors.fetch_thread import MAX_JOBS, FetchThread
from actors.weights_source import WeightsSource
from protocol.errors import RunStopped
from protocol.messages import (
    Chunk,
    ChunkRequest,
    Manifest,
    ManifestRequest,
    Notice,
    Score,
    WeightsGone,
)
from protocol.weights import pack
from protocol.wire import Received

DEADLINE_SECONDS = 20.0
CHUNK_BYTES = 1000


class Learner:
    """Answers at once, in the thread that asks."""

    def __init__(self):
        self.packed: Any = None
        self.manifest: Any = None
        self.threads = set()

    def publish(self, version, value, run_epoch=1):
        self.packed = pack([("a", mx.full((50, 30), value, dtype=mx.bfloat16))])
        self.manifest = Manifest(
            run_epoch=run_epoch,
            policy_version=version,
            kind="full",
            digest=self.packed.digest,
            weights_digest=self.packed.digest,
            base_digest="",
            tensors=self.packed.tensors,
            chunk_bytes=CHUNK_BYTES,
            total_bytes=len(self.packed.data),
        )

    def hear(self, message):
        self.threads.add(threading.current_thread().name)
        if isinstance(message, ManifestRequest):
            return Received(self.manifest, b"")
        assert isinstance(message, ChunkRequest)
        start = message.index * CHUNK_BYTES
        chunk = Chunk(**message.model_dump())
        return Received(chunk, self.packed.data[start : start + CHUNK_BYTES])


class Rig:
    def __init__(self, source=None):
        self.learner = Learner()
        self.woken = threading.Semaphore(0)
        self.fetch = FetchThread(
            "actor-1",
            lambda message: self.fetch.put(self.learner.hear(message)),
            self.woken.release,
            WeightsSource() if source is None else source,
            keep_base=True,
            compute_dtype=mx.float32,
        )

    def wait(self):
        assert self.woken.acquire(timeout=DEADLINE_SECONDS)
        return self.fetch.take()


@pytest.fixture
def rig():
    rig = Rig()
    rig.fetch.start()
    yield rig
    rig.fetch.close()


def notice(version, run_epoch=1):
    message = Notice(run_id="run", run_epoch=run_epoch, policy_version=version, digest="")
    return Received(message, b"")


def test_a_version_comes_without_the_main_thread(rig):
    rig.learner.publish(3, 0.5)
    rig.fetch.reset(1)
    rig.fetch.put(notice(3))
    prepared = rig.wait()
    assert prepared.manifest == rig.learner.manifest
    assert mx.array_equal(prepared.weights()["a"], mx.full((50, 30), 0.5))
    assert rig.learner.threads == {"fetch"}
    assert rig.fetch.take() is None
    assert rig.fetch.metrics() == {"weights_fetched_bytes": 3000.0, "weights_mismatches": 0.0}


def test_only_the_newest_version_is_handed_out(rig):
    rig.fetch.reset(1)
    for version in (1, 2, 3):
        rig.learner.publish(version, float(version))
        rig.fetch.want(1, version)
        assert rig.woken.acquire(timeout=DEADLINE_SECONDS)
    assert rig.fetch.take().manifest.policy_version == 3
    assert rig.fetch.take() is None


def test_what_was_ready_before_a_reset_is_not_handed_out(rig):
    rig.learner.publish(1, 1.0)
    rig.fetch.reset(1)
    rig.fetch.want(1, 1)
    assert rig.woken.acquire(timeout=DEADLINE_SECONDS)
    rig.fetch.reset(2)
    assert rig.fetch.take() is None
    rig.learner.publish(0, 2.0, run_epoch=2)
    rig.fetch.put(notice(0, run_epoch=2))
    assert rig.wait().manifest.run_epoch == 2


def test_what_makes_no_sense_is_survived(rig, caplog):
    rig.fetch.reset(1)
    rig.learner.publish(1, 1.0)
    score = Score(run_epoch=1, group_id=1, attempt=1, sample=0, reward=1.0, rewards=(), status="ok")
    odd = rig.learner.manifest.model_copy(update={"total_bytes": 5})
    for message in (
        score,
        odd,
        WeightsGone(policy_version=8),
        Chunk(policy_version=1, digest="x", index=0),
    ):
        rig.fetch.put(Received(message, b"odd"))
    rig.fetch.want(1, 1)
    assert rig.wait() is not None
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "did not expect a Score"
    assert told[1].startswith("manifest of version 1 refused")


def test_manifests_that_lie_are_refused_and_the_thread_goes_on(rig, caplog):
    rig.fetch.reset(1)
    rig.learner.publish(1, 1.0)
    good = rig.learner.manifest
    spec = good.tensors[0]
    nothing = spec.model_copy(update={"name": "b", "shape": (2**32, 2**32), "num_bytes": 0})
    large = spec.model_copy(update={"shape": (2**24,), "num_bytes": 2**25})
    for fields in (
        {"tensors": (spec, nothing)},
        {"tensors": (large,), "total_bytes": 2**25, "chunk_bytes": 1},
    ):
        rig.fetch.put(Received(good.model_copy(update=fields), b""))
    rig.fetch.put(Received(good, b""))
    assert rig.wait() is not None
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert all(text.startswith("manifest of version 1 refused") for text in told)


def test_what_nobody_asked_for_does_not_fill_memory():
    rig = Rig()
    chunk = Chunk(policy_version=1, digest="x", index=0)
    for _ in range(2 * MAX_JOBS):  # the thread does not run yet
        rig.fetch.put(Received(chunk, b"odd"))
    assert rig.fetch._jobs.qsize() == MAX_JOBS  # pyright: ignore[reportPrivateUsage]
    rig.learner.publish(1, 1.0)
    rig.fetch.reset(1)  # these are never dropped
    rig.fetch.want(1, 1)
    rig.fetch.start()
    assert rig.wait() is not None
    rig.fetch.close()


def test_a_failure_wakes_the_actor_and_is_its_reason(caplog):
    class Broken(WeightsSource):
        def find(self, weights_digest, num_bytes):
            raise OSError("no more descriptors")

    rig = Rig(Broken())
    rig.fetch.start()
    rig.learner.publish(1, 1.0)
    rig.fetch.reset(1)
    rig.fetch.want(1, 1)
    with pytest.raises(RunStopped, match="fetching weights failed: OSError: no more descriptors"):
        rig.wait()
    rig.fetch.close()
    assert "fetch" not in {thread.name for thread in threading.enumerate()}


def test_the_thread_ends_when_it_is_closed_and_leaves_nothing_shared():
    closed = []

    class Source(WeightsSource):
        def close(self):
            closed.append(True)

    rig = Rig(Source())
    rig.fetch.close()  # before it was started
    rig = Rig(Source())
    rig.fetch.start()
    rig.fetch.close()
    assert "fetch" not in {thread.name for thread in threading.enumerate()}
    assert closed == [True]


# --- two processes on one host ----------------------------------------------------------------

ACTOR = textwrap.dedent(
    """
    import sys, threading
    from pathlib import Path

    from protocol.blas import preload_blas

    preload_blas()

    import mlx.core as mx

    from actors.fetch_thread import FetchThread
    from actors.weights_source import WeightsSource
    from protocol.messages import Chunk, Manifest, ManifestRequest
    from protocol.weights import pack
    from protocol.weights_files import WeightsFiles
    from protocol.wire import Received

    folder, holds = sys.argv[1], [sys.argv[2]] * bool(sys.argv[2])
    packed = pack([("a", mx.arange(5000).astype(mx.float32))])
    manifest = Manifest(
        run_epoch=1, policy_version=1, kind="full", digest=packed.digest,
        weights_digest=packed.digest, base_digest="", tensors=packed.tensors,
        chunk_bytes=1000, total_bytes=len(packed.data),
    )

    def learner(message):
        if isinstance(message, ManifestRequest):
            print("manifest", flush=True)
            fetch.put(Received(manifest, b""))
            return
        if holds and message.index == 15:
            print(holds.pop(), flush=True)
            sys.stdin.readline()
        start = message.index * 1000
        chunk = Chunk(policy_version=1, digest=packed.digest, index=message.index)
        fetch.put(Received(chunk, packed.data[start : start + 1000]))

    woken = threading.Event()
    source = WeightsSource(host=WeightsFiles(Path(folder)))
    fetch = FetchThread(
        "actor", learner, woken.set, source, keep_base=True, compute_dtype=mx.float32
    )
    fetch.start()
    fetch.reset(1)
    fetch.want(1, 1)
    woken.wait()
    good = mx.array_equal(fetch.take().weights()["a"], mx.arange(5000).astype(mx.float32))
    print(int(fetch.metrics()["weights_fetched_bytes"]), bool(good), flush=True)
    sys.stdin.readline()
    fetch.close()
    """
)


@pytest.fixture
def start_actor(tmp_path):
    with contextlib.ExitStack() as stack:

        def start(holds):
            command = [sys.executable, "-c", ACTOR, str(tmp_path / "weights"), holds]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def says(process):
    assert process.stdout is not None
    return process.stdout.readline().strip()


def goes_on(process):
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_actors_of_a_host_fetch_a_version_once(start_actor, tmp_path):
    first = start_actor("holds")
    assert [says(first), says(first)] == ["manifest", "holds"]
    second = start_actor("")
    assert says(second) == "manifest"
    goes_on(first)
    assert says(first) == "20000 True"
    assert says(second) == "0 True"
    for process in (first, second):
        goes_on(process)
        assert process.wait(DEADLINE_SECONDS) == 0
    assert not (tmp_path / "weights").exists()


def test_an_actor_that_is_killed_over_a_fetch_is_replaced_by_another_one(start_actor):
    first = start_actor("holds")
    assert [says(first), says(first)] == ["manifest", "holds"]
    second = start_actor("")
    assert says(second) == "manifest"
    first.kill()
    assert says(second) == "20000 True"
    goes_on(second)
    assert second.wait(DEADLINE_SECONDS) == 0
