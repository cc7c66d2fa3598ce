"""Layouts and arithmetic of what macOS tells of a process; the calls themselves need a Mac."""

import ctypes
import os
import sys

import pytest

from reward_workers.sandbox.macos import darwin


def test_rusage_info_v4_is_laid_out_as_in_the_sdk():
    # uuid 16; then 10 (v0) + 6 (v1) + 2 (v2) + 9 (v3) + 8 (v4) = 35 uint64: 16 + 35 * 8 = 296
    info = darwin.RusageInfoV4
    assert ctypes.sizeof(info) == 296
    assert info.user_time.offset == 16
    assert info.system_time.offset == 24
    assert info.phys_footprint.offset == 16 + 7 * 8
    assert info.proc_start_abstime.offset == 16 + 8 * 8
    assert info.logical_writes.offset == 16 + 27 * 8
    assert info.lifetime_max_phys_footprint.offset == 16 + 28 * 8
    assert info.billed_energy.offset == 264
    assert info.runnable_time.offset == 16 + 34 * 8


def test_proc_taskinfo_is_laid_out_as_in_the_sdk():
    # 6 uint64, then 12 int32: 48 + 48 = 96; threadnum is the tenth of the ints: 48 + 9 * 4 = 84
    assert ctypes.sizeof(darwin.ProcTaskInfo) == 96
    assert darwin.ProcTaskInfo.virtual_size.offset == 0
    assert darwin.ProcTaskInfo.threadnum.offset == 84


def test_ticks_become_seconds_by_the_timebase():
    # Apple silicon: 24 MHz, a tick is 125/3 ns, 24 million ticks are a second; Intel: 1/1
    assert darwin.seconds(24_000_000, 125, 3) == pytest.approx(1.0)
    assert darwin.seconds(1_500_000_000, 1, 1) == pytest.approx(1.5)


def test_waiting_is_what_was_runnable_less_what_ran():
    # 36 M ticks runnable, 12 M + 6 M of them on a CPU: 0.75 s of CPU, 18 M ticks = 0.75 s waited
    rusage = darwin.RusageInfoV4(
        user_time=12_000_000,
        system_time=6_000_000,
        runnable_time=36_000_000,
        phys_footprint=7 << 20,
        lifetime_max_phys_footprint=9 << 20,
        proc_start_abstime=5,
    )
    usage = darwin.usage_of(rusage, 3, 125, 3)
    assert usage.cpu_seconds == pytest.approx(0.75)
    assert usage.waiting_seconds == pytest.approx(0.75)
    assert usage[2:] == (7 << 20, 9 << 20, 3, 5)


def test_clocks_that_disagree_make_no_negative_wait():
    rusage = darwin.RusageInfoV4(user_time=10, runnable_time=9)
    assert darwin.usage_of(rusage, 1, 125, 3).waiting_seconds == 0.0


@pytest.mark.skipif(sys.platform != "darwin", reason="needs a Mac")
def test_this_process_can_be_read():
    usage = darwin.read_process(os.getpid())
    assert usage is not None
    assert usage.cpu_seconds > 0
    assert 1 << 20 < usage.footprint_bytes <= usage.peak_footprint_bytes
    assert usage.num_threads >= 1
    assert darwin.read_process(99_999_999) is None
