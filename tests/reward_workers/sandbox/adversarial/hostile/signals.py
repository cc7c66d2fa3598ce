"""Programs that signal others, or make themselves hard to signal."""

from hostile.processes import SYSCALLS
from hostile.program import CRASHED, FAILED, TIMEOUT, calls, in_tests, stdio

_OTHERS = "unconfined it would end processes that are not the test's"

PROGRAMS = (
    calls(
        "probe_the_parent",
        "import os\ndef f(x):\n    os.kill(os.getppid(), 0)\n    return 'escaped'",
        FAILED,
    ),
    calls(
        "probe_the_supervisor",
        "import os\ndef f(x):\n    os.kill(x['supervisor'], 0)\n    return 'escaped'",
        FAILED,
    ),
    calls(
        "kill_a_neighbour",
        """
        import os, signal
        def f(x):
            os.kill(x['victim'], signal.SIGCONT)
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "kill_the_parent",
        "import os\ndef f(x):\n    os.kill(os.getppid(), 9)\n    return 'escaped'",
        FAILED,
        harm=None,
        why=_OTHERS,
    ),
    calls(
        "kill_init",
        "import os\ndef f(x):\n    os.kill(1, 9)\n    return 'escaped'",
        FAILED,
        harm=None,
        why=_OTHERS,
    ),
    calls(
        "kill_everyone",
        "import os\ndef f(x):\n    os.kill(-1, 9)\n    return 'escaped'",
        FAILED,
        harm=None,
        why="who is left in its namespace, but for itself, is its init; " + _OTHERS,
    ),
    calls(
        "kill_its_group",
        "import os\ndef f(x):\n    os.killpg(0, 9)\n    return 'escaped'",
        FAILED,
        harm=None,
        why="alone in its group it may end itself; " + _OTHERS,
    ),
    calls(
        "kill_all_groups",
        """
        import os
        def f(x):
            for g in range(1, 2000):
                try: os.killpg(g, 9)
                except OSError: pass
            return 'stopped'
        """,
        FAILED,
        harm=None,
        why="alone in its group it may end itself; " + _OTHERS,
    ),
    calls(
        "kill_every_number",
        """
        import os
        def f(x):
            for pid in range(1, 40_000):
                if pid != os.getpid():
                    try:
                        os.kill(pid, 0)
                        return 'escaped'
                    except OSError:
                        pass
        """,
        FAILED,
    ),
    calls(
        "tgkill_to_others",
        SYSCALLS
        + """
def f(x):
    for pid in (x['victim'], os.getppid(), 1):
        if pid > 0 and syscall(234, 131, pid, pid, 0) == 0:
            return 'escaped'
    return 'stopped'
""",
        FAILED,
    ),
    calls(
        "tkill_to_others",
        SYSCALLS
        + """
def f(x):
    for pid in (x['victim'], os.getppid(), 1):
        if pid > 0 and syscall(200, 130, pid, 0) == 0:
            return 'escaped'
    return 'stopped'
""",
        FAILED,
    ),
    calls(
        "sigqueue_by_libc",
        """
        import ctypes, os
        def f(x):
            queue = ctypes.CDLL(None).sigqueue
            found = [pid for pid in (x['victim'], os.getppid(), 1) if queue(pid, 0, None) == 0]
            return 'escaped' if found else 'stopped'
        """,
        FAILED,
    ),
    calls(
        "pidfd_signal",
        """
        import os, signal
        def f(x):
            for pid in (x['victim'], os.getppid(), 1):
                try:
                    signal.pidfd_send_signal(os.pidfd_open(pid), 0)
                    return 'escaped'
                except OSError:
                    pass
        """,
        FAILED,
    ),
    calls(
        "signal_owner_of_a_descriptor",
        """
        import fcntl, os
        def f(x):
            for fd in (0, 1, 2, 3):
                try:
                    fcntl.fcntl(fd, fcntl.F_SETOWN, 1)
                    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
                except OSError:
                    pass
            return 'stopped'
        """,
        FAILED,
        harm=None,
        why="SIGIO to an init that ignores it, if anything; " + _OTHERS,
    ),
    calls(
        "ignore_all_signals",
        """
        import signal
        def f(x):
            for number in range(1, 65):
                try: signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError): pass
            while True: pass
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "block_all_signals",
        """
        import signal, time
        def f(x):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while True: time.sleep(0.1)
        """,
        TIMEOUT,
        harm="hangs",
    ),
    stdio(
        "handle_cpu_limit",
        """
        import signal
        for number in (signal.SIGXCPU, signal.SIGTERM, signal.SIGALRM, signal.SIGINT):
            signal.signal(number, lambda *a: None)
        while True: pass
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "stop_itself",
        """
        import os, signal
        def f(x):
            os.kill(os.getpid(), signal.SIGSTOP)
            return 'stopped'
        """,
        TIMEOUT,
        harm="hangs",
    ),
    stdio(
        "stop_itself_in_a_program",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
        TIMEOUT,
        harm="hangs",
    ),
    in_tests(
        "stop_itself_in_a_test",
        """
        import os, signal
        def f(x):
            os.kill(os.getpid(), signal.SIGSTOP)
            return 'stopped'
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls("kill_itself", "import os\ndef f(x):\n    os.kill(os.getpid(), 9)", CRASHED, harm="ends"),
    stdio(
        "kill_itself_after_the_answer",
        "import os\nprint('escaped', flush=True)\nos.kill(os.getpid(), 9)",
        CRASHED,
        harm="ends",
    ),
    calls(
        "alarm",
        """
        import signal
        def f(x):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            while True: pass
        """,
        CRASHED,
        harm="ends",
    ),
    calls(
        "cpu_timer",
        """
        import signal
        def f(x):
            signal.setitimer(signal.ITIMER_PROF, 0.05)
            while True: pass
        """,
        CRASHED,
        harm="ends",
    ),
    calls(
        "cpu_limit_of_its_own",
        """
        import resource
        def f(x):
            resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
            while True: pass
        """,
        FAILED,
        harm="ends",
    ),
    stdio(
        "hang_up_and_go_on",
        """
        import os, signal
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.close(0)
        os.close(1)
        os.close(2)
        while True: pass
        """,
        TIMEOUT,
        harm="hangs",
    ),
)
