"""Bounds of the numbers that a config may set, shared by the algorithms."""

from typing import Annotated

from pydantic import Field

ClipLow = Annotated[float, Field(ge=0.0, le=1.0)]
"""Offset of a ratio's lower bound from 1."""
ClipHigh = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
"""Offset of a ratio's upper bound from 1."""
Coefficient = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
"""Weight of a term of the loss; 0 leaves it out."""
DualClip = Annotated[float, Field(gt=1.0, allow_inf_nan=False)]
"""The ratio from which on a token with a bad advantage has no gradient."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A number from 0 to 1: a discount, or a difference of probabilities."""
