from pathlib import Path

from protocol.config_docs import config_markdown

CHECKOUT = Path(__file__).parent.parent.parent


def test_the_config_page_is_what_the_schema_says():
    page = (CHECKOUT / "docs" / "config.md").read_text()
    assert page == config_markdown(), "run: python -m protocol.config_docs > docs/config.md"


def test_every_key_says_what_it_means():
    rows = [line for line in config_markdown().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert all(row.split(" | ")[2].strip(" |") for row in rows)
