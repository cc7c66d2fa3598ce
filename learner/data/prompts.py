"""The prompts of a run: read, checked and tokenized."""

import asyncio
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from learner.data.sources import Prompt, Row, Split, read_source
from protocol.config_data import DataSection, Source
from protocol.errors import ConfigError, DataError

log = logging.getLogger("learner.prompts")


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

    async def read_all(sources: Sequence[Source], split: Split) -> list[Row]:
        reads = (read_source(source, split, config.prompt_column, seed) for source in sources)
        by_source = enumerate(await asyncio.gather(*reads))
        found = [replace(row, source=index) for index, rows in by_source for row in rows]
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

    Those that are too long are left out, and a warning says how many.

    Raises:
        DataError: a prompt that has no tokens, or chat messages for a tokenizer without a chat
            template; the message names the row. All prompts are too long.
    """
    found = [TokenizedPrompt(row, tuple(_prompt_ids(row, tokenizer))) for row in rows]
    for prompt in found:
        if not prompt.prompt_ids:
            raise DataError(f"{prompt.row.prompt_id}: a prompt of no tokens: write something")
    kept = [prompt for prompt in found if len(prompt.prompt_ids) <= max_prompt_tokens]
    if len(kept) < len(found):
        longest = max(found, key=lambda prompt: len(prompt.prompt_ids))
        said = (
            f"{len(found) - len(kept)} of {len(found)} prompts have more than "
            f"data.max_prompt_tokens ({max_prompt_tokens}) tokens, {longest.row.prompt_id} the "
            f"most, {len(longest.prompt_ids)}"
        )
        if not kept:
            raise DataError(f"{said}: shorten them or raise data.max_prompt_tokens")
        log.warning("%s: they are left out", said)
    return kept


def left_out(rows: Iterable[Row], kept: Iterable[TokenizedPrompt]) -> list[str]:
    """Ids of the rows whose prompts are too long, in their order."""
    there = {prompt.row.prompt_id for prompt in kept}
    return [row.prompt_id for row in rows if row.prompt_id not in there]


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
