"""The macOS backend, as far as Linux runs it: stand-ins for the worker, never for confinement."""

import asyncio
import json
import os
import signal
import sys

import pytest

from reward_workers.sandbox.backend import SandboxFault
from reward_workers.sandbox.jobs import Limits
from reward_workers.sandbox.macos import backend as macos
from reward_workers.sandbox.macos.child import close_fds

READY = "channel.sendall(struct.pack('>I', 14) + b'{\"ready\":true}')\n"
SERVE = "while channel.recv(100): pass\n"


@pytest.fixture
async def start_backend(monkeypatch):
    """A started backend whose workers run a program in place of the harness."""
    backends = []

    async def start(program: str):
        monkeypatch.setattr(macos, "check_all", list)
        head = "import os, socket, struct, sys, time\n"
        head += "channel = socket.socket(fileno=int(sys.argv[1]))\n"
        monkeypatch.setattr(
            macos,
            "worker_command",
            lambda _, channel, *others: [sys.executable, "-c", head + program, str(channel)],
        )
        backend = macos.MacosBackend()
        backends.append(backend)
        await backend.start()
        return backend

    yield start
    for backend in backends:
        await backend.close()


def test_a_worker_gets_its_settings_as_one_argument(tmp_path):
    limits = Limits(cpu_seconds=2.0)
    command = macos.worker_command(tmp_path / "h.zip", 7, tmp_path / "tmp", None, limits)
    assert command[1:6] == ["-s", "-S", "-P", str(tmp_path / "h.zip"), "macos"]
    settings = json.loads(command[6])
    assert settings["channel"] == 7
    assert settings["tmp"] == str(tmp_path / "tmp")
    assert settings["packages"] is None
    assert settings["limits"]["cpu_seconds"] == 2.0
    assert set(settings["limits"]) == set(Limits.__dataclass_fields__)


def test_a_worker_runs_the_interpreter_below_any_virtual_environment():
    assert macos.base_interpreter() == os.path.realpath(macos.base_interpreter())
    assert not macos.base_interpreter().startswith(sys.prefix + os.sep) or (
        sys.prefix == sys.base_prefix
    )


def test_a_workers_environment_is_fixed_but_for_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environment = macos.worker_environment(tmp_path)
    assert environment["TMPDIR"] == environment["HOME"] == str(tmp_path)
    assert environment["PYTHONHASHSEED"] == "0"
    assert not any("AWS" in name for name in environment)


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has Seatbelt")
async def test_elsewhere_it_refuses_and_says_why():
    with pytest.raises(macos.SandboxUnavailable, match="macOS 14 or newer is needed"):
        await macos.MacosBackend().start()


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has Seatbelt")
async def test_a_worker_that_cannot_confine_itself_hears_nothing_and_the_fault_is_told(monkeypatch):
    monkeypatch.setattr(macos, "check_all", list)
    with pytest.raises(macos.SandboxUnavailable, match="SeatbeltError: sandbox_check is in none"):
        await macos.MacosBackend().start()


async def test_a_ready_worker_is_handed_out_with_nothing_left_to_read(start_backend):
    backend = await start_backend(READY + SERVE)
    spawned = await backend.spawn(Limits())
    with pytest.raises(BlockingIOError):
        spawned.channel.recv(1)
    spawned.kill()
    assert (await spawned.ended).signal == signal.SIGKILL
    close_fds(spawned)


async def test_each_worker_has_a_folder_of_its_own_that_goes_with_it(start_backend):
    backend = await start_backend(READY + "open('mine', 'w').close()\n" + SERVE)
    first, second = await asyncio.gather(backend.spawn(Limits()), backend.spawn(Limits()))
    workers = backend._workers
    folders = [workers[spawned.pid].tmp for spawned in (first, second)]
    assert folders[0] != folders[1]
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)
    first.kill()
    await first.ended
    assert [folder.exists() for folder in folders] == [False, True]
    for spawned in (first, second):
        close_fds(spawned)


async def test_closing_ends_every_worker_and_leaves_no_folder(start_backend):
    backend = await start_backend(READY + SERVE)
    spawned = [await backend.spawn(Limits()) for _ in range(3)]
    folder = backend._folder
    await backend.close()
    for each in spawned:
        assert (await each.ended).signal == signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            os.kill(each.pid, 0)
        close_fds(each)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise SystemExit('no libsandbox')", "no libsandbox"),
        ("channel.sendall(struct.pack('>I', 16) + b'{\"fault\":\"weak\"}')", "weak"),
        ("channel.sendall(b'\\xff' * 8)", "a message of 4294967295 bytes"),
        ("channel.sendall(struct.pack('>I', 2) + b'[]')", "wanted an object"),
    ],
)
async def test_what_is_not_readiness_is_a_fault_that_says_why(start_backend, program, said):
    with pytest.raises(macos.SandboxUnavailable, match=said):
        await start_backend(program)


async def test_a_worker_that_never_says_ready_is_given_up_and_killed(start_backend, monkeypatch):
    backend = await start_backend(READY + SERVE)
    monkeypatch.setattr(macos, "READY_SECONDS", 0.2)
    monkeypatch.setattr(
        macos, "worker_command", lambda *_: [sys.executable, "-c", "import time; time.sleep(600)"]
    )
    with pytest.raises(SandboxFault, match="did not become ready: TimeoutError"):
        await backend.spawn(Limits())


async def test_a_worker_that_fills_its_folder_is_killed(start_backend, monkeypatch):
    monkeypatch.setattr(macos, "WATCH_SECONDS", 0.02)
    backend = await start_backend(READY + "open('big', 'wb').write(bytes(1 << 20))\n" + SERVE)
    spawned = await backend.spawn(Limits(tmp_bytes=1 << 18))
    assert (await spawned.ended).signal == signal.SIGKILL
    close_fds(spawned)
