"""The pictures of the run page in docs/, by a real browser on the real server.

    python -m bench.screenshots RUN_DIR [--open STEP:LINE | --curves NAME]

RUN_DIR is any run folder, such as `mlx-train --config configs/quickstart.yaml` makes in a minute.
Needs Chromium (`make test-tools`) and the extra `dev`.
"""

import argparse
import shutil
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, sync_playwright

from learner.run_page.app import run_page
from protocol.http_server import HttpServer

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ("--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZE = (1440, 1010)
DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    """Take all four pictures, or that of a run's curves alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--open", default="3:1", metavar="STEP:LINE", help="which rollout is open")
    parser.add_argument("--curves", metavar="NAME", help="only the curves, as docs/NAME.png")
    given = parser.parse_args()
    server = HttpServer("127.0.0.1", 0, run_page(given.run_dir))
    views = {"run-page": "#run", "rollouts": f"#rollouts?open={given.open}"}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        if given.curves:
            url = f"http://127.0.0.1:{server.port}/#run"
            take(browser, url, "light", DOCS / f"{given.curves}.png")
            views.clear()
        for name, address in views.items():
            for scheme in SCHEMES:
                path = DOCS / f"{name}-{scheme}.png"
                take(browser, f"http://127.0.0.1:{server.port}/{address}", scheme, path)
        browser.close()
    server.close()


def take(browser: Browser, url: str, scheme: Literal["light", "dark"], path: Path) -> None:
    """One picture of the page, once it has all it asks for."""
    width, height = SIZE
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(url)
    page.locator(".uplot canvas, .panel .token").first.wait_for()
    page.wait_for_load_state("networkidle")
    page.screenshot(path=path)
    page.close()
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
