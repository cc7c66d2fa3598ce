"""The pages that a stranger reads first name files that exist."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "protocol/README.md"])
def test_every_link_leads_to_a_file(page):
    text = (CHECKOUT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    folder = (CHECKOUT / page).parent
    assert [link for link in links if not (folder / link).exists()] == []


def test_the_readmes_tree_names_what_is_there():
    tree = (CHECKOUT / "README.md").read_text().split("## The tree")[1].split("```")[1]
    folder, places = "", []
    for line in tree.strip().splitlines():
        if not line.startswith(" "):
            folder = line.split()[0]
        names = re.findall(r"[\w/]+(?:\.py|\.md|/)(?=[ ,]|$)", line)
        places += [(CHECKOUT / name, CHECKOUT / folder / name) for name in names]
    assert len(places) > 30
    assert [place for place, inside in places if not (place.exists() or inside.exists())] == []
