import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, expect

from learner.run_page import app

STATIC = Path(app.__file__).parent / "static"
ATTACK = (
    "<script>window.pwned=1</script><img src=x onerror='window.pwned=1'></textarea></title>"
    "<svg onload=window.pwned=1><a href='javascript:window.pwned=1'>x</a>"
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>\u202egnp.exe\u2066\x1b[31m\u200b"
)
SHOWN_END = "⟨U+202E⟩gnp.exe⟨U+2066⟩⟨U+001B⟩[31m⟨U+200B⟩"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
"""A word whose spelling needs the invisible non-joiner."""
MADE_BY_TEXT = "script:not([src]), img, svg, iframe, textarea, [onerror], [onload]"


def test_the_attack_works_where_nobody_escapes_it(browser: Browser):
    page = browser.new_page()
    page.set_content("<body></body>")
    page.evaluate("text => document.body.innerHTML = text", ATTACK)
    page.wait_for_function("window.pwned === 1")
    page.close()


@pytest.fixture
def hostile(
    visit: Any,
    run_dir: Path,
    write_rollouts: Callable[..., Any],
    row: Callable[..., dict[str, Any]],
    train: Callable[..., None],
) -> Any:
    """A run in which every text is an attack."""
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    config["run"]["name"] = config["model"]["path"] = config["algorithm"]["name"] = ATTACK
    config["rewards"] = [{"name": ATTACK}, {"name": "__proto__"}, {"name": "constructor"}]
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    keys = {f"reward/{reward['name']}/mean": 0.5 for reward in config["rewards"]}
    train({"step": 1, "time": 1.0, "reward/mean": 1.0, **keys, ATTACK: 1.0, "__proto__": 2.0})
    (run_dir / "eval.jsonl").write_text(
        json.dumps({"step": 1, "evaluator": ATTACK, ATTACK: 0.5}) + "\n"
    )
    (run_dir / "logs").mkdir()
    warning = f"2026-11-23 21:35:45,564 WARNING {ATTACK}\n"
    (run_dir / "logs" / "learner.log").write_text(warning)
    texts = dict.fromkeys(("prompt", "completion", "actor", "status", "prompt_id"), ATTACK)
    facts = {ATTACK: {ATTACK: ATTACK}}
    rewards = {ATTACK: 1.0, "__proto__": 0.5}
    write_rollouts(1, row(0, **texts, rewards=rewards, facts=facts, reward=None, detail=ATTACK))
    peer = {"role": ATTACK, "host": ATTACK, "state": ATTACK, "figures": {ATTACK: 1.0}}
    about = {"policy_version": 1, "heard_seconds_ago": 0.1, "is_connected": True}
    visit.serve(lambda: {"peers": [{"name": ATTACK, **peer, **about}], "groups": {ATTACK: 1}})
    return visit


def test_no_text_of_a_run_becomes_markup(hostile: Any):
    page = hostile.open()
    expect(page.locator("h1")).to_contain_text(SHOWN_END)
    expect(page.get_by_label("Last warnings")).to_contain_text(SHOWN_END)
    expect(page.get_by_label("Peers")).to_contain_text(SHOWN_END)
    expect(page.locator('[data-chart="Reward"] .legend')).to_contain_text("__proto__0.500")
    page.get_by_label("Figure to chart").select_option("__proto__")
    expect(page.locator('[data-chart="Any figure"] .legend')).to_have_text("2")
    page.get_by_text("Configuration").click()
    expect(page.locator(".config")).to_contain_text("<script>window.pwned=1</script>")
    assert page.evaluate("window.pwned") is None
    assert page.locator(MADE_BY_TEXT).count() == 0


def test_no_text_of_a_rollout_becomes_markup(hostile: Any):
    page = hostile.open("#rollouts")
    cells = page.locator("table.rollouts tbody td.text")
    expect(cells).to_have_text([re.compile(re.escape(SHOWN_END))] * 2)
    page.locator("table.rollouts tbody tr").click()
    panel = page.get_by_label("Rollout", exact=True)
    expect(panel.locator(".text-block")).to_contain_text(SHOWN_END)
    expect(panel.locator(".verdict .detail")).to_contain_text(SHOWN_END)
    expect(panel.locator(".rewards")).to_contain_text("__proto__0.500")
    expect(panel.locator(".group td.text")).to_contain_text(SHOWN_END)
    page.get_by_role("button", name="this prompt in all steps").click()
    expect(page.locator(".chip")).to_contain_text("<script>")
    assert page.evaluate("window.pwned") is None
    assert page.locator(MADE_BY_TEXT).count() == 0


def test_an_address_cannot_bring_markup_either(hostile: Any):
    page = hostile.open("#rollouts?text=<img src=x onerror=window.pwned=1>&status=<svg>&open=1:0")
    expect(page.get_by_label("Text", exact=True)).to_have_value(
        "<img src=x onerror=window.pwned=1>"
    )
    expect(page.locator("#rollouts-view")).to_contain_text("No rollout is like this.")
    assert page.evaluate("window.pwned") is None


def test_hidden_characters_are_spelt_out_and_joiners_of_words_and_emoji_stay(visit: Any):
    page = visit.open()
    script = "async text => (await import('/static/visible.js')).visible(text)"
    for text, shown in [
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\u2067x\u2069", "⟨U+2067⟩x⟨U+2069⟩"),
        ("\x00\x1b\x7f\x85", "⟨U+0000⟩⟨U+001B⟩⟨U+007F⟩⟨U+0085⟩"),
        ("\u200b\ufeff\u00ad", "⟨U+200B⟩⟨U+FEFF⟩⟨U+00AD⟩"),
        ("\U000e0041", "⟨U+E0041⟩"),
        ("a\u200d b", "a⟨U+200D⟩ b"),
        (PERSIAN, PERSIAN),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("\ue0c0", "⟨U+E0C0⟩"),
        ("line\n\ttab", "line\n\ttab"),
    ]:
        assert page.evaluate(script, text) == shown


def test_no_script_of_the_page_can_make_markup_of_text():
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser"
        r"|setTimeout\(['\"`]|https?://"
    )
    scripts = sorted(STATIC.glob("*.js"))
    assert len(scripts) > 10
    found = {path.name: forbidden.findall(path.read_text()) for path in scripts}
    assert {name: words for name, words in found.items() if words} == {}


def test_the_page_holds_no_inline_script_or_style_and_short_files():
    html = (STATIC / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", html) == []
    lengths = {path.name: len(path.read_text().splitlines()) for path in STATIC.glob("*.*")}
    assert {name: n for name, n in lengths.items() if n >= 400} == {}


def test_the_vendored_chart_library_is_what_its_readme_says():
    vendor = STATIC / "vendor" / "uplot"
    told = dict(
        re.findall(r"^\| (\S+) \| `([0-9a-f]{64})` \|$", (vendor / "README.md").read_text(), re.M)
    )
    kept = [path for path in vendor.iterdir() if path.name != "README.md"]
    assert told == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}
