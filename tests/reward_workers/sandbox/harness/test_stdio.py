import socket
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from reward_workers.sandbox.harness.frames import MAX_FROM_WORKER, MAX_TO_WORKER, receive, send


@dataclass(frozen=True)
class Ran:
    stdout: str
    stderr: str
    exit_code: int
    told: list[dict[str, Any]]


@pytest.fixture
def run(alone: list[str]) -> Any:
    """Run a program in an interpreter that has the harness and nothing else, as a worker has."""

    def run_program(code: str, stdin: str = "") -> Ran:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(30)
            send(ours, {"mode": "stdio", "code": code, "stdin": stdin}, MAX_TO_WORKER)
            ended = subprocess.run(
                [*alone, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                timeout=60,
                check=False,
            )
            theirs.close()
            told: list[dict[str, Any]] = []
            try:
                while True:
                    told.append(receive(ours, MAX_FROM_WORKER))
            except EOFError:
                pass
        out = ended.stdout.decode("utf-8", "surrogateescape")
        return Ran(out, ended.stderr.decode(), ended.returncode, told)

    return run_program


def test_an_honest_program_reads_and_prints(run: Any):
    code = "n = int(input())\nprint(sum(int(input()) for _ in range(n)))"
    assert run(code, "2\n3\n4\n") == Ran("7\n", "", 0, [])


@pytest.mark.parametrize(
    "read",
    [
        "sys.stdin.read()",
        "''.join(sys.stdin)",
        "sys.stdin.buffer.read().decode()",
        "os.read(0, 100).decode()",
        "open(0).read()",
        "io.TextIOWrapper(io.BytesIO(os.read(0, os.fstat(0).st_size))).read()",
        "input()",
    ],
)
def test_input_is_read_in_every_usual_way(run: Any, read: str):
    ran = run(f"import io, os, sys\nprint({read}, end='')", "grüße")
    assert (ran.stdout, ran.stderr) == ("grüße", "")


def test_the_program_is_the_main_module(run: Any):
    code = """
import dataclasses, pickle, sys
@dataclasses.dataclass
class P:
    x: int
if __name__ == "__main__":
    print(sys.argv, __file__, pickle.loads(pickle.dumps(P(1))), sys.modules["__main__"].P is P)
"""
    assert run(code).stdout == "['main.py'] main.py P(x=1) True\n"


@pytest.mark.parametrize(
    ("code", "exit_code", "stderr"),
    [
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit(-1)", 255, ""),
        ("import sys; sys.exit(True)", 1, ""),
        ("import sys; sys.exit('no input')", 1, "no input\n"),
        ("import os; os._exit(7)", 7, ""),
        ("raise SystemExit", 0, ""),
        ("exit()", 0, ""),
        ("import sys; assert 'r' in sys.stdin.mode", 0, ""),
        (
            "import os, sys\nclass W:\n    closed = False\n"
            "    def flush(self): os.getpid()\nsys.stdout = W()",
            0,
            "",
        ),
        ("quit(3)", 3, ""),
    ],
)
def test_exit_codes_are_pythons(run: Any, code: str, exit_code: int, stderr: str):
    assert run(f"print('x', flush=True)\n{code}") == Ran("x\n", stderr, exit_code, [])


def test_an_exception_leaves_a_traceback_of_the_program_alone(run: Any):
    ran = run("def f():\n    return 1 // 0\nprint(1)\nf()")
    assert (ran.stdout, ran.exit_code, ran.told) == ("1\n", 1, [])
    assert ran.stderr.startswith('Traceback (most recent call last):\n  File "main.py", line 4')
    assert "harness" not in ran.stderr


def test_code_that_is_none_ends_with_a_syntax_error(run: Any):
    ran = run("print(1")
    assert ran.exit_code == 1
    assert "SyntaxError" in ran.stderr


def test_short_memory_is_told_on_the_channel(run: Any):
    ran = run("x = [0] * 2**50")
    assert (ran.exit_code, [told["error"]["type"] for told in ran.told]) == (1, ["MemoryError"])


def test_threads_are_joined_then_handlers_run_then_files_are_flushed(run: Any):
    code = """
import atexit, os, threading
go = threading.Event()
def late():
    go.wait()
    print("thread")
threading.Thread(target=late).start()
threading.Thread(target=threading.Event().wait, daemon=True).start()
atexit.register(print, "atexit")
file = os.fdopen(os.dup(1), "w")
file.write("file\\n")
print("main")
go.set()
"""
    assert run(code).stdout == "main\nthread\natexit\nfile\n"


def test_a_hostile_exception_hook_does_no_harm(run: Any):
    code = "import sys\nsys.excepthook = lambda *a: 1 / 0\nprint('x')\nraise ValueError"
    assert run(code) == Ran("x\n", "", 1, [])


def test_a_closed_stdout_ends_in_order(run: Any):
    assert run("import sys\nsys.stdout.close()").exit_code == 0
    assert run("import sys\nsys.stdout = None").exit_code == 0


def test_bytes_that_are_no_text_pass(run: Any):
    assert run("import sys\nsys.stdout.buffer.write(b'\\xff')").stdout == "\udcff"
