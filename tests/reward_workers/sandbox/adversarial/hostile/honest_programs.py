"""Honest programs of the modes stdio and tests: what confinement must not break."""

from hostile.program import PASSED, in_tests, stdio

PROGRAMS = (
    stdio(
        "recursion_in_a_thread_with_a_big_stack",
        """
        import sys, threading
        sys.setrecursionlimit(1 << 20)
        threading.stack_size(64 << 20)
        def g(n): return n and 1 + g(n - 1)
        def main(): print(g(int(input())))
        thread = threading.Thread(target=main)
        thread.start()
        thread.join()
        """,
        PASSED,
        stdin="50000\n",
        expected="50000\n",
    ),
    stdio(
        "read_lines",
        "import sys\ndata = sys.stdin.read().split()\nprint(sum(map(int, data[1:])))",
        PASSED,
        stdin="3\n1 2 3\n",
        expected="6\n",
    ),
    stdio(
        "readline_and_write",
        """
        import sys
        n = int(sys.stdin.readline())
        for line in sys.stdin:
            sys.stdout.write(line.upper())
        """,
        PASSED,
        stdin="2\na\nb",
        expected="A\nB",
    ),
    stdio(
        "input_and_print",
        """
        while True:
            try:
                print(input()[::-1], flush=True)
            except EOFError:
                break
        """,
        PASSED,
        stdin="ab\ncd\n",
        expected="ba\ndc\n",
    ),
    stdio(
        "buffers",
        """
        import os, sys
        data = sys.stdin.buffer.read()
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        """,
        PASSED,
        stdin="\u00e9\u4e2d\U0001f600",
        expected="\u00e9\u4e2d\U0001f600",
    ),
    stdio("open_of_0", "print(open(0).read().strip())", PASSED, stdin="x\n", expected="x"),
    stdio(
        "main_guard",
        "def main():\n    print('yes')\nif __name__ == '__main__':\n    main()",
        PASSED,
        expected="yes",
    ),
    stdio(
        "fast_exit",
        "import os, sys\nprint('yes')\nsys.stdout.flush()\nos._exit(0)",
        PASSED,
        expected="yes",
    ),
    stdio(
        "diagnostics",
        """
        import sys, warnings
        warnings.warn('careful')
        print('debug', file=sys.stderr)
        print('yes')
        """,
        PASSED,
        expected="yes",
    ),
    stdio("white_space", "print('a  ')\nprint('b')\nprint()\nprint()", PASSED, expected="a\nb"),
    stdio(
        "big_input",
        "import sys\nprint(len(sys.stdin.read()))",
        PASSED,
        stdin="x" * 3_000_000,
        expected="3000000",
    ),
    stdio(
        "exit_handlers",
        "import atexit\natexit.register(print, 'bye')\nprint('yes')",
        PASSED,
        expected="yes\nbye",
    ),
    in_tests(
        "check_function",
        "def f(x): return x * 2",
        PASSED,
        tests="""
        def check(candidate):
            assert candidate(2) == 4
            assert [candidate(i) for i in range(3)] == [0, 2, 4]
        """,
    ),
    in_tests(
        "assert_lines",
        "def f(x): return sorted(x)",
        PASSED,
        tests=("assert f([2, 1]) == [1, 2]", "assert f([]) == []"),
    ),
    in_tests(
        "close_floats",
        "def f(x): return x / 3",
        PASSED,
        tests="""
        import math
        def check(candidate):
            assert math.isclose(candidate(1), 0.333333333, rel_tol=1e-6)
            assert abs(candidate(2) - 2 / 3) < 1e-9
        """,
    ),
    in_tests(
        "helper_of_the_prompt",
        """
        import math
        def poly(xs, x): return sum(c * math.pow(x, i) for i, c in enumerate(xs))
        def f(xs): return -xs[0] / xs[1]
        """,
        PASSED,
        support="""
        import math
        def poly(xs, x): return sum(c * math.pow(x, i) for i, c in enumerate(xs))

        """,
        tests="""
        def check(candidate):
            for a in range(1, 9): assert abs(poly([a, 2], candidate([a, 2]))) < 1e-4
        """,
    ),
    in_tests(
        "entry_by_its_own_name",
        "def f(x): return x + 1",
        PASSED,
        tests="def check(candidate):\n    assert f(1) == candidate(1) == 2",
    ),
    in_tests(
        "another_function",
        "def g(x): return x + 1\ndef f(x): return g(g(x))",
        PASSED,
        tests=("assert f(1) == 3 and g(1) == 2",),
    ),
    in_tests(
        "changes_its_argument",
        "def f(x):\n    x.sort()",
        PASSED,
        tests=("x = [2, 1]\nf(x)\nassert x == [1, 2]",),
    ),
    in_tests(
        "big_arguments",
        "def f(x): return len(x)",
        PASSED,
        tests=("assert f('x' * 900_000) == 900_000",),
    ),
)
