import pytest

from reward_workers.sandbox.jobs import Limits, Verdict
from reward_workers.sandbox.pool import SandboxPool

LIMITS = Limits(idle_seconds=0.5)
CALL = {"call": "f", "args": [2], "kwargs": {"dict": []}}
OK = {"ok": True, "detail": ""}


def candidate(*answers, names=("f", "g", "not a name")):
    """A candidate's worker that answers its calls with these, in turn."""

    async def script(worker):
        assert (await worker.hear())["handles"] is True
        await worker.say(loaded=list(names))
        for number, answer in enumerate(answers):
            await worker.hear()
            await worker.say(**answer, id=number)
        await worker.hang()

    return script


def saying(*messages, heard=None):
    """A tester's worker that says these; it hears an answer after each but the last."""

    async def script(worker):
        heard_here = [] if heard is None else heard
        heard_here.append(await worker.hear())
        for message in messages[:-1]:
            await worker.say(**message)
            heard_here.append(await worker.hear())
        await worker.say(**messages[-1])
        await worker.hang()

    return script


@pytest.fixture
def judge(scripted):
    async def judge(*scripts, tests="assert f(2) == 4", limits=LIMITS):
        backend = scripted(*scripts)
        async with SandboxPool(1, 0, backend=backend) as pool:
            result = await pool.run_tests(
                "code", tests=tests, entry="f", support="help", limits=limits
            )
        assert not backend.workers
        return result

    return judge


async def test_the_testers_verdict_counts_and_only_known_fields_pass(judge):
    heard = []
    answer = {"value": {"tuple": [4]}, "args": [2], "extra": "no", "form": "iterator"}
    done = {"done": [OK, OK], "num_calls": 1}
    result = await judge(
        candidate(answer), saying({**CALL, "id": 0, "extra": "no"}, done, heard=heard)
    )
    assert (result.verdict, result.passed, result.total) == (Verdict.PASSED, 2, 2)
    assert heard == [
        {
            "mode": "tester",
            "tests": ["assert f(2) == 4"],
            "support": "help",
            "entry": "f",
            "callables": ["f", "g"],
        },
        {"value": {"tuple": [4]}, "args": [2], "form": "iterator", "id": 0},
    ]


async def test_an_error_of_the_candidate_reaches_the_tests(judge):
    heard = []
    error = {"type": "ValueError", "message": "no", "where": "call", "extra": 1}
    result = await judge(
        candidate({"error": error}), saying({**CALL, "id": 0}, {"done": [OK]}, heard=heard)
    )
    assert result.verdict is Verdict.PASSED
    assert heard[1]["error"] == {"type": "ValueError", "message": "no", "where": "call"}


@pytest.mark.parametrize(
    ("kind", "verdict"), [("MemoryError", Verdict.OOM), ("SystemExit", Verdict.CRASHED)]
)
async def test_a_failed_test_after_such_an_error_says_why(judge, kind, verdict):
    answer = {"error": {"type": kind, "message": "", "where": "call"}}
    done = {"done": [{"ok": False, "detail": "raised"}, OK]}
    result = await judge(candidate(answer), saying({**CALL, "id": 0}, done))
    assert (result.verdict, result.passed, result.total) == (verdict, 1, 2)


async def test_tests_that_never_call_the_candidate_prove_nothing(judge):
    for done in ([OK, OK], []):
        result = await judge(candidate(), saying({"done": done}))
        assert (result.verdict, result.passed) == (Verdict.FAILED, 0)
        assert result.detail == "the tests never called the candidate"


async def test_attributes_and_handles_pass(judge):
    heard = []
    handle = {"handle": [0, "Node"]}
    result = await judge(
        candidate({"value": handle}, {"value": 1}, {"value": None}),
        saying(
            {**CALL, "id": 0},
            {"attribute": "x", "of": 0, "id": 1},
            {"assign": "x", "of": 0, "value": handle, "id": 2},
            {"done": [OK]},
            heard=heard,
        ),
    )
    assert result.verdict is Verdict.PASSED
    assert heard[1]["value"] == handle


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({"value": {"set": [[1]]}}, Verdict.FAILED),
        ({"value": 1, "form": "new"}, Verdict.CRASHED),
        ({"value": 1, "form": []}, Verdict.CRASHED),
        ({"value": 1, "args": {"x": 1}}, Verdict.FAILED),
        ({"error": []}, Verdict.CRASHED),
        ({}, Verdict.CRASHED),
    ],
)
async def test_an_answer_that_is_none_never_reaches_the_tests(judge, answer, verdict):
    result = await judge(candidate(answer), saying({**CALL, "id": 0}, {"done": [OK]}))
    assert (result.verdict, result.passed) == (verdict, 0)


@pytest.mark.parametrize(
    "message",
    [
        {**CALL, "id": 7},
        {**CALL, "call": [], "id": 0},
        {**CALL, "args": {"x": 1}, "id": 0},
        {"id": 0},
        {"done": 3},
        {"done": [[]]},
        {"error": 3},
    ],
)
async def test_a_tester_that_breaks_the_protocol_is_no_way_out(judge, message):
    result = await judge(candidate({"value": 4}), saying(message))
    assert result.verdict in (Verdict.FAILED, Verdict.CRASHED)
    assert result.passed == 0


async def test_tests_that_cannot_be_loaded(judge):
    error = {"type": "TestError", "message": "SyntaxError", "where": "load"}
    result = await judge(candidate(), saying({"error": error}))
    assert result.verdict is Verdict.FAILED
    assert result.detail == "the tests could not be loaded: TestError: SyntaxError"


async def test_a_candidate_that_cannot_be_loaded_starts_no_tests(judge):
    async def broken(worker):
        await worker.hear()
        await worker.say(error={"type": "SyntaxError", "message": "line 1", "where": "load"})
        await worker.hang()

    async def never(worker):
        raise AssertionError

    result = await judge(broken, never)
    assert (result.verdict, result.detail) == (
        Verdict.FAILED,
        "loading the code: SyntaxError: line 1",
    )


async def test_each_side_is_idle_only_while_it_has_something_to_do(judge):
    result = await judge(candidate(), saying({**CALL, "id": 0}, {"done": [OK]}))
    assert (result.verdict, result.detail) == (Verdict.TIMEOUT, "idle for more than 0.5 s")

    async def hangs(worker):
        await worker.hear()
        await worker.hang()

    result = await judge(candidate(), hangs)
    assert (result.verdict, result.detail) == (
        Verdict.TIMEOUT,
        "the tests: idle for more than 0.5 s",
    )


async def test_a_candidate_that_dies_in_a_call_ends_the_tests(judge):
    async def dies(worker):
        await worker.hear()
        await worker.say(loaded=["f"])
        await worker.hear()
        raise worker.gone(0)

    result = await judge(dies, saying({**CALL, "id": 0}, {"done": [OK]}))
    assert (result.verdict, result.passed) == (Verdict.CRASHED, 0)


@pytest.mark.parametrize("tests", ["", "  \n", [], ["assert f(1)", ""], [3]])
async def test_tests_that_cannot_be_used_are_the_callers_fault(judge, tests):
    with pytest.raises(ValueError, match="tests"):
        await judge(candidate(), tests=tests)
