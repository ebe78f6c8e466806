"""Statistics of latents, which a latent model normalises them by."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated

from pydantic import Field

__all__ = ["LatentStatistics"]


@dataclass(frozen=True)
class LatentStatistics:
    """Statistics of each latent channel, scaled by the VAE's own factors, over training examples, positions and draws.

    Draws are samples from the posterior.
    """

    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    """Above zero; 1 for a constant channel."""

    def to_json(self) -> str:
        """Write them as text; `untrusted.read_json` reads the same values."""
        return json.dumps(asdict(self), indent=2) + "\n"
