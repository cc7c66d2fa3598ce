"""A plug-in's parameters, checked by the annotations of its own signature."""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from protocol.errors import ConfigError


def signature_of(plugin: Callable[..., Any]) -> inspect.Signature:
    """The signature, with annotations in quotes evaluated where that can be done."""
    with contextlib.suppress(NameError, AttributeError, SyntaxError, TypeError):
        return inspect.signature(plugin, eval_str=True)
    return inspect.signature(plugin)


def checked_value(where: str, value: object, annotation: Any) -> object:  # noqa: ANN401 - any hint
    """A config's value as its annotation wants it; what cannot be checked is taken as it is.

    Args:
        where: begins the message of an error.
        value: as it stands in the config.
        annotation: of the parameter.

    Raises:
        ConfigError: it does not fit.
    """
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return value
    try:
        return TypeAdapter[object](annotation).validate_python(value)
    except PydanticUserError:  # a type that pydantic cannot check
        return value
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {message} (found {value!r})") from None
