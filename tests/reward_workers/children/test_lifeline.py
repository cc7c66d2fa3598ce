"""A process that ends with another although Python's lock is held all the time."""

import signal
import socket
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import fcntl, os, re, sys, time
    import protocol.process
    protocol.process.die_with_parent = lambda: None  # as if the system had none
    number, lifeline = int(sys.argv[1]), sys.argv[2] == "lifeline"
    if lifeline:
        from reward_workers.children.lifeline import end_with
        end_with(number)
    print("ready", flush=True)
    re.match("(a+)+$", "a" * 60 + "b")
"""


@pytest.mark.parametrize("lifeline", [True, False])
def test_a_regular_expression_without_end_is_ended_by_the_lifeline_alone(lifeline):
    ours, theirs = socket.socketpair()
    program = textwrap.dedent(PROGRAM)
    arguments = [str(theirs.fileno()), "lifeline" if lifeline else "none"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        pass_fds=[theirs.fileno()],
    )
    assert process.stdout is not None
    with process, process.stdout, theirs, ours:
        assert process.stdout.readline() == b"ready\n"
        ours.close()
        try:
            ended = process.wait(timeout=2) == signal.SIGIO
        except subprocess.TimeoutExpired:
            ended = False
        finally:
            process.kill()
    assert ended == lifeline
