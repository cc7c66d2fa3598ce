"""The parameters of a request, checked; what is wrong with them is said in a sentence."""

import math
import re
from collections.abc import Collection
from urllib.parse import parse_qsl

_WHOLE = re.compile(r"[0-9]{1,12}")
_MAX_PARAMETERS = 32


class RequestError(Exception):
    """A request that cannot be answered; the sentence goes to whoever asked."""

    def __init__(self, sentence: str, status: str = "400 Bad Request") -> None:
        self.status = status
        super().__init__(sentence)


def not_found(sentence: str) -> RequestError:
    """What was asked for is not there."""
    return RequestError(sentence, "404 Not Found")


class Query:
    """Parameters by name; an empty one counts as none.

    Args:
        text: behind the question mark.
        known: names that the route takes.

    Raises:
        RequestError: another name, one given twice, or far too many.
    """

    def __init__(self, text: str, known: Collection[str]) -> None:
        self._values: dict[str, str] = {}
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
        except ValueError:
            raise RequestError(f"more than {_MAX_PARAMETERS} parameters") from None
        for name, value in pairs:
            if name not in known:
                wanted = ", ".join(sorted(known)) or "none"
                raise RequestError(f"unknown parameter {name!r}: known are {wanted}")
            if name in self._values:
                raise RequestError(f"{name} is given twice")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """A parameter as it stands."""
        return self._values.get(name) or None

    def whole(self, name: str, low: int = 0, high: int = 10**12) -> int | None:
        """A whole number between bounds.

        Raises:
            RequestError: it is none.
        """
        text = self.text(name)
        if text is None:
            return None
        value = int(text) if _WHOLE.fullmatch(text) else -1
        if not low <= value <= high:
            raise RequestError(f"{name} is {text!r}: wanted a whole number from {low} to {high}")
        return value

    def wanted_whole(self, name: str) -> int:
        """A whole number without which there is no answer.

        Raises:
            RequestError: it is missing, or no whole number.
        """
        value = self.whole(name)
        if value is None:
            raise RequestError(f"{name} is missing: wanted a whole number")
        return value

    def number(self, name: str) -> float | None:
        """A finite number.

        Raises:
            RequestError: it is none.
        """
        text = self.text(name)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise RequestError(f"{name} is {text!r}: wanted a number")
        return value
