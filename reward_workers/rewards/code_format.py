"""1 where the completion shows Python code in a fenced block that at least parses."""

import ast
import warnings
from typing import Literal

from reward_workers.code_blocks import answer_part, code_blocks, is_python
from reward_workers.registry import reward, values_of

MAX_CODE = 100_000
"""Characters; more is no answer, and parsing it takes memory."""


@reward("code_format")
def code_format(
    completions: list[str],
    *,
    blocks: Literal["one", "some"] = "some",
    parses: bool = True,
    entry_column: str | None = None,
    **columns: list[object],
) -> list[float]:
    """1.0 where the code has the wanted form, else 0.0. Nothing is run.

    Counted are closed fenced blocks that say Python or do not say what they are, after any
    thinking. The last of them must parse.

    Args:
        completions: the sampled texts.
        blocks: some: at least one block; one: exactly one.
        parses: whether the code must be valid Python.
        entry_column: data column with the name of a function or class that the code must define at
            its top level.
        **columns: the data row's columns.

    Raises:
        RewardError: no such column.
    """
    entries = [None] * len(completions) if not entry_column else values_of(entry_column, columns)
    return [
        float(_has_form(completion, blocks, parses=parses, entry=entry))
        for completion, entry in zip(completions, entries, strict=True)
    ]


def _has_form(completion: str, blocks: str, *, parses: bool, entry: object) -> bool:
    found = [
        block
        for block in code_blocks(answer_part(completion))
        if block.closed and is_python(block) and block.code.strip()
    ]
    if not found or (blocks == "one" and len(found) > 1):
        return False
    if not parses and entry is None:
        return True
    tree = _parse(found[-1].code)
    return tree is not None and (entry is None or str(entry).partition(".")[0] in _defined(tree))


def _parse(code: str) -> ast.Module | None:
    if len(code) > MAX_CODE:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of invalid escapes
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def _defined(tree: ast.Module) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}
