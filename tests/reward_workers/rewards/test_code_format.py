import pytest

from protocol.errors import RewardError
from reward_workers.rewards.code_format import code_format

F = "```python\ndef f(x):\n    return x\n```"


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (F, 1.0),
        (f"<think>hm</think>Here:\n{F}\nDone.", 1.0),
        ("```\nx = 1\n```", 1.0),
        ("```Python\nx = 1\n```", 1.0),
        ("~~~py\nx = 1\n~~~", 1.0),
        (f"{F}\n{F}", 1.0),
        ("```python\nx = 1", 0.0),
        ("```bash\nls\n```", 0.0),
        ("```python\n```", 0.0),
        ("x = 1", 0.0),
        ("```python\nx = = 1\n```", 0.0),
        ("```python\nx = '\\d'\n```", 1.0),
        ("```python\nx = 1\0\n```", 0.0),
        ("```python\nx = 1\n```\n```python\nx = (\n```", 0.0),
        (f"<think>{F}", 0.0),
        ("", 0.0),
    ],
)
def test_a_closed_block_of_code_that_parses_is_wanted(completion, expected):
    assert code_format([completion]) == [expected]


def test_exactly_one_block_can_be_wanted():
    assert code_format([F, f"{F}\n{F}", f"{F}\n```text\nhi\n```"], blocks="one") == [1.0, 0.0, 1.0]


def test_whether_it_parses_can_be_left_open():
    assert code_format(["```python\nx = = 1\n```", "x"], parses=False) == [1.0, 0.0]


def test_a_definition_can_be_wanted():
    entries = ["f", "g", "C.f", "f"]
    codes = [F, F, "```\nclass C:\n    pass\n```", "```\nif 1:\n    def f(): pass\n```"]
    assert code_format(codes, entry_column="name", name=entries) == [1.0, 0.0, 1.0, 0.0]


def test_a_missing_column_is_an_error_that_names_it():
    with pytest.raises(RewardError, match="lacks the column 'name'"):
        code_format([F], entry_column="name")


@pytest.mark.parametrize(
    "code",
    [
        "(" * 50_000,
        "-" * 50_000 + "1",
        "x = " + "[" * 10_000 + "]" * 10_000,
        "x" + ".a" * 40_000,
        "1" + "+1" * 40_000,
        "not " * 20_000 + "x",
        "lambda: " * 10_000 + "x",
        "1" * 90_000,
        "\n".join(" " * i + "if 1:" for i in range(300)),
        "x = 1\n" * 100_000,
        "\ud800",
    ],
)
def test_code_that_strains_the_parser_ends_nothing(code):
    assert code_format([f"```python\n{code}\n```"]) in ([0.0], [1.0])
