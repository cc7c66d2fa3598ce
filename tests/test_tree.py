"""The rules that no linter knows: sizes and names of files, plug-ins with tests, the wheel."""

import ast
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from protocol.config_file import dump_config, load_config

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("protocol", "learner", "actors", "reward_workers")
PLUGIN_FOLDERS = (
    "learner/algorithms",
    "learner/evaluators",
    "learner/trackers",
    "reward_workers/rewards",
)
TINY_WEIGHTS = "protocol/builtin/tiny/model.safetensors"

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
VAGUE_NAMES = {"utils", "helpers", "common", "base", "manager"}


def paths(folder: str, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob(pattern))


SOURCES = [path for package in PACKAGES for path in paths(package, "*.py")]
CONFIGS = [*paths("configs", "*.yaml"), *paths("configs", "*.yml")]
RUN_CONFIG_FOLDERS = (Path("configs"), Path("configs/experiments"), Path("configs/algorithms"))
RUN_CONFIGS = [path for path in CONFIGS if Path(path).parent in RUN_CONFIG_FOLDERS]
PLUGINS = [
    path
    for folder in PLUGIN_FOLDERS
    for path in paths(folder, "*.py")
    if not Path(path).name.startswith("_")
]


def long_functions(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if num_lines > MAX_FUNCTION_LINES:
                yield f"{node.name}: {num_lines} lines"


@pytest.mark.parametrize("path", SOURCES)
def test_a_file_and_its_functions_are_short(path: str):
    source = (ROOT / path).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_FILE_LINES
    assert list(long_functions(source)) == []


def test_a_long_function_is_found():
    body = "    x = 1\n" * MAX_FUNCTION_LINES
    assert list(long_functions(f"def f():\n{body}")) == ["f: 51 lines"]


def test_no_file_has_a_name_that_says_nothing():
    assert [path for path in SOURCES if Path(path).stem in VAGUE_NAMES] == []


@pytest.mark.parametrize("path", RUN_CONFIGS)
def test_a_config_loads_and_opens_with_what_it_is_for(path: str, tmp_path: Path):
    config = load_config(ROOT / path)
    (tmp_path / "resolved.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "resolved.yaml") == config
    assert (ROOT / path).read_text(encoding="utf-8").startswith("#")


@pytest.mark.parametrize("path", PLUGINS)
def test_a_plug_in_has_a_test_file(path: str):
    plugin = Path(path)
    assert (ROOT / "tests" / plugin.parent / f"test_{plugin.name}").is_file()


def test_a_wheel_holds_the_four_packages_and_the_tiny_policy(tmp_path: Path):
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == set(PACKAGES)
    assert set(SOURCES) <= names
    assert TINY_WEIGHTS in names
