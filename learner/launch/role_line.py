"""A line that a role wrote: who, when, how grave, and a text that cannot drive a terminal.

What models and reward functions print reaches the terminal through here: escape sequences could
move the cursor, hide text or retitle the window.
"""

import re
from dataclasses import dataclass

from honcho.printer import Message

from protocol.process import ERROR_PREFIX

GRAVE = ("WARNING", "ERROR", "CRITICAL")
SYSTEM = "system"
"""honcho's name for what mlx-train itself says."""

# An unterminated string sequence loses its introducer alone: it must not hide the rest of the line.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
_BLANKS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]")
# Besides C0 and C1: marks that turn the direction of text or have no width.
_CONTROLS = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_LOGGED = re.compile(
    r"(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d(?:,\d+)? (DEBUG|INFO|WARNING|ERROR|CRITICAL) +(.*)"
)
_ROLE_ENDED = re.compile(r"\S+ (?:was killed by|ended with code [1-9])")


@dataclass(frozen=True)
class RoleLine:
    """One line of a process."""

    process: str
    """honcho's name of it, or `system`."""
    time: str
    """Of day, to the second."""
    level: str
    """Of Python's logging; INFO where the line does not say."""
    text: str
    """The whole line, clean."""
    message: str
    """The text without the time and the level that a log line begins with."""

    @property
    def is_grave(self) -> bool:
        """Whether it is a warning or worse."""
        return self.level in GRAVE


def read_line(message: Message, time_format: str = "%H:%M:%S") -> RoleLine:
    """Return the line that honcho hands over."""
    text = clean(decoded(message))
    name, time = message.name or "", message.time.strftime(time_format)
    if logged := _LOGGED.fullmatch(text):
        return RoleLine(name, time, logged[1], text, logged[2])
    if text.startswith(ERROR_PREFIX):
        return RoleLine(name, time, "ERROR", text, text)
    level = "WARNING" if name == SYSTEM and _ROLE_ENDED.match(text) else "INFO"
    return RoleLine(name, time, level, text, text)


def decoded(message: Message) -> str:
    """Return honcho's bytes or text as text, without the line's end."""
    data = message.data
    return (data.decode("utf-8", "replace") if isinstance(data, bytes) else data).rstrip("\r\n")


def clean(text: str) -> str:
    """Return the text without escape sequences and control characters, as one line."""
    return _CONTROLS.sub("", _BLANKS.sub(" ", _ESCAPES.sub("", text)))
