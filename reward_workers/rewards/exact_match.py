"""1 where the completion is the reference answer, letter by letter."""

from protocol.errors import RewardError
from reward_workers.registry import reward, values_of


@reward("exact_match")
def exact_match(
    completions: list[str],
    *,
    column: str = "answer",
    **columns: list[object],
) -> list[float | None]:
    """1.0 where completion and reference answer are the same text, else 0.0.

    White space around either is ignored; case is not. A number as reference answer is compared as
    JSON writes it.

    Args:
        completions: the sampled texts.
        column: data column with the reference answer.
        **columns: the data row's columns.

    Returns:
        None where the reference answer is null.

    Raises:
        RewardError: no such column, or a reference answer that is neither text nor number.
    """
    answers = values_of(column, columns)
    return [_compare(text, answer) for text, answer in zip(completions, answers, strict=True)]


def _compare(completion: str, answer: object) -> float | None:
    if answer is None:
        return None
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise RewardError(f"a reference answer of type {type(answer).__name__}, wanted text")
    return float(completion.strip() == str(answer).strip())
