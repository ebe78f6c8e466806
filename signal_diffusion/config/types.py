"""Pydantic settings and value ranges that all tables of an experiment file share."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

__all__ = [
    "TABLE", "BelowOne", "Count", "CountOrNone", "Finite", "Fraction", "Name", "NotNegative", "Positive", "Seed",
]  # fmt: skip

TABLE = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(min_length=1)]
