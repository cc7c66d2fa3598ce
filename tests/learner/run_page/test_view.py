import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from learner.run_page.app import run_page
from learner.run_page.view import url_of
from protocol.http_server import HttpServer

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-c", "from learner.run_page.view import main; main()"]


def start(*arguments):
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_is_shown_until_a_signal_ends_it(run_dir, number):
    with start(run_dir, "--port", "0") as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found is not None
        with urllib.request.urlopen(f"{found[0]}api/run", timeout=20) as answer:
            assert json.load(answer)["name"] == "mine"
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_what_is_no_run_folder_is_the_users_mistake(tmp_path):
    for folder, sentence in (
        (tmp_path / "none", "there is no run folder"),
        (tmp_path, "is no run folder, it has no config.yaml: give one"),
    ):
        with start(folder, "--port", "0") as process:
            _, errors = process.communicate(timeout=20)
        assert process.returncode == 2
        assert errors.startswith("error: ")
        assert sentence in errors
        assert errors.count("\n") == 1


def test_a_taken_port_is_the_users_mistake(run_dir):
    server = HttpServer("127.0.0.1", 0, run_page(run_dir))
    with start(run_dir, "--port", server.port) as process:
        _, errors = process.communicate(timeout=20)
    server.close()
    assert process.returncode == 2
    assert f"port {server.port}" in errors
    assert "set --bind or --port" in errors


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:5/"),
        ("::", "http://[::1]:5/"),
        ("10.0.0.1", "http://10.0.0.1:5/"),
    ],
)
def test_the_url_is_one_that_a_browser_here_can_open(bind, url):
    assert url_of(bind, 5) == url
