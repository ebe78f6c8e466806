"""Pydantic settings and value ranges that all tables of an experiment file share.

Every integer has a maximum, so that no number in a file can fill the memory or keep a command busy for ever. The
comment above a type says why nobody needs a larger value.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

__all__ = [
    "LEVELS", "MAX_BATCH_SIZE", "MAX_SAMPLES", "MAX_WIDTH", "TABLE", "BatchSize", "Batches", "BelowOne",
    "Classes", "Examples", "ExamplesOrNone", "Finite", "Fraction",
    "Layers", "LayersOrNone", "Name", "NotNegative",
    "PerRow", "Positive", "Resamplings", "Samples", "SamplesOrNone", "SamplingSteps", "Seed", "Side", "SideOrNone",
    "Steps", "StepsOrNone", "Timesteps", "Tokens", "Width", "Workers",
]  # fmt: skip

TABLE = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

# Optimizer steps, epochs, and intervals in them: at a millisecond per step, 10⁹ steps take 11 days.
Steps = Annotated[int, Field(ge=1, le=10**9)]
StepsOrNone = Annotated[int, Field(ge=0, le=10**9)]
# Examples of a split: 10⁹ examples of 64 × 64 are 15 TiB.
Examples = Annotated[int, Field(ge=1, le=10**9)]
ExamplesOrNone = Annotated[int, Field(ge=0, le=10**9)]
# Samples of one command, all of them in memory at once: 10⁷ samples of 64 × 64 are 150 GiB.
MAX_SAMPLES = 10**7
Samples = Annotated[int, Field(ge=1, le=MAX_SAMPLES)]
SamplesOrNone = Annotated[int, Field(ge=0, le=MAX_SAMPLES)]
# Examples per forward pass: LAMB's 65,536 (arXiv 1904.00962) is among the largest batches that were ever trained with.
MAX_BATCH_SIZE = 2**16
BatchSize = Annotated[int, Field(ge=1, le=MAX_BATCH_SIZE)]
# Batches per optimizer step: 4,096 of them are a large step even with one example each.
Batches = Annotated[int, Field(ge=1, le=2**12)]
# Steps of a sampler: DDPM (arXiv 2006.11239) takes 1,000, and 50 usually suffice.
SamplingSteps = Annotated[int, Field(ge=1, le=10_000)]
# Repetitions of a sampler's step: RePaint (arXiv 2201.09865) takes 10.
Resamplings = Annotated[int, Field(ge=1, le=1_000)]
# Noise levels of a discrete schedule: DDPM has 1,000; neighbours of 100,000 are equal in half precision.
Timesteps = Annotated[int, Field(ge=2, le=100_000)]
# Layers of a network, or of one of its levels: GPT-3 has 96, Stable Diffusion 3.5 has 38.
Layers = Annotated[int, Field(ge=1, le=256)]
LayersOrNone = Annotated[int, Field(ge=0, le=256)]
# Channels, heads and states, and the width that heads of some channels add up to: GPT-3 is 12,288 channels wide.
MAX_WIDTH = 2**14
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
# Rows or columns of an example, a patch, a window or a table of positions: in fp32, an image of 8,192² is 768 MiB.
Side = Annotated[int, Field(ge=1, le=2**13)]
SideOrNone = Annotated[int, Field(ge=0, le=2**13)]
# Levels of a hierarchical network: each halves rows and columns, and after 13 nothing is left of the largest example.
LEVELS = Field(min_length=1, max_length=14)
# Classes: ImageNet-21k has 21,841.
Classes = Annotated[int, Field(ge=1, le=100_000)]
# Tokens of a caption: T5 was trained with at most 512.
Tokens = Annotated[int, Field(ge=1, le=512)]
# Worker processes: each imports PyTorch and takes about 300 MiB.
Workers = Annotated[int, Field(ge=0, le=256)]
# Images per row of a figure: 1,000 images of 64 columns are as wide as the widest picture that browsers show.
PerRow = Annotated[int, Field(ge=1, le=1000)]
# Seeds are signed 64-bit integers of PyTorch and TOML.
Seed = Annotated[int, Field(ge=0, lt=2**63)]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(min_length=1)]
