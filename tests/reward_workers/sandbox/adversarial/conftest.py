"""Makes the folder `hostile` importable: programs as data, shared by the tests and suite.py."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = str(Path(__file__).resolve().parent)
if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)

from hostile.canaries import planted  # noqa: E402


@pytest.fixture(scope="module")
def facts():
    """What the programs are told of the planted canaries."""
    with planted() as facts:
        yield facts


@pytest.fixture(scope="module")
def selected():
    """The programs of a test that were not deselected, so that -k runs no more than it names."""

    def select(request, test, programs):
        names = {
            item.callspec.params["name"]
            for item in request.session.items
            if getattr(item, "originalname", "") == test
        }
        return {name: program for name, program in programs.items() if name in names}

    return select


@pytest.fixture(scope="module")
def run_as_nobody():
    """as_nobody.run_as_nobody, of the folder above."""
    path = Path(FOLDER).parent / "as_nobody.py"
    spec = importlib.util.spec_from_file_location("as_nobody", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.run_as_nobody
