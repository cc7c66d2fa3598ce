"""No network for a reward that does not ask for it: a local listener sees who comes."""

import asyncio
import socket
import subprocess
import sys
from collections import Counter

import pytest

from protocol.config import RewardConfig
from protocol.errors import SandboxUnavailable
from protocol.messages import ScoreTask
from reward_workers.children import network
from reward_workers.children.child import Child, ChildSettings
from reward_workers.children.lanes import Lane

SOURCE = """
import asyncio, socket, sys
from reward_workers.registry import needs_network

def dial(completions):
    with socket.create_connection(("127.0.0.1", int(completions[0])), timeout=5) as opened:
        return [1.0]

@needs_network
def dials_by_right(completions):
    return dial(completions)

def datagram(completions):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.sendto(b"x", ("127.0.0.1", int(completions[0])))
    return [1.0]

def started(completions):
    import subprocess
    program = f"import socket; socket.create_connection(('127.0.0.1', {completions[0]}))"
    return [float(subprocess.run([sys.executable, "-c", program]).returncode == 0)]

def local(completions):
    first, second = socket.socketpair()
    with first, second:
        return [1.0]

async def loops(completions):
    await asyncio.sleep(0)
    return [1.0]
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as opened:
        opened.settimeout(0.2)
        yield opened


def came(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except TimeoutError:
        return False
    return True


def settings_of(source, *functions: str) -> ChildSettings:
    configs = tuple(RewardConfig(name=f"{source}:{function}") for function in functions)
    return ChildSettings(configs, 1 << 30)


def task_for(listener: socket.socket) -> ScoreTask:
    return ScoreTask(
        group_id=0,
        attempt=1,
        sample=0,
        prompt='""',
        completion=str(listener.getsockname()[1]),
        completion_tokens=1,
        finish_reason="stop",
        columns="{}",
    )


async def test_a_reward_reaches_the_network_only_with_the_mark(source, listener):
    lane = Lane(settings_of(source, "dial", "dials_by_right"), Counter())
    try:
        await lane.start()
        await lane.prepare(None)
        [(without, with_mark)] = await lane.score([task_for(listener)])
    finally:
        await lane.close()
    assert (without.reward, without.status) == (None, "reward_error")
    assert "PermissionError" in without.failure
    assert with_mark.reward == 1.0
    assert came(listener)
    assert not came(listener)  # not the one without


@pytest.mark.parametrize(
    ("function", "reward"),
    [("dial", None), ("datagram", None), ("started", 0.0), ("local", 1.0), ("loops", 1.0)],
)
@pytest.mark.parametrize("allowed", [False, True])
async def test_what_a_child_without_network_can_do_and_one_with_it(
    source, listener, function, reward, allowed
):
    child = Child(settings_of(source, function), network=allowed)
    await child.start()
    try:
        [outcome] = await child.call(0, 0, [task_for(listener)], 30.0)
    finally:
        await child.close()
    assert outcome.reward == (1.0 if allowed else reward), outcome
    dials = function in ("dial", "started")
    assert came(listener) == (allowed and dials)


async def test_a_lane_whose_rewards_all_need_the_network_keeps_no_other_child(source):
    lane = Lane(settings_of(source, "dials_by_right"), Counter())
    try:
        [traits] = await lane.start()
        await lane.prepare(None)
        assert traits.needs_network
        assert lane.alive() == 1
    finally:
        await lane.close()
    await asyncio.sleep(0)


def test_a_system_that_refuses_is_told_with_the_layers_name(monkeypatch):
    def refuse() -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(network, "_deny", refuse)
    with pytest.raises(SandboxUnavailable, match=r"layer network: .*allow_degraded=\[network\]"):
        network.deny_network()


def test_io_uring_and_other_call_tables_are_refused_too():
    if sys.platform != "linux":
        pytest.skip("calls of Linux")
    program = (
        "import ctypes\n"
        "from reward_workers.children.network import deny_network\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def errno(number):\n"
        "    ctypes.set_errno(0); libc.syscall(number, 1, 0); return ctypes.get_errno()\n"
        "before = errno(425)\n"
        "deny_network()\n"
        "print(before, errno(425))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    before, after = done.stdout.split()
    assert (before != "1", after) == (True, "1"), done.stderr  # EFAULT or ENOSYS, then EPERM
