from typing import cast

import pytest

from reward_workers.sandbox.harness import values
from reward_workers.sandbox.jobs import Case, Equality, Verdict
from reward_workers.sandbox.pool import SandboxPool

TYPES_COUNT = Equality()


def answering(function):
    """A worker whose candidate is this function."""

    async def script(worker):
        await worker.hear()
        await worker.say(loaded=["f"])
        while True:
            call = await worker.hear()
            args, kwargs = values.decode(call["args"]), values.decode(call["kwargs"])
            try:
                answer = {"value": values.encode(function(*args, **kwargs))}
            except ArithmeticError as error:
                answer = {"error": {"type": type(error).__name__, "message": str(error)}}
            await worker.say(**answer, id=call["id"])

    return script


@pytest.fixture
def judge(scripted):
    async def judge(function, *cases, entry="f", equality=TYPES_COUNT):
        async with SandboxPool(1, 1, backend=scripted(answering(function))) as pool:
            return await pool.run_calls("code", entry=entry, cases=cases, equality=equality)

    return judge


async def test_right_values_pass(judge):
    result = await judge(lambda a, b=0: a + b, Case([1], 1), Case([(1,)], (1, 2), {"b": (2,)}))
    assert (result.verdict, result.passed, result.total) == (Verdict.PASSED, 2, 2)
    assert result.detail == ""


async def test_a_wrong_case_does_not_stop_later_ones_and_is_named(judge):
    cases = [Case([n], n) for n in (1, 2, -3, 4, -5)]
    result = await judge(abs, *cases)
    assert (result.verdict, result.passed, result.total) == (Verdict.FAILED, 3, 5)
    assert result.detail == "case 3: returned 3, wanted another value"


async def test_an_expected_value_is_never_told(judge):
    result = await judge(lambda: "no", Case([], "secret"))
    assert "secret" not in repr(result)


async def test_an_error_fails_its_case_only(judge):
    result = await judge(lambda n: 1 // n, Case([1], 1), Case([0], 1), Case([1], 1))
    assert (result.verdict, result.passed) == (Verdict.FAILED, 2)
    assert result.detail.startswith("case 2: ZeroDivisionError")


async def test_a_big_number_is_compared_and_not_printed(judge):
    result = await judge(lambda: 7**9999, Case([], 7**9999), Case([], 1))
    assert (result.passed, result.detail) == (
        1,
        "case 2: returned a int, wanted another value",
    )


async def test_equality_is_the_callers(judge):
    assert (await judge(lambda: (1,), Case([], [1]))).verdict is Verdict.FAILED
    lists = Equality(tuples_as_lists=True)
    assert (await judge(lambda: (1,), Case([], [1]), equality=lists)).verdict is Verdict.PASSED


class AlwaysEqual:
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ([], "at least one Case"),
        ([Case([1], 1), Case([object()], 1)], "case 2: args"),
        ([Case([1], AlwaysEqual())], "case 1: expected"),
        ([Case([1], 1, {cast("str", 1): 2})], "case 1: kwargs"),
    ],
)
async def test_cases_that_cannot_be_used_are_the_callers_fault(judge, cases, words):
    with pytest.raises(ValueError, match=words):
        await judge(abs, *cases)


@pytest.mark.parametrize("entry", ["", "f()", "a.b.c", "f ", ".f", 3])
async def test_an_entry_that_is_no_name_is_the_callers_fault(judge, entry):
    with pytest.raises(ValueError, match="entry is"):
        await judge(abs, Case([1], 1), entry=entry)


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
async def test_a_tolerance_that_makes_no_sense_is_the_callers_fault(judge, tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        await judge(abs, Case([1], 1), equality=Equality(tolerance=tolerance))
