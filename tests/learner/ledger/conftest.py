"""The shadow ledger and the story, for every test of this folder."""

import pytest

for name in ("shadow", "account", "world", "story", "history"):
    pytest.register_assert_rewrite(f"tests.learner.ledger.{name}")

from tests.learner.ledger.shadow import Shadow  # noqa: E402
from tests.learner.ledger.story import Story  # noqa: E402


@pytest.fixture
def shadow_type():
    return Shadow


@pytest.fixture
def story():
    return Story
