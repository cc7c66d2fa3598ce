"""The kinds of small programming tasks: what is asked, a reference solution, and inputs."""

import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SMALL = tuple(range(2, 32))
FEW = tuple(range(2, 8))
LETTERS = tuple("abcdeghilmnoprstu")


def _always(*_values: object) -> bool:
    return True


@dataclass(frozen=True)
class Family:
    """One kind of task."""

    name: str
    signature: str
    """As it stands in the prompt: `name(arguments)`."""
    statements: Sequence[str]
    """Wordings of what the function does, with the parameters' names in braces."""
    solution: str
    """Source, with the same braces."""
    inputs: Callable[..., Sequence[Any]]
    """Random numbers and the parameters' values -> arguments of one call."""
    values: Mapping[str, Sequence[Any]]
    """What each parameter may be."""
    makes_sense: Callable[..., bool] = _always
    """Whether values go together."""


def _number(chosen: random.Random, *_values: object) -> Sequence[Any]:
    return [chosen.randint(-30, 30)]


def _near(chosen: random.Random, k: int, *_values: object) -> Sequence[Any]:
    """A number on either side of k, or k itself."""
    return [chosen.choice([k - 1, k, k + 1, chosen.randint(k - 15, k + 15)])]


def _multiple(chosen: random.Random, k: int, *_values: object) -> Sequence[Any]:
    """Divisible by k half of the time."""
    return [k * chosen.randint(0, 9) + chosen.choice([0, chosen.randrange(k)])]


def _numbers(chosen: random.Random, *values: Any) -> Sequence[Any]:  # noqa: ANN401
    """A list around the parameter, which is in it up to three times."""
    middle = values[0]
    found = [chosen.randint(middle - 12, middle + 12) for _ in range(chosen.randint(6, 10))]
    for _ in range(chosen.randint(0, 3)):
        found[chosen.randrange(len(found))] = middle
    return [found]


def _word(chosen: random.Random, *values: Any) -> Sequence[Any]:  # noqa: ANN401
    """A text in which a parameter that is a letter is frequent."""
    letters = [value for value in values if isinstance(value, str)] * 6
    pool = [*string.ascii_lowercase, *letters]
    return ["".join(chosen.choice(pool) for _ in range(chosen.randint(8, 12)))]


def _line(name: str, arguments: str, expression: str) -> str:
    return f"def {name}({arguments}):\n    return {expression}\n"


def _of_number(
    name: str,
    statements: Sequence[str],
    expression: str,
    inputs: Callable[..., Sequence[Any]] = _number,
    **values: Sequence[Any],
) -> Family:
    return Family(name, f"{name}(x)", statements, _line(name, "x", expression), inputs, values)


def _of_list(
    name: str, statements: Sequence[str], expression: str, **values: Sequence[Any]
) -> Family:
    solution = _line(name, "numbers", expression)
    return Family(name, f"{name}(numbers)", statements, solution, _numbers, values)


def _of_text(
    name: str, statements: Sequence[str], expression: str, **values: Sequence[Any]
) -> Family:
    return Family(name, f"{name}(s)", statements, _line(name, "s", expression), _word, values)


FAMILIES = (
    _of_number("add", ("returns x plus {k}", "adds {k} to x and returns it"), "x + {k}", k=SMALL),
    _of_number("subtract", ("returns x minus {k}", "subtracts {k} from x"), "x - {k}", k=SMALL),
    _of_number("multiply", ("returns x times {k}", "multiplies x by {k}"), "x * {k}", k=SMALL),
    _of_number(
        "scale",
        ("multiplies x by {a} and then adds {b}", "returns {a} times x, plus {b}"),
        "x * {a} + {b}",
        a=FEW,
        b=FEW,
    ),
    _of_number("square_plus", ("returns the square of x plus {k}",), "x * x + {k}", k=SMALL),
    _of_number("remainder", ("returns the remainder of x divided by {k}",), "x % {k}", k=SMALL),
    _of_number(
        "is_greater",
        ("returns True if x is greater than {k}, else False", "tells whether x is above {k}"),
        "x > {k}",
        _near,
        k=SMALL,
    ),
    _of_number(
        "is_divisible",
        ("returns True if x is divisible by {k}, else False",),
        "x % {k} == 0",
        _multiple,
        k=SMALL,
    ),
    _of_number("at_least", ("returns the larger of x and {k}",), "max(x, {k})", _near, k=SMALL),
    _of_number(
        "distance", ("returns the absolute difference of x and {k}",), "abs(x - {k})", k=SMALL
    ),
    _of_list(
        "count_greater",
        ("returns how many of the numbers in the list are greater than {k}",),
        "sum(1 for n in numbers if n > {k})",
        k=SMALL,
    ),
    _of_list(
        "count_equal",
        ("returns how often {k} is in the list", "counts how many elements are equal to {k}"),
        "numbers.count({k})",
        k=SMALL,
    ),
    _of_list(
        "keep_greater",
        ("returns a list of those numbers that are greater than {k}",),
        "[n for n in numbers if n > {k}]",
        k=SMALL,
    ),
    _of_list(
        "sum_greater",
        ("returns the sum of the numbers that are greater than {k}",),
        "sum(n for n in numbers if n > {k})",
        k=SMALL,
    ),
    _of_list(
        "multiply_all",
        ("returns a list with each number multiplied by {k}",),
        "[n * {k} for n in numbers]",
        k=SMALL,
    ),
    _of_list(
        "add_to_all",
        ("returns a list with {k} added to each number",),
        "[n + {k} for n in numbers]",
        k=SMALL,
    ),
    _of_list(
        "first_of_list", ("returns the first {k} elements of the list",), "numbers[:{k}]", k=FEW[:4]
    ),
    _of_list(
        "last_of_list", ("returns the last {k} elements of the list",), "numbers[-{k}:]", k=FEW[:4]
    ),
    _of_list(
        "largest",
        ("returns the {k} largest numbers in descending order",),
        "sorted(numbers, reverse=True)[:{k}]",
        k=FEW[:4],
    ),
    _of_list("sum_plus", ("returns the sum of the list plus {k}",), "sum(numbers) + {k}", k=SMALL),
    _of_text("repeat", ("returns the string s repeated {k} times",), "s * {k}", k=SMALL),
    _of_text("first_of_text", ("returns the first {k} characters of s",), "s[:{k}]", k=FEW),
    _of_text("last_of_text", ("returns the last {k} characters of s",), "s[-{k}:]", k=FEW),
    _of_text(
        "count_letter",
        ("returns how many times the letter '{c}' is in the string s",),
        "s.count('{c}')",
        c=LETTERS,
    ),
    _of_text(
        "remove_letter",
        ("returns the string s without the letter '{c}'",),
        "s.replace('{c}', '')",
        c=LETTERS,
    ),
    _of_text(
        "replace_letter",
        ("returns s with every '{c}' replaced by '{d}'",),
        "s.replace('{c}', '{d}')",
        c=LETTERS,
        d=("x", "y", "_"),
    ),
    _of_text(
        "longer_than",
        ("returns True if the string s is longer than {k} characters, else False",),
        "len(s) > {k}",
        k=tuple(range(8, 12)),
    ),
)
