"""Every error raised on purpose.

    TrainerError
    |-- ConfigError (ValueError)            the user's config or command line
    |-- DataError (ValueError)              a data file or row
    |-- UnknownPluginError (LookupError)    a name that no registry knows
    |-- WireError                           bytes that are no valid message
    |   `-- VersionError                    a peer that speaks another protocol version
    |-- WeightsError                        a policy version that could not be fetched or verified
    |-- RewardError                         a reward function that failed or misbehaved
    |-- SandboxUnavailable                  a layer of confinement that is missing
    |-- CheckpointError                     a checkpoint that is damaged or does not fit
    `-- RunStopped                          the run cannot go on (watchdog, non-finite numbers)

A message says what was found, what was wanted and what to do; the facts are attributes. `assert` is
our bug, a ValueError or LookupError subclass is the user's.
"""

from difflib import get_close_matches


class TrainerError(Exception):
    """Base of every error that this project raises on purpose."""


class ConfigError(TrainerError, ValueError):
    """The config, a `--set` override or a command-line argument cannot be used as given."""


class DataError(TrainerError, ValueError):
    """A data file or one of its rows cannot be used; the message names file and line."""


class UnknownPluginError(TrainerError, LookupError):
    """A plug-in name that is not registered."""

    def __init__(self, kind: str, name: str, known: tuple[str, ...]) -> None:
        self.kind = kind
        self.name = name
        self.known = known
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        listing = ", ".join(known) or "none"
        super().__init__(f"unknown {kind} {name!r}: {hint}known are {listing}")


class WireError(TrainerError):
    """Frames that do not decode to a valid message; `reason` is the label that is counted."""

    def __init__(self, message: str, reason: str = "malformed") -> None:
        self.reason = reason
        super().__init__(message)


class VersionError(WireError):
    """The peer speaks another version of the protocol."""

    def __init__(self, found: int, wanted: int) -> None:
        self.found = found
        self.wanted = wanted
        super().__init__(
            f"the peer speaks protocol version {found}, this process speaks version {wanted}: "
            "update the older checkout",
            reason="protocol_version",
        )


class WeightsError(TrainerError):
    """A policy version could not be fetched, verified or applied."""


class RewardError(TrainerError):
    """A reward function failed, or returned something that is no reward."""


class SandboxUnavailable(TrainerError):  # noqa: N818 - the name says a state, as users will meet it
    """A layer of confinement is missing; the message names the layer and the remedy."""


class CheckpointError(TrainerError):
    """A checkpoint is damaged, incomplete, or belongs to another model or config."""


class RunStopped(TrainerError):  # noqa: N818 - a reason to end, not a fault of its own
    """The run cannot go on; the message is its reason."""
