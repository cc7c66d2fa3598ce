"""Fenced code blocks of a completion, by the rules of CommonMark for top-level fences.

One pass over the lines, each looked at once, so that no text makes it slow. A fence is three or
more backticks or tildes after at most three spaces; only a line of the same character, at least as
many and nothing else closes it, so that fences inside strings or longer fences are content.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_FENCE = re.compile(r"(?P<indent> {0,3})(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)")
Language = Literal["python", "json"]
_NAMES = {"python": re.compile(r"(?:python|py)[0-9.]{0,8}"), "json": re.compile("jsonc?|json5")}
_END_OF_THINKING = "</think>"
_THINKING = "<think>"


@dataclass(frozen=True)
class CodeBlock:
    """One fenced block."""

    language: str
    """First word after the opening fence, in lower case; empty where there is none."""
    code: str
    closed: bool
    """False: the completion ended first."""


def answer_part(completion: str) -> str:
    """What follows the thinking; nothing where the thinking never ends."""
    _, ended, answer = completion.rpartition(_END_OF_THINKING)
    return answer if ended else answer.partition(_THINKING)[0]


def code_blocks(text: str) -> list[CodeBlock]:
    """All fenced blocks of a text, in order; an unclosed one reaches to the end."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    return list(_blocks(lines))


def last_block(text: str, language: Language) -> CodeBlock | None:
    """The block that holds the answer: the last one of the language.

    Blocks that name the language go before blocks that name none (often a program's output), and
    closed ones before one that was cut off.
    """
    blocks = [block for block in code_blocks(text) if block.code.strip()]
    named = [block for block in blocks if _NAMES[language].fullmatch(block.language)]
    among = named or [block for block in blocks if not block.language]
    closed = [block for block in among if block.closed]
    return next(reversed(closed or among), None)


def is_python(block: CodeBlock) -> bool:
    """Whether a block says that it is Python, or does not say what it is."""
    return not block.language or _NAMES["python"].fullmatch(block.language) is not None


def _blocks(lines: list[str]) -> Iterator[CodeBlock]:
    opening: re.Match[str] | None = None
    content: list[str] = []
    for line in lines:
        if opening is None:
            opening = _opening(line)
            content = []
        elif _closes(line, opening):
            yield _block(opening, content, closed=True)
            opening = None
        else:
            content.append(_without_indent(line, len(opening["indent"])))
    if opening is not None:
        yield _block(opening, content, closed=False)


def _opening(line: str) -> re.Match[str] | None:
    fence = _FENCE.fullmatch(line)
    if fence is None or (fence["fence"][0] == "`" and "`" in fence["info"]):
        return None  # three backticks and more on one line are inline code
    return fence


def _closes(line: str, opening: re.Match[str]) -> bool:
    fence = _FENCE.fullmatch(line)
    return (
        fence is not None
        and fence["fence"].startswith(opening["fence"])
        and not fence["info"].strip(" \t")
    )


def _without_indent(line: str, num_spaces: int) -> str:
    spaces = len(line) - len(line.lstrip(" "))
    return line[min(spaces, num_spaces) :]


def _block(opening: re.Match[str], content: list[str], *, closed: bool) -> CodeBlock:
    words = opening["info"].split(maxsplit=1)
    code = "".join(f"{line}\n" for line in content)
    return CodeBlock(words[0].lower() if words else "", code, closed)
