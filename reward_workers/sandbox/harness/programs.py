"""Foreign code as a module of its own, so that it shares no name with the harness."""

import _sitebuiltins
import builtins
import linecache
import sys
from types import ModuleType


def add_exit() -> None:
    """Give programs `exit` and `quit`, which Python has from `site` alone."""
    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))


def new_module(name: str) -> ModuleType:
    """An empty module that is found by its name, as dataclasses and pickle want it."""
    module = ModuleType(name)
    sys.modules[name] = module
    return module


def execute(source: str, filename: str, module: ModuleType) -> None:
    """Run the source in the module; what it raises is passed on.

    Raises:
        SyntaxError, ValueError: it cannot be compiled.
    """
    lines = source.splitlines(keepends=True)
    linecache.cache[filename] = (len(source), None, lines, filename)
    exec(compile(source, filename, "exec", dont_inherit=True), module.__dict__)  # noqa: S102


def callables_of(module: ModuleType) -> list[str]:
    """Names of the callables that the module defines and does not keep to itself."""
    names: list[str] = []
    for name, value in list(module.__dict__.items()):
        if type(name) is not str or name.startswith("_") or not callable(value):
            continue
        try:
            defined_here = value.__module__ == module.__name__
        except Exception:  # noqa: BLE001 - foreign code, which may raise anything
            defined_here = True
        if defined_here is True:
            names.append(name)
    return names
