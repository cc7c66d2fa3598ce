import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_workers.code_blocks import CodeBlock, answer_part, code_blocks, last_block


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("no code", []),
        ("```python\nx = 1\n```", [("python", "x = 1\n", True)]),
        ("a\n```Python title\nx\n```\nb", [("python", "x\n", True)]),
        ("```\r\nx\r\n```\r\n", [("", "x\n", True)]),
        ("~~~py\n```\nx\n~~~", [("py", "```\nx\n", True)]),
        ("````python\n```\nx\n```\n````", [("python", "```\nx\n```\n", True)]),
        ("```\nx\n`````   ", [("", "x\n", True)]),
        ("```\nx\n``` y", [("", "x\n``` y\n", False)]),
        ('```python\ns = """\n    ```\n"""\n```', [("python", 's = """\n    ```\n"""\n', True)]),
        ("   ```py\n   x\n     y\n z\n  ```", [("py", "x\n  y\nz\n", True)]),
        ("    ```py\nx", []),
        ("``` a ` b\nx\n```\n", [("", "", False)]),
        ("~~~ a ` b\nx\n~~~\n", [("a", "x\n", True)]),
        ("```python\nx = 1", [("python", "x = 1\n", False)]),
        ("```\n```", [("", "", True)]),
        ("```a\n1\n```\n```b\n2\n```", [("a", "1\n", True), ("b", "2\n", True)]),
        ("``\nx\n``", []),
        ("```\nx\n\n", [("", "x\n\n", False)]),
    ],
)
def test_fences_are_read_as_commonmark_says(text, blocks):
    assert code_blocks(text) == [CodeBlock(*block) for block in blocks]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\n1\n```\n```python\n2\n```", "2\n"),
        ("```python\n1\n```\nIt prints:\n```\n2\n```", "1\n"),
        ("```\n1\n```\n```json\n2\n```", "1\n"),
        ("```python3.11\n1\n```\n```bash\npip\n```", "1\n"),
        ("```python\n1\n```\nFor example:\n```python\n2", "1\n"),
        ("```python\n1", "1\n"),
        ("```python\n1\n```\n```python\n```", "1\n"),
        ("```bash\nls\n```", None),
        ("x = 1", None),
    ],
)
def test_the_last_python_block_is_taken(text, code):
    block = last_block(text, "python")
    assert (block and block.code) == code


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("a", "a"),
        ("<think>a</think>b", "b"),
        ("a</think>b</think>c", "c"),
        ("<think>```python\nx\n```", ""),
        ("", ""),
    ],
)
def test_thinking_is_no_answer(completion, answer):
    assert answer_part(completion) == answer


@given(st.text(alphabet="`~ \n\r\tpy<think/>", max_size=80))
def test_no_text_breaks_it(text):
    for block in code_blocks(text):
        assert "\r" not in block.code
    last_block(answer_part(text), "python")


@pytest.mark.parametrize("text", ["`" * 10**6, "```\n" * 250_000, " " * 10**6, "~~~ `" * 200_000])
def test_a_long_text_takes_time_in_proportion(text):
    began = time.process_time()
    code_blocks(text)
    assert time.process_time() - began < 2.0
