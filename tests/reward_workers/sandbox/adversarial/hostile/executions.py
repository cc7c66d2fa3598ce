"""Programs that start or become another program, by every way that Python has."""
# ruff: noqa: E501 - the lines of programs are data

from hostile.program import CRASHED, FAILED, calls, stdio

SYSCALLS = """
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
ARM = platform.machine() in ('aarch64', 'arm64')
def syscall(x86, arm, *arguments):
    return libc.syscall(ctypes.c_long(arm if ARM else x86), *map(ctypes.c_long, arguments))
"""
"""Raw system calls, by the numbers of x86-64 and aarch64."""


PROGRAMS = (
    calls(
        "os_system",
        "import os\ndef f(x):\n    return 'escaped' if os.system('true') == 0 else 'stopped'",
        FAILED,
    ),
    calls(
        "popen",
        "import os\ndef f(x):\n    return os.popen('echo escaped').read().strip()",
        FAILED,
    ),
    calls(
        "subprocess",
        """
        import subprocess
        def f(x):
            return subprocess.check_output(['echo', 'escaped'], text=True).strip()
        """,
        FAILED,
    ),
    calls(
        "subprocess_of_python",
        """
        import subprocess, sys
        def f(x):
            return subprocess.check_output([sys.executable, '-c', 'print("escaped")'], text=True).strip()
        """,
        FAILED,
    ),
    calls(
        "posix_spawn",
        """
        import os
        def f(x):
            child = os.posix_spawn('/bin/true', ['true'], {})
            return 'escaped' if os.waitpid(child, 0)[1] == 0 else 'stopped'
        """,
        FAILED,
    ),
    calls(
        "multiprocessing",
        """
        import multiprocessing
        def g(queue):
            queue.put('escaped')
        def f(x):
            context = multiprocessing.get_context('fork')
            queue = context.Queue()
            process = context.Process(target=g, args=(queue,))
            process.start()
            return queue.get()
        """,
        FAILED,
    ),
    calls(
        "process_pool",
        """
        import concurrent.futures, multiprocessing
        def f(x):
            fork = multiprocessing.get_context('fork')
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as pool:
                return pool.submit(str, 'escaped').result()
        """,
        FAILED,
    ),
    calls(
        "pty",
        """
        import os, pty
        def f(x):
            child, fd = pty.fork()
            if child == 0: os._exit(0)
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "exec",
        "import os\ndef f(x):\n    os.execv('/bin/true', ['true'])",
        FAILED,
        harm="wins",
        why="its judge ends with exit code 0",
    ),
    stdio(
        "exec_of_python",
        "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'print(\"escaped\")'])",
        CRASHED,
    ),
    stdio(
        "exec_of_the_shell",
        "import os\nos.execv('/bin/sh', ['sh', '-c', 'echo escaped'])",
        CRASHED,
    ),
    calls(
        "exec_from_memory",
        """
        import os
        def f(x):
            fd = os.memfd_create('code')
            os.write(fd, b'#!/bin/true\\n')
            os.execv(f'/proc/self/fd/{fd}', ['code'])
        """,
        FAILED,
        why="its judge ends with exit code 0",
    ),
    calls(
        "exec_of_a_written_file",
        """
        import os, tempfile
        def f(x):
            path = os.path.join(tempfile.mkdtemp(), 'code')
            with open(path, 'w') as file:
                file.write('#!/bin/sh\\nexit 0\\n')
            os.chmod(path, 0o755)
            os.execv(path, ['code'])
        """,
        FAILED,
        why="its judge ends with exit code 0",
    ),
    calls(
        "execveat_by_syscall",
        SYSCALLS
        + """
def f(x):
    path = ctypes.create_string_buffer(b'/bin/true')
    words = (ctypes.c_char_p * 2)(b'true', None)
    syscall(322, 281, -100, ctypes.addressof(path), ctypes.addressof(words), 0, 0)
    return 'stopped'
""",
        FAILED,
        why="its judge ends with exit code 0",
    ),
)
