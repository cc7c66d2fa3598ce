"""A worker's own attempt to escape, with the control: unconfined, it does escape and says so."""

import json
import os
import socket
import subprocess
import sys

import pytest

from reward_workers.sandbox.harness import frames
from reward_workers.sandbox.harness.macos import worker as macos_worker


def refuse():
    raise PermissionError(1, "sysctl")


def test_unconfined_it_finds_that_it_can_read_a_hidden_file(tmp_path):
    with pytest.raises(macos_worker.EscapeError, match="could read /etc/passwd"):
        macos_worker.check(str(tmp_path), ["/etc/passwd"], refuse)


def test_what_is_refused_is_no_escape_and_the_next_deed_is_tried(tmp_path):
    missing = str(tmp_path / "missing")
    with pytest.raises(macos_worker.EscapeError, match="could list the folder above its own"):
        macos_worker.check(str(tmp_path), [missing], refuse)


def test_a_port_where_nobody_listens_was_reached_all_the_same(monkeypatch):
    class Caller(socket.socket):
        def connect(self, address):
            raise ConnectionRefusedError

    monkeypatch.setattr(macos_worker.socket, "socket", Caller)
    macos_worker.connect_to_a_port()


def test_no_trace_of_the_harness_is_left_in_the_search_path(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", ["/harness.zip", "/lib"])
    monkeypatch.setattr(sys, "argv", ["/harness.zip", "macos", "{}"])
    monkeypatch.setitem(sys.path_importer_cache, "/harness.zip", None)
    monkeypatch.chdir(tmp_path)
    macos_worker.settle({"harness": "/harness.zip", "packages": "/more", "tmp": str(tmp_path)})
    assert sys.path == ["/lib", "/more"]
    assert sys.argv == [""]
    assert "/harness.zip" not in sys.path_importer_cache
    assert os.getcwd() == str(tmp_path)


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has Seatbelt")
def test_where_it_cannot_be_confined_it_says_so_and_ends_without_a_word_heard(tmp_path):
    ours, theirs = socket.socketpair()
    settings = {
        "channel": theirs.fileno(),
        "tmp": str(tmp_path),
        "harness": "none",
        "packages": None,
        "limits": {},
    }
    program = (
        "import sys; from reward_workers.sandbox.harness.macos import worker;"
        "worker.main(sys.argv[1])"
    )
    with ours, theirs:
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(settings)], pass_fds=(theirs.fileno(),)
        )
        theirs.close()
        said = frames.receive(ours, frames.MAX_FROM_WORKER)
    assert said["fault"].startswith("SeatbeltError: sandbox_check is in none of")
    assert done.returncode == 1
