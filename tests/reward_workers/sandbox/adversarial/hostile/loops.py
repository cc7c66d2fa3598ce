"""Programs that do not end: busy in Python, busy in C, asleep, or waiting for what never comes."""

from hostile.program import CRASHED, FAILED, PASSED, TIMEOUT, calls, in_tests, stdio

PROGRAMS = (
    calls("busy", "def f(x):\n    while True: pass", TIMEOUT, harm="hangs"),
    calls("busy_at_load", "while True: pass\ndef f(x): return 'escaped'", TIMEOUT, harm="hangs"),
    stdio("busy_in_a_program", "while True: pass", TIMEOUT, harm="hangs"),
    stdio(
        "busy_after_the_answer",
        "print('escaped', flush=True)\nwhile True: pass",
        TIMEOUT,
        harm="hangs",
    ),
    in_tests("busy_in_a_test", "def f(x):\n    while True: pass", TIMEOUT, harm="hangs"),
    in_tests(
        "busy_at_load_of_a_test",
        "while True: pass\ndef f(x): return 'escaped'",
        TIMEOUT,
        harm="hangs",
    ),
    calls("sleep", "import time\ndef f(x):\n    time.sleep(1e6)", TIMEOUT, harm="hangs"),
    stdio("sleep_in_a_program", "import time; time.sleep(1e6)", TIMEOUT, harm="hangs"),
    in_tests(
        "sleep_in_a_test", "import time\ndef f(x):\n    time.sleep(1e6)", TIMEOUT, harm="hangs"
    ),
    calls(
        "short_sleeps",
        """
        import time
        def f(x):
            while True:
                time.sleep(0.01)
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "select", "import select\ndef f(x):\n    select.select([], [], [])", TIMEOUT, harm="hangs"
    ),
    calls(
        "deadlock",
        """
        import threading
        def f(x):
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "bare_except",
        """
        def f(x):
            while True:
                try:
                    while True: pass
                except BaseException:
                    continue
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls("power", "def f(x):\n    return 7 ** (7 ** 12)", TIMEOUT, harm="hangs"),
    calls(
        "regex",
        "import re\ndef f(x):\n    return re.match('(a+)+$', 'a' * 64 + 'b')",
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "factorial",
        "import math\ndef f(x):\n    return math.factorial(5_000_000)",
        TIMEOUT,
        harm="hangs",
    ),
    calls("sum_in_c", "def f(x):\n    return sum(range(10 ** 13))", TIMEOUT, harm="hangs"),
    calls(
        "sort_in_c",
        "import itertools\ndef f(x):\n    return max(itertools.repeat(1))",
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "digits",
        """
        import sys
        sys.set_int_max_str_digits(0)
        def f(x):
            return str(1 << 40_000_000)
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "busy_threads",
        """
        import threading
        def spin():
            while True: pass
        def f(x):
            for _ in range(8):
                threading.Thread(target=spin).start()
            spin()
        """,
        TIMEOUT,
        harm="hangs",
    ),
    stdio(
        "thread_outlives_main",
        """
        import threading
        def spin():
            while True: pass
        threading.Thread(target=spin).start()
        print('escaped', flush=True)
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "daemon_thread_stays",
        """
        import threading
        def spin():
            while True: pass
        def f(x):
            threading.Thread(target=spin, daemon=True).start()
            return 'escaped'
        """,
        PASSED,
        harm=None,
        why="it answers rightly, and is killed with its thread",
    ),
    stdio(
        "finalizer",
        "class A:\n    def __del__(self):\n        while True: pass\nA()",
        TIMEOUT,
        harm="hangs",
    ),
    stdio(
        "atexit_loop",
        "import atexit\n@atexit.register\ndef spin():\n    while True: pass",
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "endless_generator",
        "import itertools\ndef f(x):\n    return itertools.count()",
        FAILED,
        harm=None,
        why="a generator is no value; nothing walks through it",
    ),
    calls(
        "endless_list",
        "import itertools\ndef f(x):\n    for i in itertools.count(): x = [x, i][1:]",
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "looping_eq",
        """
        class A:
            def __eq__(self, other):
                while True: pass
        def f(x):
            return A()
        """,
        FAILED,
        harm="hangs",
    ),
    calls(
        "looping_reduce",
        """
        class A:
            def __reduce__(self, *other):
                while True: pass
            __getstate__ = __reduce_ex__ = __repr__ = __iter__ = __len__ = __reduce__
            __eq__ = __reduce__
        def f(x):
            return A()
        """,
        FAILED,
        harm="hangs",
    ),
    calls(
        "looping_str_of_an_exception",
        """
        class Sly(Exception):
            def __str__(self):
                while True: pass
            __repr__ = __str__
        def f(x):
            raise Sly
        """,
        FAILED,
        TIMEOUT,
        harm="hangs",
        why="the worker may or may not ask for the text",
    ),
    in_tests(
        "looping_str_in_a_test",
        """
        class Sly(Exception):
            def __str__(self):
                while True: pass
        def f(x):
            raise Sly
        """,
        FAILED,
        TIMEOUT,
        harm="hangs",
        why="the worker may or may not ask for the text",
    ),
    stdio("input_past_the_end", "import sys\nsys.stdin.read()\ninput()", CRASHED, harm="ends"),
    calls("input_in_a_call", "def f(x):\n    return input()", FAILED, harm="ends"),
)
