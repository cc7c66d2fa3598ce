"""Plug-ins by name: decorate a function, name it in YAML, touch no other code.

A registry belongs to a package whose modules are its plug-ins: one new file, one plug-in. A config
may also name `module:function` or `path/file.py:function`.
"""

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from protocol.errors import ConfigError, UnknownPluginError

T = TypeVar("T", bound=Callable[..., Any])


class Registry(Generic[T]):
    """Named plug-ins of one kind.

    Attributes:
        kind: what a plug-in of this registry is called in messages.
        package: the package whose modules hold the built-in plug-ins.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._plugins: dict[str, T] = {}

    def __call__(self, name: str) -> Callable[[T], T]:
        """Decorator that registers a plug-in under `name`.

        Raises:
            ConfigError: the name is taken by another plug-in.
        """

        def register(plugin: T) -> T:
            known = self._plugins.get(name)
            if known is not None and _origin(known) != _origin(plugin):
                raise ConfigError(
                    f"{self.kind} {name!r} is registered twice: {_origin(known)} and "
                    f"{_origin(plugin)}; rename one"
                )
            self._plugins[name] = plugin
            return plugin

        return register

    def names(self) -> tuple[str, ...]:
        """All built-in and registered names, sorted."""
        self._import_package()
        return tuple(sorted(self._plugins))

    def get(self, name: str) -> T:
        """Plug-in of that name.

        Args:
            name: a registered name, `module:function` or `path/file.py:function`.

        Raises:
            UnknownPluginError: no such plug-in; the message has the known names and the nearest.
        """
        if ":" in name:
            return self._by_path(name)
        self._import_package()
        if name not in self._plugins:
            raise UnknownPluginError(self.kind, name, self.names())
        return self._plugins[name]

    def check(self, name: str, parameters: Mapping[str, object], given: frozenset[str]) -> T:
        """Plug-in of that name, once the config's parameters fit its signature.

        Args:
            name: as for `get`.
            parameters: what the config says besides the name.
            given: names of the arguments that the caller passes itself.

        Raises:
            UnknownPluginError: no such plug-in.
            ConfigError: a parameter that the plug-in does not take.
        """
        plugin = self.get(name)
        signature = inspect.signature(plugin).parameters.values()
        open_ended = any(p.kind is p.VAR_KEYWORD for p in signature)
        takes = {p.name for p in signature if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        unknown = sorted(set(parameters) - (takes - given))
        if unknown and not open_ended:
            known = ", ".join(sorted(takes - given)) or "none"
            raise ConfigError(
                f"{self.kind} {name!r} takes no parameter {unknown[0]!r}: known are {known}"
            )
        return plugin

    def _import_package(self) -> None:
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")

    def _by_path(self, name: str) -> T:
        place, _, function = name.rpartition(":")
        try:
            module = (
                _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
            )
        except Exception as error:
            ours = isinstance(error, (ImportError, OSError, SyntaxError))
            reason = str(error) if ours else f"{type(error).__name__}: {error}"
            raise ConfigError(f"{self.kind} {name!r} cannot be loaded: {reason}") from error
        plugin = getattr(module, function, None)
        if not callable(plugin):
            raise ConfigError(f"{self.kind} {name!r}: {place} has no function {function!r}")
        return plugin  # pyright: ignore[reportReturnType]


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.resolve()}")
    spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _origin(plugin: Callable[..., Any]) -> str:
    return f"{plugin.__module__}.{getattr(plugin, '__qualname__', plugin)}"
