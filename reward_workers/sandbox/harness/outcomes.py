"""One item of test source, run: what passed in it and what did not."""

import linecache
import sys
from collections.abc import Callable
from types import FunctionType, GeneratorType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from reward_workers.sandbox.harness.errors import cut, message_of
from reward_workers.sandbox.harness.plain import Json, class_name
from reward_workers.sandbox.harness.programs import execute
from reward_workers.sandbox.harness.results import finish

if TYPE_CHECKING:  # it takes long to load, and few tests need it
    pass

Outcome = dict[str, Json]
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


def run_item(source: str, filename: str, module: ModuleType, candidate: object) -> list[Outcome]:
    """Execute the item, then each test that it defines.

    What it defines is what it binds anew: a name of the candidate's cannot pose as a test.
    """
    before = dict(module.__dict__)
    own = attempt(lambda: execute(source, filename, module), filename)
    if not own["ok"]:
        return [own]
    bound = {n: v for n, v in module.__dict__.items() if n not in before or before[n] is not v}
    outcomes: list[Outcome] = []
    for name, value in bound.items():
        if name == "check" and callable(value):
            outcomes.append(attempt(lambda check=value: check(candidate), filename))
        elif type(value) is FunctionType and (name == "test" or name.startswith("test_")):
            outcomes.append(attempt(value, filename))
        elif isinstance(value, type) and _is_test_case(value):
            outcomes.extend(_run_test_case(value, filename))
        elif isinstance(value, type) and name.startswith("Test"):
            outcomes.extend(_run_plain_class(value, filename))
    return outcomes or [own]


def attempt(test: Callable[[], object], filename: str) -> Outcome:
    """Whether it ran without an exception."""
    try:
        if isinstance(finish(test())[0], GeneratorType):
            raise TypeError("a test that is a generator runs nothing")
    except BaseException as error:  # noqa: BLE001 - a SystemExit in a test is a failure too
        return failure(error, filename)
    return {"ok": True, "detail": ""}


def failure(error: BaseException, filename: str) -> Outcome:
    """The outcome for an exception, with the line of the test that raised it."""
    name, message = class_name(type(error)), message_of(error)
    line = _line_of(error.__traceback__, filename)
    parts = [name, f": {message}" if message else "", f", at: {line}" if line else ""]
    return {"ok": False, "detail": cut("".join(parts))}


def _line_of(trace: TracebackType | None, filename: str) -> str:
    line = ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            line = linecache.getline(filename, trace.tb_lineno).strip()
        trace = trace.tb_next
    return line


def _is_test_case(kind: type[Any]) -> bool:
    library = sys.modules.get("unittest")
    return library is not None and issubclass(kind, library.TestCase)


def _recorder() -> Any:  # noqa: ANN401 - a unittest.TestResult with `error`
    import unittest

    class Recorder(unittest.TestResult):
        """Keeps the first exception as such, where the base class keeps its text."""

        error: BaseException | None = None

        def addError(self, test: unittest.TestCase, err: _ExcInfo) -> None:  # noqa: N802
            self.error = self.error or err[1]

        addFailure = addError

        def addSubTest(  # noqa: N802
            self, test: unittest.TestCase, subtest: unittest.TestCase, err: _ExcInfo | None
        ) -> None:
            if err is not None:
                self.error = self.error or err[1]

        def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
            self.error = AssertionError("an unexpected success")

    return Recorder()


def _run_plain_class(kind: type[Any], filename: str) -> list[Outcome]:
    """An outcome for each test method of a class in pytest's manner, on an instance of its own."""

    def run(name: str) -> object:
        instance = kind()
        getattr(instance, "setup_method", lambda _: None)(name)
        return getattr(instance, name)()

    names = [name for name in dir(kind) if name.startswith("test")]
    return [attempt(lambda name=name: run(name), filename) for name in names]


def _run_test_case(case: type[Any], filename: str) -> list[Outcome]:
    """An outcome for each test method that was not skipped, each with fixtures of its own."""
    import unittest

    outcomes: list[Outcome] = []
    for test in unittest.defaultTestLoader.loadTestsFromTestCase(case):
        recorder = _recorder()
        unittest.TestSuite([test]).run(recorder)
        if recorder.error is not None:
            outcomes.append(failure(recorder.error, filename))
        elif not recorder.skipped:
            outcomes.append({"ok": True, "detail": ""})
    return outcomes or [{"ok": False, "detail": f"{class_name(case)}: no test was run"}]
