"""How an experiment wants a foreign dataset to be converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ConversionOptions"]


@dataclass(frozen=True, kw_only=True)
class ConversionOptions:
    """How an experiment wants a foreign dataset to be converted."""

    representation: str
    """`image`, `db-only`, `db-iq`, `db-polar` or `timeseries`."""
    columns: Mapping[str, str]
    """Our name of a column (`image`, `signal`, `label`, `gender`, `health`, `age`, `caption`) → the dataset's name."""
    image_size: int | None = None
    """Height and width, pixels; None = that of the images, if all are square and of one size."""
    sampling_rate: float | None = None
    """Hz, only for signals; None = as stated in the files."""
    min_channels: int = 1
    """3 repeats grey images to three channels."""
