from reward_workers.sandbox.backend import Usage
from reward_workers.sandbox.jobs import Limits, Verdict
from reward_workers.sandbox.judging.meter import Meter

LIMITS = Limits(
    cpu_seconds=2, idle_seconds=1, wall_seconds=10, memory_bytes=1000 << 20, max_threads=4
)


def used(cpu=0.0, waiting=0.0, resident=0, threads=1):
    return Usage(cpu, waiting, resident, threads)


def meter(first=None):
    watched = Meter(LIMITS, first or used(), now=100.0)
    watched.resume(100.0)
    return watched


def verdict(stopped):
    return stopped and stopped.verdict


def run(watched, seconds, cpu=0.0, waiting=0.0):
    """Samples every 0.1 s; returns the verdict and when it came."""
    for tick in range(1, int(seconds * 10) + 1):
        passed = tick / 10
        if stopped := watched.sample(used(cpu * passed, waiting * passed), 100.0 + passed):
            return stopped.verdict, passed
    return None


def test_cpu_counts_from_the_delivery_on():
    watched = meter(used(cpu=5.0))
    assert watched.sample(used(cpu=6.9), 101.9) is None
    assert verdict(watched.sample(used(cpu=7.1), 102.1)) is Verdict.TIMEOUT


def test_a_sleeper_is_idle():
    assert run(meter(), 5) == (Verdict.TIMEOUT, 1.1)


def test_a_busy_machine_does_not_make_a_candidate_idle():
    # a tenth of a CPU, the rest of the time spent waiting for one: only the wall ends it
    assert run(meter(), 9.9, cpu=0.1, waiting=0.9) is None
    assert run(meter(), 12, cpu=0.1, waiting=0.9) == (Verdict.TIMEOUT, 10.1)


def test_threads_that_wait_together_buy_no_idle_time():
    watched = meter()
    assert watched.sample(used(waiting=100.0), 100.5) is None
    for tick in range(1, 11):
        assert watched.sample(used(waiting=100.0), 100.5 + tick / 10) is None
    assert verdict(watched.sample(used(waiting=100.0), 101.7)) is Verdict.TIMEOUT


def test_the_idle_clock_stands_still_while_nobody_asks():
    watched = meter()
    watched.pause()
    assert watched.sample(used(), 105.0) is None
    watched.resume(105.0)
    assert watched.sample(used(), 105.4) is None
    assert watched.sample(used(), 105.9) is None
    assert verdict(watched.sample(used(), 106.1)) is Verdict.TIMEOUT


def test_answers_that_the_supervisor_is_slow_to_read_are_no_idleness():
    # 0.1 s for each answer to be read, a thousand times: the worker has done its part
    watched = meter()
    for number in range(60):
        watched.resume(100.0 + number / 10)
        watched.pause()
        assert watched.sample(used(), 100.1 + number / 10) is None


def test_a_supervisor_that_was_held_up_blames_nobody():
    watched = meter()
    assert watched.sample(used(), 109.0) is None


def test_memory_and_threads():
    assert meter().sample(used(resident=1000 << 20, threads=4), 100.1) is None
    assert verdict(meter().sample(used(resident=1001 << 20), 100.1)) is Verdict.OOM
    assert verdict(meter().sample(used(threads=5), 100.1)) is Verdict.FAILED


def test_the_wall_counts_even_when_the_use_is_unknown():
    assert meter().sample(None, 109.0) is None
    assert verdict(meter().sample(None, 110.5)) is Verdict.TIMEOUT


def test_a_wait_for_a_cpu_that_is_told_late_is_not_idle_after_all():
    # the kernel counts a wait only once it is over: 0.9 s nothing, then all of it at once
    watched = meter()
    for rounds in range(5):
        for tick in range(1, 10):
            now = 100.0 + rounds + tick / 10
            assert watched.sample(used(cpu=0.1 * rounds, waiting=0.9 * rounds), now) is None
        spent = used(cpu=0.1 * (rounds + 1), waiting=0.9 * (rounds + 1))
        assert watched.sample(spent, 101.0 + rounds) is None


def test_idle_time_that_was_settled_is_not_bought_back_by_waiting():
    # idle for 0.9 s, a moment of work, then 100 s of waiting threads: 0.2 s more are too much
    watched = meter()
    assert watched.sample(used(), 100.5) is None
    assert watched.sample(used(cpu=0.001), 100.9) is None
    assert watched.sample(used(cpu=0.002, waiting=0.0), 100.95) is None
    assert watched.sample(used(cpu=0.003, waiting=100.0), 101.0) is None
    assert verdict(watched.sample(used(cpu=0.003, waiting=100.0), 101.3)) is Verdict.TIMEOUT
