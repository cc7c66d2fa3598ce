"""Programs that say too much: on stdout, on stderr, in values, in errors."""
# ruff: noqa: E501 - the lines of programs are data

from hostile.program import CRASHED, FAILED, OUTPUT_LIMIT, PASSED, TIMEOUT, calls, in_tests, stdio

PROGRAMS = (
    stdio(
        "stdout",
        "print('x' * 300_000)\nprint('escaped')",
        OUTPUT_LIMIT,
        expected="x" * 300_000 + "\nescaped",
    ),
    stdio(
        "stdout_without_end",
        "import os\nwhile True: os.write(1, b'x' * 4096)",
        OUTPUT_LIMIT,
        harm=None,
        why="unconfined it would fill its judge's memory",
    ),
    stdio(
        "stderr_without_end",
        "import os\nwhile True: os.write(2, b'x' * 4096)",
        OUTPUT_LIMIT,
        harm=None,
        why="unconfined it would fill its judge's memory",
    ),
    stdio("stderr", "import sys\nsys.stderr.write('x' * 300_000)\nprint('escaped')", OUTPUT_LIMIT),
    stdio(
        "empty_lines",
        "print('\\n' * 300_000)\nprint('escaped')",
        OUTPUT_LIMIT,
        harm=None,
        why="as stdout",
    ),
    calls(
        "stdout_in_a_call",
        "def f(x):\n    print('x' * 300_000)\n    return 'escaped'",
        OUTPUT_LIMIT,
    ),
    calls("stdout_at_load", "print('x' * 300_000)\ndef f(x): return 'escaped'", OUTPUT_LIMIT),
    calls(
        "stderr_in_a_call",
        """
        import os
        def f(x):
            for _ in range(100): os.write(2, b'x' * 4096)
            return 'escaped'
        """,
        OUTPUT_LIMIT,
    ),
    in_tests(
        "stdout_in_a_test",
        "def f(x):\n    print('x' * 300_000)\n    return 'escaped'",
        OUTPUT_LIMIT,
    ),
    calls("value", "def f(x):\n    return 'x' * (4 << 20)", OUTPUT_LIMIT, expected="x" * (4 << 20)),
    calls(
        "value_of_many_parts",
        "def f(x):\n    return [[]] * 2_000_000",
        OUTPUT_LIMIT,
        expected=[[]] * 2_000_000,
    ),
    in_tests(
        "value_in_a_test",
        "def f(x):\n    return 'x' * (4 << 20)",
        OUTPUT_LIMIT,
        tests=("assert len(f(1)) == 4 << 20",),
    ),
    calls(
        "shared_parts",
        """
        def f(x):
            value = ['x']
            for _ in range(40):
                value = [value, value]
            return value
        """,
        OUTPUT_LIMIT,
        TIMEOUT,
        FAILED,
        harm="ends",
        why="2 ** 40 parts: the count, the CPU or the depth of the walk ends it; the size of its frame is the limit wanted",
    ),
    calls(
        "loop_in_a_value",
        "def f(x):\n    a = []\n    a.append(a)\n    return a",
        FAILED,
        harm="ends",
    ),
    calls(
        "depth",
        "def f(x):\n    a = []\n    for _ in range(100_000): a = [a]\n    return a",
        FAILED,
        harm="ends",
    ),
    calls(
        "digits",
        "def f(x):\n    return 10 ** 2_000_000",
        FAILED,
        expected=10**2,
        harm="ends",
    ),
    calls(
        "message_of_an_exception",
        "def f(x):\n    raise ValueError('x' * (20 << 20))",
        FAILED,
        harm="ends",
    ),
    calls(
        "name_of_an_exception",
        "def f(x):\n    raise type('x' * (1 << 20), (Exception,), {})",
        FAILED,
        harm="ends",
    ),
    in_tests(
        "message_in_a_test",
        "def f(x):\n    raise ValueError('x' * (20 << 20))",
        FAILED,
        harm="ends",
    ),
    calls(
        "traceback",
        """
        def g(n):
            if n: g(n - 1)
            raise ValueError(n)
        def f(x):
            try:
                g(900)
            except ValueError as error:
                for _ in range(3000):
                    try:
                        raise ValueError from error
                    except ValueError as new:
                        error = new
                raise error
        """,
        FAILED,
        harm="ends",
    ),
    stdio(
        "long_traceback",
        "def g(n):\n    raise ValueError('x' * 300_000)\ng(1)",
        FAILED,
        CRASHED,
        OUTPUT_LIMIT,
        harm="ends",
        why="its traceback is on stderr, its error on the channel, its exit code 1",
    ),
    stdio(
        "not_utf8",
        "import os\nos.write(1, b'\\xff\\xfe escaped')",
        FAILED,
        expected="\xff\xfe escaped",
        harm="ends",
    ),
    stdio("null_bytes", "import os\nos.write(1, b'esc\\0aped')", FAILED, harm="ends"),
    stdio("ansi", "print('stopped' + '\\x1b[2K\\r' + 'escaped')", FAILED, harm="ends"),
    stdio("backspaces", "print('stopped' + '\\b' * 7 + 'escaped')", FAILED, harm="ends"),
    stdio("other_line_ends", "import os\nos.write(1, b'esc\\x0baped\\x85')", FAILED, harm="ends"),
    calls("surrogates", "def f(x):\n    return '\\ud800' * 3", FAILED, harm="ends"),
    calls(
        "surrogates_are_a_value",
        "def f(x):\n    return '\\ud800'",
        PASSED,
        expected="\ud800",
    ),
    calls(
        "surrogates_in_an_exception",
        "def f(x):\n    raise ValueError('\\ud800\\udfff\\0')",
        FAILED,
        harm="ends",
    ),
    calls(
        "surrogates_in_a_name",
        "def f(x):\n    raise type('\\ud800x', (Exception,), {})",
        FAILED,
        harm="ends",
    ),
    stdio(
        "surrogates_in_a_program",
        "raise ValueError('\\ud800\\udfff\\0')",
        CRASHED,
        harm="ends",
    ),
    calls(
        "stderr_below_the_limit",
        "import sys\ndef f(x):\n    sys.stderr.write('x' * 50_000)\n    return 'escaped'",
        PASSED,
    ),
    calls(
        "output_before_and_after",
        """
        import sys
        print('{"value": 1}')
        def f(x):
            print('x' * 1000)
            return 'escaped'
        """,
        PASSED,
    ),
)
