"""Rows that are decoded in a batch beside the plain forward passes that they should equal."""

from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from actors.batches.prompts import Prompts
from protocol.policy import logits


@dataclass
class Decoded:
    """A batch, and the whole text of each of its rows."""

    model: Any
    batch: Any
    texts: list[list[int]] = field(default_factory=list)

    def join(self, prompts, prompt_of_row, part=1000):
        """Compute prompts in parts; let rows join."""
        token_ids = [np.array(prompt, np.int32) for prompt in prompts]
        entering = Prompts(self.model, self.batch.open(len(prompts)), token_ids, 0)
        while entering.remaining:
            entering.advance(part)
        self.batch.join(entering, prompt_of_row)
        self.texts += [list(prompts[index]) for index in prompt_of_row]
        return entering

    def join_again(self, entering, prompt_of_row):
        """More rows of prompts that are computed."""
        self.batch.join(entering, prompt_of_row)
        self.texts += [entering.token_ids_PT[index].tolist() for index in prompt_of_row]

    def keep(self, indices):
        """Let all other rows leave."""
        self.batch.keep(indices)
        self.texts = [self.texts[index] for index in indices]

    def check(self, steps=1):
        """Each step's logits are those of forward passes over the texts; then each gets a token."""
        for _ in range(steps):
            newest = mx.array([text[-1] for text in self.texts], dtype=mx.int32)
            found = np.array(self.batch.logits(newest))
            wanted = [logits(self.model, mx.array([text]))[0, -1] for text in self.texts]
            np.testing.assert_allclose(found, np.array(mx.stack(wanted)), atol=1e-4, rtol=0)
            for row, text in enumerate(self.texts):
                text.append((7 * row + 3 * len(text)) % 40)


def whole_life(decoded):
    """Rows join, wait, leave and come back, with prompts of one token and of many."""
    first = decoded.join([range(6, 20), range(10, 24)], [0, 0, 1], part=10)
    decoded.check(2)
    decoded.join([[9]], [0, 0])
    decoded.check(2)
    decoded.join([range(5, 36)], [0], part=4)
    decoded.check()
    decoded.keep([1, 3, 5])
    decoded.check(2)
    decoded.join_again(first, [1, 1, 0])
    decoded.check(2)
    decoded.keep([3, 4])
    decoded.check(9)
    decoded.keep([])
    decoded.join([[9]], [0])
    decoded.check()
    decoded.join([[3, 4], [5, 6]], [1, 0])
    decoded.check(2)


@pytest.fixture
def decoded():
    """(model, batch) -> what is decoded in it."""
    return Decoded


@pytest.fixture
def check_whole_life():
    """(model, batch) -> checks a sequence of everything that an engine does."""
    return lambda model, batch: whole_life(Decoded(model, batch))
