import sys
import textwrap

import pytest

from protocol.errors import ConfigError, UnknownPluginError
from protocol.registry import Registry


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry of a package with two plug-in files."""
    package = tmp_path / "shapes_for_test"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from protocol.registry import Registry\n"
        "shape = Registry('shape', 'shapes_for_test')\n"
    )  # fmt: skip
    for name in ("circle", "square"):
        (package / f"{name}.py").write_text(
            textwrap.dedent(f"""
            from shapes_for_test import shape

            @shape("{name}")
            def make(points, *, size=1.0, colour="red"):
                return "{name}", size
            """)
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield __import__("shapes_for_test").shape
    for module in [m for m in sys.modules if m.startswith("shapes_for_test")]:
        del sys.modules[module]


def test_a_new_file_in_the_package_is_a_plugin(registry):
    assert registry.names() == ("circle", "square")
    assert registry.get("circle")([]) == ("circle", 1.0)


def test_an_unknown_name_is_refused_with_the_nearest_and_all_known_names(registry):
    with pytest.raises(UnknownPluginError) as caught:
        registry.get("squere")
    assert str(caught.value) == (
        "unknown shape 'squere': did you mean 'square'? known are circle, square"
    )
    assert (caught.value.kind, caught.value.name) == ("shape", "squere")


def test_a_name_registered_twice_is_refused_with_both_places(registry):
    registry.names()

    def other():
        pass

    with pytest.raises(ConfigError, match=r"'circle' is registered twice: .*make and .*other; ren"):
        registry("circle")(other)


def test_registering_the_same_function_again_is_no_conflict(registry):
    make = registry.get("circle")
    assert registry("circle")(make) is make


def test_a_plugin_can_be_named_as_module_and_function(registry):
    assert registry.get("textwrap:dedent") is textwrap.dedent


def test_a_plugin_can_be_named_as_file_and_function(registry, tmp_path):
    path = tmp_path / "my_plugins.py"
    path.write_text("def triangle():\n    return 3\n")
    assert registry.get(f"{path}:triangle")() == 3


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("no_such_module:f", "No module named"),
        ("no/such/file.py:f", "no file .*no/such/file.py"),
        (":f", "Empty module name"),
        (".relative:f", "relative import"),
    ],
)
def test_a_place_that_cannot_be_imported_is_a_config_error(registry, name, found):
    with pytest.raises(ConfigError, match=f"cannot be loaded: .*{found}"):
        registry.get(name)


@pytest.mark.parametrize(
    ("text", "found"),
    [("def f(:\n", r"invalid syntax \(bad.py, line 1\)"), ("1 / 0\n", "ZeroDivisionError")],
)
def test_a_file_that_does_not_load_says_why(registry, tmp_path, text, found):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(ConfigError, match=f"bad.py:f' cannot be loaded: {found}"):
        registry.get(f"{tmp_path / 'bad.py'}:f")


@pytest.mark.parametrize("name", ["textwrap:nothing", "textwrap:__name__", "textwrap:"])
def test_a_place_without_that_function_is_a_config_error(registry, name):
    with pytest.raises(ConfigError, match="textwrap has no function"):
        registry.get(name)


def test_parameters_that_the_plugin_takes_pass(registry):
    plugin = registry.check("circle", {"size": 2.0}, frozenset({"points"}))
    assert plugin([], size=2.0) == ("circle", 2.0)


@pytest.mark.parametrize("parameter", ["sise", "points"])
def test_a_parameter_that_the_config_may_not_give_is_refused_with_the_known_ones(
    registry, parameter
):
    with pytest.raises(ConfigError, match=f"no parameter '{parameter}': known are colour, size"):
        registry.check("circle", {parameter: 1}, frozenset({"points"}))


def test_a_plugin_with_open_keywords_takes_any_parameter():
    registry = Registry("shape", "email")  # any package will do

    @registry("open")
    def make(**columns):
        return columns

    assert registry.check("open", {"anything": 1}, frozenset()) is make
