"""The config's rewards -> functions ready to be called, their parameters checked."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from protocol.config import RewardConfig
from protocol.config_section import labels_of
from protocol.errors import ConfigError
from protocol.plugin_values import checked_value, signature_of
from reward_workers.registry import (
    CHECK_ATTRIBUTE,
    NETWORK_ATTRIBUTE,
    RewardFunction,
    missing_column,
    reward,
)
from reward_workers.rows import GIVEN, Row

_ORDINARY = inspect.Parameter.POSITIONAL_OR_KEYWORD
_AFTER_STAR = inspect.Parameter.KEYWORD_ONLY

SANDBOX = "sandbox"
"""The parameter by which a reward function asks for the sandbox."""
_OF_EVERY_REWARD = tuple(RewardConfig.model_fields)
"""Keys of the config that may be misspelt as well."""


@dataclass(frozen=True)
class BoundReward:
    """One reward of the config, with its parameters."""

    name: str
    """As reported: see `labels_of`."""
    weight: float
    function: RewardFunction
    parameters: Mapping[str, Any]
    signature: inspect.Signature

    @property
    def uses_sandbox(self) -> bool:
        """Whether it asks for the sandbox."""
        asked = self.signature.parameters.get(SANDBOX)
        return asked is not None and asked.kind is _AFTER_STAR

    @property
    def needs_network(self) -> bool:
        """Whether it may open connections."""
        return bool(getattr(self.function, NETWORK_ATTRIBUTE, False))

    def arguments(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Keyword arguments for rows that all have the same columns, without the sandbox.

        Raises:
            RewardError: a column that the function names and the rows lack.
        """
        available = {name: [row.columns[name] for row in rows] for name in rows[0].columns}
        for name, attribute in GIVEN.items():
            available[name] = [getattr(row, attribute) for row in rows]
        takes = self.signature.parameters.values()
        for taken in takes:
            needed = taken.kind is _ORDINARY and taken.default is taken.empty
            if needed and taken.name not in available:
                raise missing_column(taken.name, rows[0].columns)
        if any(taken.kind is taken.VAR_KEYWORD for taken in takes):
            hidden = {taken.name for taken in takes if taken.kind is _AFTER_STAR}
        else:
            hidden = set(available) - {taken.name for taken in takes if taken.kind is _ORDINARY}
        passed = {name: values for name, values in available.items() if name not in hidden}
        return {**passed, **self.parameters}


def bind_rewards(configs: Iterable[RewardConfig]) -> tuple[BoundReward, ...]:
    """Finds every reward of a config and checks its parameters.

    Raises:
        UnknownPluginError: no such reward.
        ConfigError: a module or file that cannot be loaded; a parameter that the reward does not
            take, lacks, or cannot use.
    """
    configs = tuple(configs)
    return tuple(bind_reward(*pair) for pair in zip(configs, labels_of(configs), strict=True))


def bind_reward(config: RewardConfig, label: str) -> BoundReward:
    """Finds one reward; raises what `bind_rewards` does."""
    where = f"reward {config.name!r}"
    function = reward.get(config.name)
    signature = _signature(function, where)
    known = _settable(signature)
    for name in config.parameters:
        if name not in known:
            raise ConfigError(_unknown(where, name, signature))
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in config.parameters:
            raise ConfigError(f"{where} needs the parameter {name!r}")
    checked = {
        name: checked_value(f"{where}: parameter {name!r}", value, known[name].annotation)
        for name, value in config.parameters.items()
    }
    if check := getattr(function, CHECK_ATTRIBUTE, None):
        try:
            check(**checked)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
    return BoundReward(label, config.weight, function, checked, signature)


def _signature(function: RewardFunction, where: str) -> inspect.Signature:
    try:
        signature = signature_of(function)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} cannot be called by keyword: {error}") from None
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ConfigError(f"{where} takes {parameter.name!r} by position only: remove the '/'")
    return signature


def _settable(signature: inspect.Signature) -> dict[str, inspect.Parameter]:
    parameters = signature.parameters.items()
    return {name: p for name, p in parameters if p.kind is _AFTER_STAR and name != SANDBOX}


def _unknown(where: str, name: str, signature: inspect.Signature) -> str:
    if (parameter := signature.parameters.get(name)) and parameter.kind is _ORDINARY:
        return f"{where}: {name!r} is a data column, not a parameter; put it after '*' to set it"
    if name == SANDBOX and name in signature.parameters:
        return f"{where}: 'sandbox' is given to the function, it cannot be set"
    known = list(_settable(signature))
    near = get_close_matches(name, [*known, *_OF_EVERY_REWARD], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{where} takes no parameter {name!r}: {hint}known are {', '.join(known) or 'none'}"
