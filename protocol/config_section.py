"""What every section of the config is made of."""

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
