from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

Row = dict[str, Any]


def rows(page: Page) -> Any:
    return page.locator("table.rollouts tbody tr")


def panel(page: Page) -> Any:
    return page.get_by_label("Rollout", exact=True)


@pytest.fixture
def reader(visit: Any, write_rollouts: Callable[..., Any], row: Callable[..., Row]) -> Any:
    """Three steps: a truncated one, a failed one, and a group of two."""
    write_rollouts(1, row(1, completion="first words", finish_reason="length", reward=0.5))
    failed = {"status": "sandbox_error", "reward": None, "rewards": {"exact_match": None}}
    write_rollouts(2, row(2, completion="second", logprobs=None, **failed))
    facts = {"exact_match": {"verdict": "wrong_answer", "passed": 2}}
    write_rollouts(
        3, row(3), row(3, 1, completion="Third try", reward=0.0, advantage=-1.5, facts=facts)
    )
    return visit


def test_each_filter_finds_what_is_like_it(reader: Any):
    page = reader.open("#rollouts")
    for label, value, found in [
        ("Text", "THIRD", ["Third try"]),
        ("Step", "2", ["second"]),
        ("Lowest reward", "0.9", ["171"]),
        ("Highest reward", "0.5", ["Third try", "first words"]),
        ("Status", "sandbox_error", ["second"]),
        ("Finish reason", "length", ["first words"]),
    ]:
        expect(rows(page)).to_have_count(4)
        field = page.get_by_label(label, exact=True)
        if label in {"Status", "Finish reason"}:
            field.select_option(value)
        else:
            field.fill(value)
        expect(rows(page).locator("td:last-child")).to_have_text(found)
        page.get_by_role("button", name="Clear").click()


def test_filters_stand_in_the_address(reader: Any):
    page = reader.open("#rollouts?max_reward=0.5&text=words")
    expect(rows(page).locator("td:last-child")).to_have_text(["first words"])
    expect(page.get_by_label("Highest reward")).to_have_value("0.5")
    page.get_by_label("Step", exact=True).fill("1")
    page.wait_for_url("**/#rollouts?step=1&max_reward=0.5&text=words")
    page.reload()
    expect(page.get_by_label("Step", exact=True)).to_have_value("1")
    expect(rows(page)).to_have_count(1)


def test_a_rollout_opens_with_all_that_is_known_of_it(reader: Any):
    page = reader.open("#rollouts")
    rows(page).nth(1).click()
    expect(panel(page)).to_contain_text("Step 3, sample 1")
    expect(panel(page).locator(".panel-figures")).to_have_text(
        "Reward0Advantage\u22121.500Tokens4Endstop"
    )
    expect(panel(page).locator(".rewards")).to_contain_text("verdictwrong_answerpassed2")
    expect(panel(page).locator(".text-block")).to_have_text("80+91=")
    expect(panel(page).locator(".token")).to_have_count(4)
    expect(panel(page).locator(".group tbody tr")).to_have_count(2)
    panel(page).locator(".group tbody tr").first.click()
    expect(panel(page)).to_contain_text("Step 3, sample 0")
    assert page.url.endswith("#rollouts?open=3%3A0")


def test_tokens_are_shaded_by_what_was_chosen_and_say_their_figures(reader: Any):
    page = reader.open("#rollouts?open=3:0")
    tokens = panel(page).locator(".token")

    def strengths() -> list[str]:
        return [token.evaluate("t => t.style.getPropertyValue('--strength')") for token in both]

    expect(tokens).to_have_count(4)
    both = [tokens.nth(1), tokens.nth(3)]
    # 0.25 and 2 nats of 5, on a scale that ends at 60 %
    assert strengths() == ["3%", "24%"]
    page.get_by_role("button", name="Importance ratio").click()
    # log-ratios -0.25 and +1 over log 2: 0.36 below, 1 above
    assert strengths() == ["22%", "60%"]
    expect(both[0]).to_have_class("token low")
    expect(both[1]).to_have_class("token high")
    tokens.nth(3).hover()
    expect(panel(page).locator(".token-facts")).to_contain_text("when sampled\u22122 nats, 14 %")
    expect(panel(page).locator(".token-facts")).to_contain_text("ratio2.718")
    expect(panel(page).locator(".token-facts")).to_contain_text("version4")


def test_a_rollout_without_a_reward_says_why(reader: Any):
    page = reader.open("#rollouts?open=2:0")
    expect(panel(page).locator(".verdict")).to_contain_text("sandbox error")
    page.get_by_role("button", name="Importance ratio").click()
    expect(panel(page).locator(".token-legend")).to_contain_text("Not recorded")


def test_keys_walk_search_and_close(reader: Any):
    page = reader.open("#rollouts")
    expect(rows(page)).to_have_count(4)
    page.keyboard.press("j")
    expect(panel(page)).to_contain_text("Step 3, sample 0")
    page.keyboard.press("j")
    expect(panel(page)).to_contain_text("Step 3, sample 1")
    page.keyboard.press("j")
    expect(panel(page)).to_contain_text("Step 2, sample 0")
    page.keyboard.press("k")
    expect(panel(page)).to_contain_text("Step 3, sample 1")
    expect(rows(page).nth(1)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("/")
    page.keyboard.type("jk")
    expect(page.get_by_label("Text", exact=True)).to_have_value("jk")
    page.keyboard.press("Escape")
    expect(panel(page)).to_be_visible()
    page.keyboard.press("Escape")
    expect(panel(page)).to_be_hidden()


def test_the_browsers_way_back_closes_what_was_opened(reader: Any):
    page = reader.open("#rollouts")
    rows(page).first.click()
    expect(panel(page)).to_be_visible()
    page.go_back()
    expect(panel(page)).to_be_hidden()
    page.go_back()


def test_a_link_to_no_rollout_says_so(reader: Any):
    page = reader.open("#rollouts?open=9:9")
    expect(panel(page)).to_contain_text("This rollout could not be read")
    reader.complaints = [text for text in reader.complaints if "404" not in text]


def test_one_prompt_is_followed_through_the_steps(reader: Any):
    page = reader.open("#rollouts?open=3:0")
    page.get_by_role("button", name="this prompt in all steps").click()
    expect(rows(page)).to_have_count(2)
    page.get_by_role("button", name="All prompts").click()
    expect(rows(page)).to_have_count(4)


def test_more_rows_come_by_pages(
    visit: Any, write_rollouts: Callable[..., Any], row: Callable[..., Row]
):
    write_rollouts(1, *[row(0, n) for n in range(70)])
    write_rollouts(2, *[row(1, n) for n in range(50)])
    page = visit.open("#rollouts")
    expect(rows(page)).to_have_count(50)
    expect(page.locator(".count")).to_have_text("50 of 120 rollouts, newest first; steps 1 to 2")
    page.get_by_role("button", name="More").click()
    expect(rows(page)).to_have_count(100)
    page.get_by_role("button", name="More").click()
    expect(rows(page)).to_have_count(120)
    expect(page.get_by_role("button", name="More")).to_be_hidden()


def test_a_long_search_goes_on_by_itself_and_can_be_stopped(visit: Any):
    asked: list[str] = []

    def answer(route: Any) -> None:
        asked.append(route.request.url)
        if len(asked) == 3:
            return  # never answered: the search hangs here until it is stopped
        body = {"rows": [], "next": f"{90 - len(asked)}.0", "scanned_to": 90 - len(asked)}
        about = {"is_partial": True, "num_rollouts": 10**6, "is_counted": False, "steps": [1, 90]}
        route.fulfill(json={**body, **about})

    visit.page.route("**/api/rollouts*", answer)
    page = visit.open("#rollouts?text=needle")
    expect(page.locator(".count")).to_have_text("0 found, looking through step 88…")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".count")).to_have_text("0 found down to step 88")
    expect(page.get_by_role("button", name="Search on")).to_be_visible()
    assert ["before=" in url for url in asked] == [False, True, True]


def test_newer_rollouts_are_offered_and_not_pushed(
    visit: Any,
    write_rollouts: Callable[..., Any],
    row: Callable[..., Row],
    train: Callable[..., None],
):
    write_rollouts(1, row(0))
    train(1)
    visit.page.clock.install()
    page = visit.open("#rollouts")
    expect(rows(page)).to_have_count(1)
    write_rollouts(2, row(1))
    train(2)
    with page.expect_response(lambda response: "/api/series" in response.url):
        page.clock.run_for(2100)
    page.get_by_role("button", name="Show newer").click()
    expect(rows(page)).to_have_count(2)
