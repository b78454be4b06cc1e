"""Section: what all sections of mongoguard.yaml share.

In: nothing. Out: the base class of every section's model. Must not know any section.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """Unknown keys are refused, types are not guessed, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)
