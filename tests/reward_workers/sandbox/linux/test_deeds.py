"""What a worker can do, and what it cannot while the same code can unconfined."""

import pytest

from reward_workers.sandbox.linux import bwrap

# each leaves True in `result` where it can be done
DEEDS = {
    "read the users": "result = bool(open('/etc/passwd').read())",
    "read its process": "result = bool(open('/proc/self/maps').read())",
    "read a program": "import os; result = bool(open(os.path.realpath('/bin/sh'), 'rb').read(4))",
    "list the root": "import os; result = 'usr' in os.listdir('/')",
    "write elsewhere": """
        import os
        path = f'/var/tmp/escape.{os.getpid()}'
        open(path, 'w').close(); os.unlink(path); result = True""",
    "fork": """
        import os
        pid = os.fork()
        if pid == 0: os._exit(0)
        result = os.waitpid(pid, 0)[0] == pid""",
    "start a program": "import subprocess; result = subprocess.run(['/bin/true']).returncode == 0",
    "spawn": "import os; result = os.posix_spawn('/bin/true', ['true'], {}) > 0",
    "multiprocess": """
        import multiprocessing
        p = multiprocessing.get_context('fork').Process(target=int); p.start(); p.join()
        result = p.exitcode == 0""",
    "udp": "import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM).close(); result = True",
    "tcp": "import socket as s; s.socket(s.AF_INET, s.SOCK_STREAM).close(); result = True",
    "ipv6": "import socket as s; s.socket(s.AF_INET6, s.SOCK_STREAM).close(); result = True",
    "unix sockets": "import socket as s; s.socket(s.AF_UNIX, s.SOCK_STREAM).close(); result = True",
    "netlink": "import socket as s; s.socket(s.AF_NETLINK, s.SOCK_RAW, 0).close(); result = True",
    "datagram pairs": "import socket as s; s.socketpair(s.AF_UNIX, s.SOCK_DGRAM); result = True",
    "pass descriptors": """
        import socket
        a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [1]); result = True""",
    "signal its parent": "import os; os.kill(os.getppid(), 0); result = True",
    "signal its group": "import os; os.killpg(0, 0); result = True",
    "leave its session": "import os; os.setsid(); result = True",
    "a pipe with a name": """
        import os, tempfile
        path = tempfile.mktemp(); os.mkfifo(path); os.unlink(path); result = True""",
    "memory files": "import os; os.close(os.memfd_create('m')); result = True",
    "be niced": "import os; os.nice(0); result = True",
    "pin itself": "import os; os.sched_setaffinity(0, os.sched_getaffinity(0)); result = True",
    "a pidfd": "import os; os.close(os.pidfd_open(os.getpid())); result = True",
    "own a descriptor": """
        import fcntl, os
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid()); result = True""",
    "grow a pipe": """
        import fcntl, os
        fcntl.fcntl(os.pipe()[1], 1031, 1 << 20); result = True""",
    "raise a limit": """
        import resource
        old = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, old); result = True""",
    "say its limits anew": """
        import resource
        old = resource.getrlimit(resource.RLIMIT_AS)
        resource.prlimit(0, resource.RLIMIT_AS, old); result = True""",
    "its dumps": """
        import ctypes
        result = ctypes.CDLL(None).prctl(4, 1, 0, 0, 0) == 0""",
    "message queues": "import ctypes; result = ctypes.CDLL(None).msgget(0, 0o1600) >= 0",
    "shared memory": """
        import ctypes
        c = ctypes.CDLL(None)
        i = c.shmget(0, 4096, 0o1600); result = i >= 0; c.shmctl(i, 0, None)""",
    "an event descriptor": "import os; os.close(os.eventfd(0)); result = True",
}  # fmt: skip


@pytest.mark.parametrize("deed", DEEDS)
def test_the_deed_can_be_done_unconfined(deed, unconfined):
    assert unconfined(DEEDS[deed]) is True


@pytest.mark.parametrize("deed", DEEDS)
async def test_no_worker_can(deed, probe):
    assert await probe.answer(DEEDS[deed]) is not True


ALLOWED = {
    "files in its folder": """
        import os, shutil, tempfile
        folder = tempfile.mkdtemp()
        with open(f"{folder}/a", "w") as file: file.write("x")
        os.rename(f"{folder}/a", f"{folder}/b")
        shutil.copy2(f"{folder}/b", f"{folder}/c")
        result = sorted(os.listdir(folder)) == ["b", "c"]
        shutil.rmtree(folder)""",
    "threads": """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as pool: result = sum(pool.map(int, "1234")) == 10""",
    "asyncio": "import asyncio; result = asyncio.run(asyncio.sleep(0.01, True))",
    "extension modules": """
        import _ctypes, _decimal, array, bisect, sqlite3, unicodedata, zlib
        result = sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)""",
    "clocks and chance": """
        import os, random, time
        time.sleep(0.001)
        result = len(os.urandom(8)) == 8 and random.SystemRandom().random() < 1""",
    "alarms of its own": """
        import os, signal
        heard = []
        signal.signal(signal.SIGALRM, lambda *_: heard.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()
        os.kill(os.getpid(), signal.SIGALRM)
        result = heard == [1, 1]""",
    "devices": """
        open('/dev/null', 'w').write('x')
        result = open('/dev/zero', 'rb').read(2) == bytes(2)""",
    "zone names": "import zoneinfo; result = True",
}  # fmt: skip


@pytest.mark.parametrize("need", ALLOWED)
async def test_a_worker_can(need, probe):
    assert await probe.answer(ALLOWED[need]) is True


async def test_a_worker_finds_no_secret_environment_and_no_open_descriptor(probe, monkeypatch):
    monkeypatch.setenv("SECRET", "42")
    code = """
        import os
        def is_open(fd):
            try: os.fstat(fd); return True
            except OSError: return False
        result = [sorted(os.environ), [fd for fd in range(64) if is_open(fd)]]
    """
    environment, descriptors = await probe.answer(code)
    assert set(environment) <= {*bwrap.ENVIRONMENT, "PWD", "LC_CTYPE", "PATH"}
    assert descriptors == [0, 1, 2, 3]


async def test_chance_and_hashes_are_the_same_in_each_worker(probe):
    code = "import random; result = [random.random(), hash('a string')]"
    assert await probe.answer(code) == await probe.answer(code)


async def test_packages_can_be_imported_and_not_changed(namespaced, make_probe, tmp_path):
    (tmp_path / "extra.py").write_text("ANSWER = 42")
    tmp_path.chmod(0o755)
    probe = make_probe(type(namespaced.backend), tmp_path)
    code = """
        import extra, os
        result = [extra.ANSWER]
        try: open(os.path.dirname(extra.__file__) + "/more.py", "w")
        except OSError as error: result.append(error.strerror)
    """
    found = await probe.answer(code)
    assert found in ([42, "Permission denied"], [42, "Read-only file system"])
