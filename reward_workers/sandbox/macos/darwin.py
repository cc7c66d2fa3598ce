"""What macOS tells of a process: libproc by ctypes. Not exercised on a Mac yet.

Standard library only and no import of ours: the reaper loads this file by its path.

Layouts are those of the SDK's <sys/resource.h> and <sys/proc_info.h>, both 64-bit only:

    struct rusage_info_v4    16 (uuid) + 35 * 8 = 296 bytes; ri_runnable_time is the last, at 288
    struct proc_taskinfo     6 * 8 + 12 * 4     =  96 bytes; pti_threadnum is the tenth int, at 84

Times are in mach ticks, 125/3 ns each on Apple silicon. ri_runnable_time is XNU's runnable_timer,
"time the thread is runnable (including running)": less the CPU time, it is what was waited.
"""

import ctypes
import functools
import os
import sys
from typing import NamedTuple

LIBSYSTEM = "/usr/lib/libSystem.B.dylib"
RUSAGE_INFO_V4 = 4
PROC_PIDTASKINFO = 4
_RUSAGE_COUNTERS = """
    user_time system_time pkg_idle_wkups interrupt_wkups pageins wired_size resident_size
    phys_footprint proc_start_abstime proc_exit_abstime
    child_user_time child_system_time child_pkg_idle_wkups child_interrupt_wkups child_pageins
    child_elapsed_abstime
    diskio_bytesread diskio_byteswritten
    cpu_time_qos_default cpu_time_qos_maintenance cpu_time_qos_background cpu_time_qos_utility
    cpu_time_qos_legacy cpu_time_qos_user_initiated cpu_time_qos_user_interactive
    billed_system_time serviced_system_time
    logical_writes lifetime_max_phys_footprint instructions cycles billed_energy serviced_energy
    interval_max_phys_footprint runnable_time
"""
_TASK_TIMES = "virtual_size resident_size total_user total_system threads_user threads_system"
_TASK_COUNTS = """
    policy faults pageins cow_faults messages_sent messages_received syscalls_mach syscalls_unix
    csw threadnum numrunning priority
"""


class RusageInfoV4(ctypes.Structure):
    """`struct rusage_info_v4`; the header's `ri_` is left out."""

    _fields_ = (
        ("uuid", ctypes.c_uint8 * 16),
        *((name, ctypes.c_uint64) for name in _RUSAGE_COUNTERS.split()),
    )


class ProcTaskInfo(ctypes.Structure):
    """`struct proc_taskinfo`; the header's `pti_` is left out."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in _TASK_TIMES.split()),
        *((name, ctypes.c_int32) for name in _TASK_COUNTS.split()),
    )


class MachTimebase(ctypes.Structure):
    """`struct mach_timebase_info`: nanoseconds = ticks * numer / denom."""

    _fields_ = (("numer", ctypes.c_uint32), ("denom", ctypes.c_uint32))


class ProcessUsage(NamedTuple):
    """What a live process has used."""

    cpu_seconds: float
    waiting_seconds: float
    footprint_bytes: int
    """Physical footprint: what Activity Monitor calls Memory; compressed pages count."""
    peak_footprint_bytes: int
    num_threads: int
    started_ticks: int


def seconds(ticks: int, numer: int, denom: int) -> float:
    """Seconds of some mach ticks."""
    return ticks * numer / denom / 1e9


def usage_of(rusage: RusageInfoV4, num_threads: int, numer: int, denom: int) -> ProcessUsage:
    """What the kernel's record says, in seconds and bytes."""
    cpu_ticks = rusage.user_time + rusage.system_time
    return ProcessUsage(
        cpu_seconds=seconds(cpu_ticks, numer, denom),
        waiting_seconds=seconds(max(0, rusage.runnable_time - cpu_ticks), numer, denom),
        footprint_bytes=rusage.phys_footprint,
        peak_footprint_bytes=rusage.lifetime_max_phys_footprint,
        num_threads=num_threads,
        started_ticks=rusage.proc_start_abstime,
    )


def read_process(pid: int) -> ProcessUsage | None:
    """What a process of this user has used; None when there is none of that pid."""
    library = _libsystem()
    rusage, task = RusageInfoV4(), ProcTaskInfo()
    if library.proc_pid_rusage(pid, RUSAGE_INFO_V4, ctypes.byref(rusage)) != 0:
        return None
    size = ctypes.sizeof(task)
    if library.proc_pidinfo(pid, PROC_PIDTASKINFO, 0, ctypes.byref(task), size) != size:
        return None
    return usage_of(rusage, task.threadnum, *_timebase())


@functools.cache
def _libsystem() -> ctypes.CDLL:
    library = ctypes.CDLL(LIBSYSTEM, use_errno=True)
    library.proc_pid_rusage.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    library.proc_pidinfo.argtypes = (
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_uint64,
        ctypes.c_void_p,
        ctypes.c_int,
    )
    return library


@functools.cache
def _timebase() -> tuple[int, int]:
    info = MachTimebase()
    _libsystem().mach_timebase_info(ctypes.byref(info))
    return info.numer, info.denom


def is_native() -> bool:
    """Whether this interpreter runs as arm64, not translated by Rosetta."""
    return sys.platform == "darwin" and os.uname().machine == "arm64"
