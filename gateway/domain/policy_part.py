"""What all parts of a policy have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["PolicyPart"]


class PolicyPart(BaseModel):
    """A part of a policy's file: frozen, refuses what it does not know, and keeps values out of its errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, coerce_numbers_to_str=False
    )
