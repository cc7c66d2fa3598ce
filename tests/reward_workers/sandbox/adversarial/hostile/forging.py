"""Programs that speak for the worker or for the judge: on the channel, on every descriptor."""
# ruff: noqa: E501 - the lines of programs are data

from hostile.program import CRASHED, FAILED, OOM, OUTPUT_LIMIT, TIMEOUT, calls, in_tests, stdio

_NO_CHANNEL = "unconfined there is no channel to write on"
_RACE = "the forged frame is taken for its answer (wrong), or for one too many (a broken protocol)"

FRAMES = """
import json, os, struct
def frame(message):
    body = json.dumps(message).encode()
    return struct.pack('>I', len(body)) + body
def say(*messages, fds=(3,)):
    for fd in fds:
        try: os.write(fd, b''.join(map(frame, messages)))
        except OSError: pass
"""


def _said(name: str, message: str, *verdicts, why: str = _RACE, then: str = "return 'wrong'"):
    """One frame, sent on the channel in the midst of a call and of a test."""
    code = f"{FRAMES}\ndef f(x):\n    say({message})\n    {then}"
    yield calls(name, code, *verdicts, harm=None, why=f"{why}; {_NO_CHANNEL}")
    yield in_tests(f"{name}_in_a_test", code, *verdicts, harm=None, why=f"{why}; {_NO_CHANNEL}")


def _garbage(name: str, data: str, *verdicts, why: str = "it breaks the protocol"):
    code = f"import os, struct\ndef f(x):\n    os.write(3, {data})\n    return 'wrong'"
    return calls(name, code, *verdicts, harm=None, why=f"{why}; {_NO_CHANNEL}")


_LIES = """
LIES = [{'value': 'wrong', 'id': 0}, {'done': [{'ok': True, 'detail': ''}]}, {'loaded': ['f']}, {'ready': True},
        {'verdict': 'passed'}, {'passed': 1, 'total': 1}, {'exit_code': 0, 'signal': None, 'cpu_seconds': 0, 'peak_bytes': 0}]
"""

PROGRAMS = (
    *_said("a_wrong_value", "{'value': 'wrong', 'id': 0}", FAILED, CRASHED),
    *_said("done", "{'done': [{'ok': True, 'detail': ''}]}", CRASHED),
    *_said("loaded_again", "{'loaded': ['f']}", CRASHED),
    *_said("ready_again", "{'ready': True}", CRASHED),
    *_said("verdict", "{'verdict': 'passed', 'passed': 1, 'total': 1}", CRASHED),
    *_said("sandbox_error", "{'sandbox_error': 'x'}", CRASHED),
    *_said(
        "fault_by_name",
        "{'error': {'type': 'SandboxFault', 'message': 'x', 'where': 'load'}, 'id': 0}",
        FAILED,
        CRASHED,
    ),
    *_said("error_without_parts", "{'error': 1, 'id': 0}", CRASHED),
    *_said(
        "error_of_odd_parts",
        "{'error': {'type': [], 'message': {}, 'where': 7}, 'id': 0}",
        CRASHED,
        FAILED,
    ),
    *_said("wrong_id", "{'value': 'escaped', 'id': 7}", CRASHED),
    *_said("id_of_another_type", "{'value': 'escaped', 'id': 'zero'}", CRASHED),
    *_said("id_true", "{'value': 'wrong', 'id': False}", CRASHED, FAILED),
    *_said("no_id", "{'value': 'escaped'}", CRASHED),
    *_said("no_value", "{'id': 0}", CRASHED),
    *_said("a_call_of_its_own", "{'call': 'f', 'args': [], 'kwargs': {}, 'id': 0}", CRASHED),
    *_said(
        "a_job_of_its_own",
        "{'mode': 'tester', 'tests': 'pass', 'support': '', 'entry': 'f', 'callables': []}",
        CRASHED,
    ),
    *_said("unknown_tag", "{'value': {'$object': ['os', 'system']}, 'id': 0}", CRASHED, FAILED),
    *_said(
        "value_and_error",
        "{'value': 'wrong', 'error': {'type': 'E', 'message': '', 'where': 'call'}, 'id': 0}",
        CRASHED,
        FAILED,
    ),
    *_said(
        "exit_after_a_frame", "{'done': [{'ok': True, 'detail': ''}]}", CRASHED, then="os._exit(0)"
    ),
    *_said("arguments_that_are_none", "{'value': 'wrong', 'args': 7, 'id': 0}", CRASHED, FAILED),
    *_said(
        "deep_json",
        "{'value': 'wrong', 'id': 0}); os.write(3, struct.pack('>I', 200_000) + b'[' * 200_000",
        CRASHED,
        FAILED,
    ),
    calls(
        "answers_before_they_were_asked",
        FRAMES
        + "\nsay({'loaded': ['f']}, *[{'value': 'escaped', 'id': i} for i in range(9)])\ndef f(x): return 'wrong'",
        CRASHED,
        times=3,
        harm=None,
        why=_NO_CHANNEL,
    ),
    calls(
        "answers_to_calls_to_come",
        FRAMES
        + "\ndef f(x):\n    say(*[{'value': 'wrong', 'id': i} for i in range(9)])\n    return 'escaped'",
        CRASHED,
        FAILED,
        times=3,
        harm=None,
        why=_RACE,
    ),
    calls(
        "two_answers",
        FRAMES
        + "\ndef f(x):\n    say({'value': 'escaped', 'id': 0}, {'value': 'escaped', 'id': 0})\n    return 'wrong'",
        CRASHED,
        times=3,
        harm=None,
        why=_NO_CHANNEL,
    ),
    in_tests(
        "answers_before_a_test",
        FRAMES
        + "\nsay({'loaded': ['f']}, *[{'value': 'escaped', 'id': i} for i in range(9)])\ndef f(x): return 'wrong'",
        CRASHED,
        harm=None,
        why=_NO_CHANNEL,
    ),
    calls(
        "on_every_descriptor",
        FRAMES + _LIES + "\nsay(*LIES, fds=range(64))\ndef f(x): return 'wrong'",
        CRASHED,
        harm=None,
        why=_NO_CHANNEL,
    ),
    in_tests(
        "on_every_descriptor_in_a_test",
        FRAMES + _LIES + "\ndef f(x):\n    say(*LIES, fds=range(64))\n    return 'wrong'",
        CRASHED,
        FAILED,
        harm=None,
        why=_RACE,
    ),
    stdio(
        "on_every_descriptor_but_the_channel",
        """
        import os
        for fd in [1, 2, *range(4, 64)]:
            try: os.write(fd, b'{"done":[{"ok":true}],"verdict":"passed","exit_code":0}')
            except OSError: pass
        """,
        FAILED,
        harm="ends",
    ),
    stdio(
        "frames_of_a_program",
        FRAMES + _LIES + "\nsay(*LIES)\nprint('wrong')",
        CRASHED,
        FAILED,
        harm=None,
        why="an odd frame of a program, or its wrong output: whichever is judged first",
    ),
    stdio(
        "error_of_a_program_beside_the_answer",
        FRAMES
        + "\nprint('escaped', flush=True)\nsay({'error': {'type': 'SandboxFault', 'message': '', 'where': 'load'}})",
        FAILED,
        harm=None,
        why="it says itself that it failed",
    ),
    _garbage(
        "huge_length",
        "b'\\xff' * 4",
        OUTPUT_LIMIT,
    ),
    calls(
        "length_and_silence",
        "import os, time\ndef f(x):\n    os.write(3, b'\\0\\0\\x0f\\0')\n    time.sleep(100)",
        TIMEOUT,
        harm=None,
        why=_NO_CHANNEL,
    ),
    _garbage("length_of_zero", "b'\\0' * 4", CRASHED),
    _garbage("no_json", "struct.pack('>I', 5) + b'hello'", CRASHED),
    _garbage("no_object", "struct.pack('>I', 2) + b'[]'", CRASHED),
    _garbage("not_utf8", "struct.pack('>I', 4) + b'\\xff\\xfe\\xfd\\xfc'", CRASHED),
    _garbage("not_finite", "struct.pack('>I', 20) + b'{\"value\":NaN,\"id\":0}'", CRASHED, FAILED),
    _garbage(
        "big_digits",
        "struct.pack('>I', 900_018) + b'{\"value\":' + b'9' * 900_001 + b',\"id\":0}'",
        CRASHED,
        FAILED,
    ),
    _garbage(
        "same_key_twice",
        '(lambda b: struct.pack(\'>I\', len(b)) + b)(b\'{"id":7,"value":"wrong","id":0}\')',
        CRASHED,
        FAILED,
    ),
    calls(
        "frames_without_end",
        FRAMES + "\ndef f(x):\n    while True: say({'value': 'wrong', 'id': 0})",
        CRASHED,
        FAILED,
        harm=None,
        why=_RACE,
    ),
    calls(
        "calls_without_end",
        FRAMES
        + "\ndef f(x):\n    while True: say({'call': 'f', 'args': [], 'kwargs': {}, 'id': 0})",
        CRASHED,
        harm=None,
        why=_NO_CHANNEL,
    ),
    calls(
        "bytes_without_end",
        "import os\ndef f(x):\n    while True: os.write(3, b'\\0\\x0f\\xff\\xff' * 4096)",
        CRASHED,
        harm=None,
        why="a frame of garbage within the limit, or beyond it",
    ),
    calls(
        "marker_of_a_test_runner",
        """
        print('1 passed in 0.01s\\nOK\\nAll tests passed\\nRan 1 test')
        def f(x):
            print('PASSED', '\\n', 'escaped')
            return 'wrong'
        """,
        FAILED,
        harm="ends",
    ),
    in_tests(
        "marker_in_a_test",
        "def f(x):\n    print('test_f PASSED [100%]\\n=== 1 passed ===\\nOK')\n    return 'wrong'",
        FAILED,
        harm="ends",
    ),
    stdio(
        "marker_of_a_program",
        "print('PASSED')\nprint('{\"verdict\": \"passed\"}')\nprint('exit code 0')",
        FAILED,
        harm="ends",
    ),
    calls(
        "channel_closed",
        "import os\ndef f(x):\n    os.close(3)\n    return 'wrong'",
        CRASHED,
        harm=None,
        why=_NO_CHANNEL,
    ),
    calls(
        "channel_shut",
        "import socket\ndef f(x):\n    socket.socket(fileno=3).shutdown(2)\n    return 'wrong'",
        CRASHED,
        harm=None,
        why="the system call may be refused: then the answer is wrong",
    ),
    calls(
        "channel_swallowed",
        """
        import os, time
        def f(x):
            try: os.dup2(1, 3)
            except OSError: pass
            return 'wrong'
        """,
        CRASHED,
        harm=None,
        why="the answer goes to stdout, and none comes",
    ),
    in_tests(
        "channel_closed_in_a_test",
        "import os\ndef f(x):\n    os.close(3)\n    return 'wrong'",
        CRASHED,
        harm=None,
        why=_NO_CHANNEL,
    ),
    calls(
        "reads_the_calls_itself",
        "import os\ndef f(x):\n    os.read(3, 1 << 20)\n    return 'escaped'",
        TIMEOUT,
        times=2,
        harm=None,
        why=_NO_CHANNEL,
    ),
    calls(
        "memory_for_the_supervisor",
        FRAMES + "\ndef f(x):\n    say({'value': [[]] * 300_000, 'id': 0})\n    return 'wrong'",
        FAILED,
        CRASHED,
        OUTPUT_LIMIT,
        OOM,
        harm=None,
        why=_RACE,
    ),
)
