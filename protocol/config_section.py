"""What every section of the config is made of."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Base of all sections: frozen, and no unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,  # Welcome carries the config as JSON, which has neither
    )


class PluginConfig(BaseModel):
    """A plug-in by name; all other keys are its parameters."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str = Field(min_length=1)

    @property
    def parameters(self) -> dict[str, Any]:
        """What the config says besides the name."""
        return dict(self.model_extra or {})


class RewardConfig(PluginConfig):
    """One reward function: `{name, weight, timeout_seconds, **parameters}`."""

    weight: float = Field(default=1.0, allow_inf_nan=False)
    timeout_seconds: float = Field(default=30.0, gt=0.0, allow_inf_nan=False)
    """CPU seconds that one completion may take, and likewise idle seconds."""


def labels_of(configs: Iterable[PluginConfig]) -> list[str]:
    """What each reward is reported as: its name without a path, numbered where it is repeated."""
    seen: Counter[str] = Counter()
    labels: list[str] = []
    for config in configs:
        name = config.name.rpartition(":")[2]
        seen[name] += 1
        labels.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return labels
