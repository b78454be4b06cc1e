"""Section: what all sections of mongoguard.yaml share.

In: nothing. Out: the base class of every section's model, and the types of fields that several have. Must not know any
section.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict

__all__ = ["FilePath", "Section"]


class Section(BaseModel):
    """Unknown keys are refused, types are not guessed, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


def _path(value: str) -> str:
    if not value or "\0" in value:
        raise ValueError("expected a file path")
    return value


FilePath: TypeAlias = Annotated[str, AfterValidator(_path)]
