"""A real browser on the real server: what it asked for, and what went wrong in it, is kept."""

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

from learner.run_page.app import run_page
from protocol.http_server import HttpServer

CHROMIUM = shutil.which("chromium")
"""Debian's; on a Mac Playwright brings its own."""
ARGUMENTS = (
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
)
REPORT_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""

Row = dict[str, Any]


class Stage:
    """One server for all tests of a file, as its end takes half a second; each brings an app."""

    def __init__(self) -> None:
        self.app: WSGIApplication | None = None
        self.server = HttpServer("127.0.0.1", 0, self._answer)

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        assert self.app is not None
        return self.app(environ, start)


class Visit:
    """A page of the browser, and a run folder that is served to it."""

    def __init__(self, page: Page, run_dir: Path, stage: Stage) -> None:
        self.page = page
        self.stage = stage
        self.run_dir = run_dir
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.server: HttpServer | None = None
        self.origin = ""
        page.add_init_script(REPORT_VIOLATIONS)
        page.on("request", self._asked)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text))

    def serve(self, live: Callable[[], Row] | None = None) -> None:
        self.stage.app = run_page(self.run_dir, live)
        self.origin = f"http://127.0.0.1:{self.stage.server.port}"

    def serve_alone(self, port: int = 0) -> None:
        """By a server that may be closed."""
        self.server = HttpServer("127.0.0.1", port, run_page(self.run_dir))
        self.origin = f"http://127.0.0.1:{self.server.port}"

    def open(self, address: str = "") -> Page:
        if not self.origin:
            self.serve()
        self.page.goto(f"{self.origin}/{address}")
        return self.page

    def num_polls(self) -> int:
        return sum(url == f"{self.origin}/api/run" for url in self.requests)

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None

    def _asked(self, request: Request) -> None:
        self.requests.append(request.url)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None and sys.platform == "linux":
        pytest.fail("the run page's tests need chromium: make test-tools")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.server.close()


@pytest.fixture
def visit(browser: Browser, stage: Stage, run_dir: Path) -> Iterator[Visit]:
    """At its end: nothing asked of another host, no word in the console, no policy violated."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(8000)
    visit = Visit(page, run_dir, stage)
    yield visit
    violations = page.evaluate("window.violations")
    page.close()
    visit.close()
    assert [url for url in visit.requests if not url.startswith((visit.origin, "data:,"))] == []
    assert visit.complaints == []
    assert violations == []


def metrics_row(step: int, **changes: Any) -> Row:
    """The figures of a step that the page's own charts show."""
    row: Row = {
        "step": step,
        "policy_version": step,
        "time": 1.7e9 + 60 * step,
        "reward/mean": step / 10,
        "reward/std": 0.5,
        "reward/exact_match/mean": step / 10,
        "reward/length/mean": 0.25,
        "entropy": 1 + step / 100,
        "mismatch_kl": 1e-5,
        "kl_ref": None,
        "seconds/step": 2.0,
        "seconds/wait": 1.0,
        "seconds/train": 0.75,
        "seconds/publish": 0.25,
        "skipped": "",
    }
    return {**row, **changes}


@pytest.fixture
def train(run_dir: Path) -> Callable[..., None]:
    """Append the rows of steps, or of rows given, to metrics.jsonl."""

    def append(*rows: int | Row) -> None:
        with (run_dir / "metrics.jsonl").open("a") as file:
            for row in rows:
                file.write(json.dumps(metrics_row(row) if isinstance(row, int) else row) + "\n")

    return append
