"""Programs that leave the sandbox nothing to work with: no descriptor, memory, room or process."""
# ruff: noqa: E501 - the lines of programs are data

from hostile.program import CRASHED, FAILED, OOM, TIMEOUT, calls, in_tests, stdio

_ITS_OWN = "there is nothing of the kind outside a sandbox"
_EITHER = "what is left of the worker answers wrongly, or not at all"

PROGRAMS = (
    calls(
        "close_all",
        "import os\ndef f(x):\n    os.closerange(0, 64)\n    return 'wrong'",
        CRASHED,
        harm=None,
        why=_ITS_OWN,
    ),
    calls(
        "close_all_at_load",
        "import os\nos.closerange(0, 64)\ndef f(x): return 'wrong'",
        CRASHED,
        harm=None,
        why=_ITS_OWN,
    ),
    stdio(
        "close_all_in_a_program",
        "import os\nos.closerange(0, 64)",
        FAILED,
        CRASHED,
        harm="ends",
        why="no output and exit code 0, or a worker that could not end in order",
    ),
    in_tests(
        "close_all_in_a_test",
        "import os\ndef f(x):\n    os.closerange(0, 64)\n    return 'wrong'",
        CRASHED,
        harm=None,
        why=_ITS_OWN,
    ),
    calls(
        "close_the_outputs",
        "import os\ndef f(x):\n    os.close(1)\n    os.close(2)\n    return 'wrong'",
        FAILED,
        harm="ends",
    ),
    calls(
        "close_the_outputs_and_stay",
        """
        import os, time
        def f(x):
            os.close(0)
            os.close(1)
            os.close(2)
            time.sleep(100)
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "close_all_and_stay",
        "import os, time\ndef f(x):\n    os.closerange(0, 64)\n    time.sleep(100)",
        CRASHED,
        TIMEOUT,
        harm="hangs",
        why="the end of the channel is a broken protocol at once",
    ),
    stdio(
        "close_all_and_stay_in_a_program",
        "import os, time\nos.closerange(0, 64)\ntime.sleep(100)",
        TIMEOUT,
        harm="hangs",
    ),
    stdio(
        "close_all_and_spin",
        "import os\nos.closerange(0, 64)\nwhile True: pass",
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "fill_the_channel",
        """
        import os
        def f(x):
            os.set_blocking(3, False)
            try:
                while True: os.write(3, b'\\0' * 65536)
            except OSError: pass
            return 'wrong'
        """,
        CRASHED,
        harm=None,
        why=_ITS_OWN + "; frames of length 0 are garbage",
    ),
    calls(
        "fill_tmp_then_answer",
        """
        import os
        def f(x):
            try:
                with open('/tmp/x', 'wb', 0) as file:
                    while True: file.write(b'x' * 65536)
            except OSError: pass
            return 'wrong'
        """,
        FAILED,
        harm=None,
        why="it would fill a disk",
    ),
    calls(
        "fill_tmp_with_names",
        """
        import os
        def f(x):
            try:
                for i in range(10 ** 6): os.mkdir(f'/tmp/{i}')
            except OSError: pass
            return 'wrong'
        """,
        FAILED,
        TIMEOUT,
        harm=None,
        why="it would fill a disk; a million names may cost more CPU than it has",
    ),
    calls(
        "deep_tmp",
        """
        import os
        def f(x):
            os.chdir('/tmp')
            try:
                while True:
                    os.mkdir('d' * 200)
                    os.chdir('d' * 200)
            except OSError: pass
            return 'wrong'
        """,
        FAILED,
        harm=None,
        why="it would fill a disk",
    ),
    calls(
        "lose_the_working_folder",
        """
        import os
        def f(x):
            os.mkdir('/tmp/d')
            os.chdir('/tmp/d')
            os.rmdir('/tmp/d')
            return 'wrong'
        """,
        FAILED,
        harm=None,
        why=_ITS_OWN,
    ),
    calls(
        "tmp_without_rights",
        "import os\ndef f(x):\n    os.chmod('/tmp', 0)\n    return 'wrong'",
        FAILED,
        harm=None,
        why="it would lock /tmp",
    ),
    calls(
        "all_threads_then_answer",
        """
        import threading, time
        def f(x):
            try:
                for _ in range(100): threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
            except RuntimeError: pass
            return 'wrong'
        """,
        FAILED,
        harm="ends",
    ),
    calls(
        "all_memory_then_answer",
        """
        def f(x):
            held = []
            size = 1 << 26
            while size > 16:
                try: held.append(bytearray(size))
                except MemoryError: size //= 2
            globals()['held'] = held
            return 'wrong'
        """,
        OOM,
        CRASHED,
        FAILED,
        TIMEOUT,
        harm=None,
        why="unconfined it would take all memory; without memory no answer is sure",
    ),
    calls(
        "least_limits",
        """
        import resource
        def f(x):
            for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_STACK, resource.RLIMIT_AS, resource.RLIMIT_DATA):
                try: resource.setrlimit(limit, (0, 0))
                except (OSError, ValueError): pass
            return 'wrong'
        """,
        FAILED,
        CRASHED,
        OOM,
        harm="ends",
        why=_EITHER,
    ),
    calls(
        "least_cpu_limit",
        """
        import resource
        def f(x):
            try: resource.setrlimit(resource.RLIMIT_CPU, (0, 0))
            except (OSError, ValueError): pass
            for i in range(10 ** 6): pass
            return 'wrong'
        """,
        FAILED,
        CRASHED,
        TIMEOUT,
        harm="ends",
        why=_EITHER,
    ),
    stdio(
        "end_while_stdin_comes",
        "import os\nos.close(0)\nos._exit(1)",
        CRASHED,
        stdin="x" * 3_000_000,
        harm="ends",
    ),
    calls(
        "end_while_a_call_comes",
        "import os\ndef f(x): os._exit(1)",
        CRASHED,
        args=("x" * 3_000_000,),
        harm="ends",
    ),
    calls(
        "end_between_calls",
        """
        import os, threading, time
        def g():
            time.sleep(0.01)
            os._exit(0)
        def f(x):
            threading.Thread(target=g).start()
            time.sleep(0.5)
            return 'wrong'
        """,
        CRASHED,
    ),
)
