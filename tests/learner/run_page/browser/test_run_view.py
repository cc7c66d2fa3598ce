import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

POLL_MS = 2100


def chart(page: Page, title: str) -> Any:
    return page.locator(f'[data-chart="{title}"] .plot')


def legend(page: Page, title: str) -> Any:
    return page.locator(f'[data-chart="{title}"] .legend')


def unsmoothed(page: Page) -> None:
    page.get_by_label("Smoothing").fill("0")


def wait_for_news(page: Page, num_polls: int = 1) -> None:
    for _ in range(num_polls):
        with page.expect_response(lambda response: "/api/series" in response.url):
            page.clock.run_for(POLL_MS)


def let_polls_pass(page: Page) -> None:
    """Time for three polls, and for the answers that the second and third would wait for."""
    for _ in range(3):
        page.clock.run_for(POLL_MS)
        page.evaluate("fetch('/static/main.js').then((answer) => answer.text())")


def test_curves_move_while_the_run_goes_on(visit: Any, train: Callable[..., None]):
    train(1, 2, 3)
    visit.page.clock.install()
    page = visit.open()
    unsmoothed(page)
    expect(legend(page, "Reward")).to_have_text("reward0.300exact_match0.300length0.250")
    train(4)
    wait_for_news(page)
    expect(legend(page, "Reward")).to_have_text("reward0.400exact_match0.400length0.250")
    expect(chart(page, "Entropy")).to_have_attribute("aria-label", "Entropy: entropy 1.040")
    expect(page.locator("header")).to_contain_text("4 / 10")


def test_a_resumed_run_takes_rows_back(visit: Any, train: Callable[..., None], run_dir: Path):
    train(1, 2, 3, 4)
    visit.page.clock.install()
    page = visit.open()
    unsmoothed(page)
    expect(legend(page, "Entropy")).to_have_text("1.040")
    kept = (run_dir / "metrics.jsonl").read_text().splitlines(keepends=True)[:2]
    (run_dir / "metrics.jsonl").write_text("".join(kept))
    wait_for_news(page)
    expect(legend(page, "Entropy")).to_have_text("1.020")


def test_an_evaluation_of_a_step_that_is_known_already_appears(
    visit: Any, train: Callable[..., None], run_dir: Path
):
    train(1, 2)
    visit.page.clock.install()
    page = visit.open()
    expect(page.locator('[data-chart="Held-out evaluation"] .empty')).to_be_visible()
    row = {"step": 2, "policy_version": 2, "evaluator": "accuracy", "n": 9, "accuracy": 0.75}
    row |= {"accuracy_low": 0.4, "accuracy_high": 0.9}  # no curves of their own
    (run_dir / "eval.jsonl").write_text(json.dumps({**row, "time": 1.0}) + "\n")
    wait_for_news(page)
    expect(legend(page, "Held-out evaluation")).to_have_text("accuracy0.750")
    expect(page.locator(".glance")).to_contain_text("Held-out accuracy0.750")


def test_the_pointer_shows_one_steps_figures_in_every_chart(visit: Any, train: Callable[..., None]):
    train(1, 2, 3, 4)
    page = visit.open()
    unsmoothed(page)
    over = page.locator('[data-chart="Reward"] .u-over')
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    expect(legend(page, "Reward")).to_contain_text("reward0.200")
    expect(legend(page, "Entropy")).to_have_text("1.020")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] - 90)
    expect(legend(page, "Entropy")).to_have_text("1.040")


def test_smoothing_is_a_mean_without_the_starts_pull_to_zero(
    visit: Any, train: Callable[..., None]
):
    train(1, 2)
    page = visit.open()
    page.get_by_label("Smoothing").fill("0.5")
    # weights 0.5 and 0.25 of rows 2 and 1: (0.5 * 0.2 + 0.25 * 0.1) / 0.75 = 0.1667
    expect(legend(page, "Reward")).to_contain_text("reward0.167")


def test_any_column_can_be_charted(visit: Any, train: Callable[..., None]):
    train(1, 2)
    page = visit.open()
    unsmoothed(page)
    page.get_by_label("Figure to chart").select_option("seconds/publish")
    expect(legend(page, "Any figure")).to_have_text("0.250")


def test_where_the_time_goes_is_said_in_words(visit: Any, train: Callable[..., None]):
    train(1, 2)
    page = visit.open()
    expect(page.locator(".section-note")).to_contain_text("waits for rollouts 50 % of the time")
    expect(legend(page, "Seconds of a step")).to_have_text(
        "training0.750waiting for rollouts1publishing0.250other0"
    )


def test_the_time_axis_and_a_zoom_draw_without_a_complaint(visit: Any, train: Callable[..., None]):
    train(1, 2, 3, 4)
    page = visit.open()
    page.get_by_role("button", name="Time").click()
    box = page.locator('[data-chart="Reward"] .u-over').bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 50)
    page.mouse.up()
    page.get_by_role("button", name="Show all").click()
    expect(page.get_by_role("button", name="Show all")).to_be_hidden()


def test_a_run_without_a_step_says_what_is_missing(visit: Any):
    page = visit.open()
    expect(page.locator('[data-chart="Reward"] .empty')).to_have_text(
        "The first figures come with the first step."
    )
    expect(page.locator("header")).to_contain_text("0 / 10")
    page.get_by_role("link", name="Rollouts").click()
    expect(page.locator("#rollouts-view")).to_contain_text("No rollouts yet.")


def test_a_finished_run_is_said_to_be_and_asked_for_once(
    visit: Any, train: Callable[..., None], run_dir: Path
):
    train(1, 2)
    (run_dir / "summary.json").write_text("{}")
    visit.page.clock.install()
    page = visit.open()
    expect(page.locator(".state")).to_have_text("Finished")
    expect(page.get_by_label("Peers")).to_contain_text("The run is complete")
    let_polls_pass(page)
    assert visit.num_polls() == 1


def test_a_hidden_page_asks_nothing_until_it_is_seen_again(visit: Any, train: Callable[..., None]):
    train(1)
    visit.page.clock.install()
    page = visit.open()
    expect(page.locator(".state")).to_have_text("From its folder")
    page.evaluate("Object.defineProperty(document, 'hidden', {configurable: true, value: true})")
    let_polls_pass(page)
    assert visit.num_polls() == 1
    page.evaluate("Object.defineProperty(document, 'hidden', {configurable: true, value: false})")
    with page.expect_response("**/api/run"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_a_learner_that_goes_is_missed_and_one_that_comes_back_is_found(
    visit: Any, train: Callable[..., None]
):
    train(1)
    visit.serve_alone()
    visit.page.clock.install()
    page = visit.open()
    unsmoothed(page)
    expect(legend(page, "Entropy")).to_have_text("1.010")
    port = visit.server.port
    visit.close()
    page.clock.run_for(POLL_MS)
    expect(page.locator("#banner")).to_contain_text("Connection lost")
    expect(page.locator(".state")).to_have_text("Connection lost")
    train(2)
    visit.serve_alone(port)
    visit.complaints = [text for text in visit.complaints if "ERR_CONNECTION" not in text]
    wait_for_news(page)
    expect(page.locator("#banner")).to_be_hidden()
    expect(legend(page, "Entropy")).to_have_text("1.020")


def test_peers_say_what_they_do_now(visit: Any, train: Callable[..., None]):
    train(1)
    peer = {"name": "actor-a", "role": "actor", "host": "studio.local", "state": "generating"}
    told = {"policy_version": 3, "heard_seconds_ago": 0.5, "is_connected": True}
    figures = {"tokens_per_second": 1234.5, "memory/peak_bytes": 2.5e9}
    gone = {**peer, **told, "name": "actor-b", "is_connected": False, "figures": {}}
    peers = [{**peer, **told, "figures": figures}, gone]
    visit.serve(lambda: {"peers": peers, "groups": {"ready": 5}})
    page = visit.open()
    rows = page.get_by_label("Peers").locator("tbody tr")
    expect(rows.nth(0)).to_contain_text("studio.localgenerating30.50 s ago")
    expect(rows.nth(0)).to_contain_text("tokens per second1,235memory/peak bytes2.5 GB")
    expect(rows.nth(1)).to_contain_text("not connected")
    expect(page.locator(".state")).to_have_text("Live")
