"""A completion -> the model's thought and its visible reply."""

from typing import NamedTuple

from protocol.config_model import ModelSection


class Thinking(NamedTuple):
    """How a run's model writes its thoughts; without tags there are none."""

    opening: str = ""
    closing: str = ""
    is_open: bool = False
    """The prompt has the opening tag already."""


NO_THOUGHTS = Thinking()


class Split(NamedTuple):
    """Both parts of a completion; `thought + reply` is all of it."""

    thought: str
    """Up to the closing tag, with the tags and the white space after it."""
    reply: str


def thinking_of(model: ModelSection) -> Thinking:
    """What the learner resolved; an `auto` that nobody resolved has no tags."""
    if isinstance(model.think_tags, str):
        return NO_THOUGHTS
    return Thinking(*model.think_tags, is_open=model.prompt_opens_thought is True)


def split_thought(completion: str, prompt: object, thinking: Thinking) -> Split:
    """The thought up to the last closing tag, and the reply after it.

    A thought that is not closed leaves an empty reply, whatever was written before it.

    Args:
        completion: as sampled.
        prompt: as in the data row; one that is completed as it is may end with the opening tag.
        thinking: of the run.
    """
    if not thinking.closing:
        return Split("", completion)
    is_open = thinking.is_open or _ends_with(prompt, thinking.opening)
    before, closing, after = completion.rpartition(thinking.closing)
    if thinking.opening in after or (is_open and not closing):
        return Split(completion, "")
    reply = after.lstrip() if closing else after
    return Split(f"{before}{closing}{after[: len(after) - len(reply)]}", reply)


def _ends_with(prompt: object, opening: str) -> bool:
    return isinstance(prompt, str) and prompt.rstrip().endswith(opening)
