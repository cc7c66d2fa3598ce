"""Exceptions that are meant to be mistaken for a test's own: skipped, stopped, expected."""

from hostile.program import CRASHED, FAILED, OOM, PASSED, Harm, calls, in_tests

_EXPECTS = """
def check(candidate):
    try:
        candidate(-1)
    except {error}:
        pass
    else:
        assert False, 'it did not raise'
    assert candidate(1) == 2
"""


def _raised(name: str, error: str, *verdicts, setup: str = "", harm: Harm = "ends", why: str = ""):
    """The error, raised in a test that wants a value."""
    code = f"{setup}\ndef f(x): raise {error}"
    return in_tests(
        name,
        code,
        *verdicts,
        tests="def check(candidate):\n    assert candidate(1) == 2",
        harm=harm,
        why=why,
    )


PROGRAMS = (
    _raised("assertion_error", "AssertionError", FAILED),
    _raised(
        "subclass_of_assertion_error",
        "Sly()",
        FAILED,
        setup="class Sly(AssertionError):\n    def __bool__(self): return False",
    ),
    _raised("stop_iteration_in_a_test", "StopIteration", FAILED),
    _raised("stop_async_iteration", "StopAsyncIteration", FAILED),
    _raised(
        "generator_exit_in_a_test",
        "GeneratorExit",
        FAILED,
    ),
    _raised(
        "keyboard_interrupt_in_a_test",
        "KeyboardInterrupt",
        FAILED,
    ),
    _raised(
        "base_exception_in_a_test",
        "BaseException",
        FAILED,
    ),
    _raised("skip_test", "unittest.SkipTest", FAILED, setup="import unittest"),
    _raised("class_named_skip_test", "SkipTest", FAILED, setup="class SkipTest(Exception): pass"),
    _raised(
        "class_named_skipped",
        "Skipped",
        FAILED,
        setup="class Skipped(Exception): pass\nSkipped.__module__ = '_pytest.outcomes'",
    ),
    _raised(
        "class_named_system_exit",
        "SystemExit",
        CRASHED,
        setup="class SystemExit(Exception): pass",
    ),
    _raised("warning", "DeprecationWarning", FAILED),
    _raised("memory_error", "MemoryError", OOM),
    _raised("eof", "EOFError", FAILED),
    _raised("os_error", "OSError(9, 'Bad file descriptor')", FAILED),
    _raised("broken_pipe", "BrokenPipeError", FAILED),
    _raised(
        "cancelled",
        "asyncio.CancelledError",
        FAILED,
        setup="import asyncio",
    ),
    _raised(
        "sandbox_fault_by_name", "SandboxFault", FAILED, setup="class SandboxFault(Exception): pass"
    ),
    _raised("frame_error_by_name", "FrameError", FAILED, setup="class FrameError(Exception): pass"),
    _raised("nameless", "type('', (Exception,), {})", FAILED),
    _raised("named_like_an_attribute", "type('__class__', (Exception,), {})", FAILED),
    _raised("named_like_code", "type('print(1) or object', (Exception,), {})", FAILED),
    _raised("named_like_a_builtin", "type('len', (Exception,), {})", FAILED),
    _raised("named_like_a_type", "type('int', (Exception,), {})", FAILED),
    _raised("error_with_odd_arguments", "UnicodeDecodeError('utf8', b'x', 0, 1, 'y')", FAILED),
    in_tests(
        "right_error",
        "def f(x):\n    if x < 0: raise ValueError('no')\n    return 2",
        PASSED,
        tests=_EXPECTS.format(error="ValueError"),
    ),
    in_tests(
        "right_error_by_a_subclass",
        "class Mine(ValueError): pass\ndef f(x):\n    if x < 0: raise Mine\n    return 2",
        FAILED,
        tests=_EXPECTS.format(error="ValueError"),
    ),
    in_tests(
        "wrong_error",
        "def f(x):\n    if x < 0: raise KeyError\n    return 2",
        FAILED,
        tests=_EXPECTS.format(error="ValueError"),
        harm="ends",
    ),
    in_tests(
        "assertion_error_for_another",
        "def f(x):\n    if x < 0: raise AssertionError\n    return 2",
        FAILED,
        tests=_EXPECTS.format(error="ValueError"),
        harm="ends",
    ),
    in_tests(
        "base_exception_for_another",
        "def f(x):\n    if x < 0: raise BaseException\n    return 2",
        FAILED,
        tests=_EXPECTS.format(error="ValueError"),
        harm="ends",
    ),
    in_tests(
        "right_error_wrong_value",
        "def f(x):\n    raise ValueError",
        FAILED,
        tests=_EXPECTS.format(error="ValueError"),
        harm="ends",
    ),
    in_tests(
        "error_that_the_harness_gives",
        "def f(x):\n    return object()",
        FAILED,
        tests=_EXPECTS.format(error="TypeError"),
        harm="ends",
    ),
    in_tests(
        "all_errors_swallowed",
        "def f(x):\n    raise SystemExit(0)",
        CRASHED,
        tests="""
        def check(candidate):
            try:
                candidate(1)
            except Exception:
                pass
            assert candidate(1) == 2
        """,
    ),
    calls("exception_as_a_value", "def f(x): return ValueError('escaped')", FAILED, harm="ends"),
)
