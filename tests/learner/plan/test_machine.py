from pathlib import Path

import pytest

from learner.plan.machine import _linux_memory, this_machine  # pyright: ignore[reportPrivateUsage]

MEMINFO = "MemTotal:       1000 kB\nMemFree:        10 kB\n"


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_this_machine_has_memory_and_cores():
    machine = this_machine()
    assert machine is not None
    assert machine.memory_bytes > 1 << 27
    assert machine.num_cores >= 1


def test_without_control_groups_all_memory_counts(tmp_path):
    write(tmp_path, "proc/meminfo", MEMINFO)
    assert _linux_memory(tmp_path) == 1000 * 1024


@pytest.mark.parametrize(
    ("groups", "path", "limit", "found"),
    [
        ("0::/a/b\n", "a/b/memory.max", "4096\n", 4096),
        ("0::/a/b\n", "a/memory.max", "4096\n", 4096),
        ("0::/a/b\n", "memory.max", "4096\n", 4096),
        ("0::/a/b\n", "a/b/memory.max", "max\n", 1000 * 1024),
        ("0::/a\n", "a/memory.max", "999999999\n", 1000 * 1024),
        ("4:cpu,memory:/a\n0::/\n", "memory/a/memory.limit_in_bytes", "4096\n", 4096),
        ("4:memory:/a\n", "memory/a/memory.limit_in_bytes", f"{2**63 - 4096}\n", 1000 * 1024),
        ("4:cpu:/a\n", "memory/a/memory.limit_in_bytes", "4096\n", 1000 * 1024),
    ],
    ids=["own", "parent", "mount", "none", "above", "version 1", "unlimited 1", "not memory"],
)
def test_the_tightest_limit_of_the_control_groups_counts(tmp_path, groups, path, limit, found):
    write(tmp_path, "proc/meminfo", MEMINFO)
    write(tmp_path, "proc/self/cgroup", groups)
    write(tmp_path, f"sys/fs/cgroup/{path}", limit)
    assert _linux_memory(tmp_path) == found


def test_a_machine_that_cannot_be_read_has_no_memory(tmp_path):
    assert _linux_memory(tmp_path) is None
