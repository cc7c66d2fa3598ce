import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from learner.run_page.app import run_page

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\u2028\x00\ud800"


def ask(app, path, query=""):
    """Status code, headers and body."""
    said = []
    environ = {"PATH_INFO": path, "QUERY_STRING": query}
    body = b"".join(app(environ, lambda status, headers: said.append((status, dict(headers)))))
    ((status, headers),) = said
    assert headers["Content-Length"] == str(len(body))
    return int(status[:3]), headers, body


def read(app, path, query=""):
    status, _, body = ask(app, path, query)
    return status, json.loads(body)


@pytest.fixture
def app(run_dir, write_rollouts, row):
    write_rollouts(
        1, row(prompt=HOSTILE, completion=HOSTILE), row(sample=1, status="reward_failed")
    )
    (run_dir / "metrics.jsonl").write_text('{"step": 1, "time": 2.0, "loss": NaN}\n')
    return run_page(run_dir)


@pytest.mark.parametrize(
    ("path", "query", "kind"),
    [
        ("/", "", "text/html; charset=utf-8"),
        ("/static/page.css", "", "text/css; charset=utf-8"),
        ("/api/run", "", "application/json"),
        ("/api/series", "", "application/json"),
        ("/api/rollouts", "", "application/json"),
        ("/api/rollout", "step=1&line=0", "application/json"),
        ("/api/rollout", "step=x", "application/json"),
        ("/nothing", "", "application/json"),
    ],
)
def test_every_answer_lets_nothing_in(app, path, query, kind):
    _, headers, _ = ask(app, path, query)
    assert headers["Content-Type"] == kind
    assert headers["Content-Security-Policy"] == CSP
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


def test_hostile_text_comes_out_as_json_and_as_it_was(app):
    _, body = read(app, "/api/rollouts", "limit=1")
    assert body["rows"][0]["completion"] == HOSTILE
    _, body = read(app, "/api/rollout", "step=1&line=0")
    assert (body["prompt"], body["completion"]) == (HOSTILE, HOSTILE)


def test_filters_are_taken_from_the_query(app):
    _, body = read(app, "/api/rollouts", "status=reward_failed&min_reward=0.5&text=171&step=1")
    assert [row["line"] for row in body["rows"]] == [1]
    for query in ("status=x", "finish_reason=length", "prompt_id=x", "max_reward=0", "text=%C3%A9"):
        assert read(app, "/api/rollouts", query)[1]["rows"] == []


def test_pages_follow_each_other(app):
    first = read(app, "/api/rollouts", "limit=1")[1]
    second = read(app, "/api/rollouts", f"limit=1&before={first['next']}")[1]
    assert [page["rows"][0]["line"] for page in (first, second)] == [0, 1]
    assert second["next"] is None


def test_numbers_that_are_not_finite_are_null(app):
    assert read(app, "/api/series", "points=5")[1]["columns"] == {"step": [1.0], "time": [2.0]}


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/run", "x=1"),
        ("/api/series", "points=0"),
        ("/api/series", "after=-1"),
        ("/api/series", "points=1000000"),
        ("/api/rollouts", "limit=501"),
        ("/api/rollouts", "limit=0"),
        ("/api/rollouts", "step=one"),
        ("/api/rollouts", "min_reward=nan"),
        ("/api/rollouts", "before=x"),
        ("/api/rollout", ""),
        ("/api/rollout", "step=1"),
        ("/api/rollout", "step=1&line=-1"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(app, path, query):
    status, body = read(app, path, query)
    assert status == 400
    assert list(body) == ["error"]
    assert body["error"]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("", ""),
        ("/static/", ""),
        ("/static/../app.py", ""),
        ("/static/..%2fapp.py", ""),
        ("/index.html", ""),
        ("/api/", ""),
        ("/api/rollout", "step=1&line=2"),
        ("/api/rollout", "step=9&line=0"),
    ],
)
def test_what_is_not_there_is_not_found(app, path, query):
    status, body = read(app, path, query)
    assert (status, list(body)) == (404, ["error"])


def test_a_folder_that_holds_only_a_config_is_shown(run_dir):
    app = run_page(run_dir)
    for path in ("/api/run", "/api/series", "/api/rollouts"):
        assert read(app, path)[0] == 200


def test_many_may_ask_at_once(app):
    asked = [("/api/run", ""), ("/api/series", ""), ("/api/rollouts", "text=1")] * 20
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda each: read(app, *each), asked))
    assert [status for status, _ in found] == [200] * 60
    assert found[2:60:3] == [found[2]] * 20


def test_neither_mlx_nor_zmq_is_loaded():
    code = (
        "import sys; import learner.run_page.view; "
        "sys.exit(any(name.partition('.')[0] in ('mlx', 'mlx_lm', 'zmq') for name in sys.modules))"
    )
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
