"""The prompts of a run: read, checked, tokenized, and put in an order without end."""

import asyncio
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

from learner.data.sources import Prompt, Row, Split, read_source
from protocol.config import DataSection
from protocol.errors import ConfigError, DataError


class Prompts(NamedTuple):
    """All rows of a run."""

    train: list[Row]
    heldout: list[Row]


class Tokenizer(Protocol):
    """What is used of mlx-lm's TokenizerWrapper."""

    @property
    def has_chat_template(self) -> bool:
        """Whether `apply_chat_template` can be called."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        ...

    def apply_chat_template(
        self, messages: list[dict[str, str]], *, add_generation_prompt: bool
    ) -> list[int]:
        """Token ids of a chat, up to where the assistant's turn begins."""
        ...


@dataclass(frozen=True)
class TokenizedPrompt:
    """A row with the token ids that actors complete."""

    row: Row
    prompt_ids: tuple[int, ...]


async def read_prompts(config: DataSection, seed: int) -> Prompts:
    """Read all sources at once, and make sure that no held-out prompt is trained on.

    Args:
        config: the run's data section.
        seed: chooses training rows where a source has more than it was asked for.

    Raises:
        DataError: a bad source or row, a source named twice, or a prompt on both sides.
    """

    async def read_all(specs: Sequence[str], split: Split) -> list[Row]:
        reads = (read_source(spec, split, config.prompt_column, seed) for spec in specs)
        found = [row for rows in await asyncio.gather(*reads) for row in rows]
        _refuse_repeated_ids(found, split)
        return found

    prompts = Prompts(
        *await asyncio.gather(read_all(config.train, "train"), read_all(config.heldout, "heldout"))
    )
    _refuse_overlap(prompts)
    return prompts


def tokenize_prompts(
    rows: Iterable[Row], tokenizer: Tokenizer, max_prompt_tokens: int
) -> list[TokenizedPrompt]:
    """Tokenize every prompt; a string is one user message where there is a chat template.

    Raises:
        DataError: a prompt that is too long or has no tokens, or chat messages for a tokenizer
            without a chat template; the message names the row.
    """
    tokenized = [TokenizedPrompt(row, tuple(_prompt_ids(row, tokenizer))) for row in rows]
    for prompt in tokenized:
        if not 0 < len(prompt.prompt_ids) <= max_prompt_tokens:
            raise DataError(
                f"{prompt.row.prompt_id}: a prompt of {len(prompt.prompt_ids)} tokens, wanted 1 to "
                f"{max_prompt_tokens}: shorten it or raise data.max_prompt_tokens"
            )
    return tokenized


class PromptStream:
    """The order of training prompts: epoch after epoch, each a permutation of its own.

    A pure function of its arguments: what stands at an index depends on nothing that was asked
    before. The index in the stream is the group's id in the ledger.

    Args:
        num_prompts: training rows; of none the stream ends at once.
        seed: of the order.
        epochs: passes over the rows; None goes on without end.
    """

    def __init__(self, num_prompts: int, seed: int, epochs: int | None = None) -> None:
        self._num_prompts = num_prompts
        self._seed = seed
        self._epochs = epochs
        self._permutation = lru_cache(maxsize=2)(self._permute)  # re-issues reach back one epoch

    def prompt_at(self, index: int) -> int | None:
        """Row at an index of the stream, or None after the last epoch."""
        if not self._num_prompts:
            return None
        epoch, place = divmod(index, self._num_prompts)
        if self._epochs is not None and epoch >= self._epochs:
            return None
        return self._permutation(epoch)[place]

    def _permute(self, epoch: int) -> list[int]:
        rows = list(range(self._num_prompts))
        random.Random(f"prompts/{self._seed}/{epoch}").shuffle(rows)  # noqa: S311 - no secret
        return rows


def _prompt_ids(row: Row, tokenizer: Tokenizer) -> list[int]:
    if not tokenizer.has_chat_template:
        if isinstance(row.prompt, str):
            return tokenizer.encode(row.prompt)
        raise DataError(
            f"{row.prompt_id}: the prompt is a list of chat messages and the model's tokenizer has "
            "no chat template: give the prompt as a string"
        )
    try:
        return tokenizer.apply_chat_template(_messages(row.prompt), add_generation_prompt=True)
    except ConfigError as error:  # a template may refuse one chat and take another
        raise DataError(f"{row.prompt_id}: {error}") from error


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _refuse_repeated_ids(rows: Iterable[Row], split: Split) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.prompt_id in seen:
            raise DataError(f"data.{split} reads {row.prompt_id} twice: name each source once")
        seen.add(row.prompt_id)


def _refuse_overlap(prompts: Prompts) -> None:
    """Compare prompts as chats, so that a string equals the one user message that it becomes.

    One id on both sides is one problem, even where the source words its prompt in two ways.
    """
    heldout = {_canonical(row.prompt): row.prompt_id for row in prompts.heldout}
    ids = {row.prompt_id for row in prompts.heldout}
    for row in prompts.train:
        also = row.prompt_id if row.prompt_id in ids else heldout.get(_canonical(row.prompt))
        if also is not None:
            raise DataError(f"the held-out prompt {also} is also trained on, as {row.prompt_id}")


def _canonical(prompt: Prompt) -> str:
    return json.dumps(_messages(prompt), sort_keys=True)
