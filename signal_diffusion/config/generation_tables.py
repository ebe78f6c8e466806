"""The tables of sampling: [generation] and its subtables."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from signal_diffusion.config.types import (
    TABLE,
    Fraction,
    Name,
    NotNegative,
    PerRow,
    Positive,
    Resamplings,
    Samples,
    SamplingSteps,
    Seed,
)

__all__ = ["CHECKPOINT", "Generation", "GenerationOutput", "Sampling"]

CHECKPOINT = r"latest|best|checkpoint-\d+"
"""Regular expression for the values of `generation.checkpoint`."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Sampling:
    """[generation.sampling]: defaults for previews and for `signal-diffusion sample`."""

    num_samples: Samples = 64
    """Samples to generate."""
    sampler: Name = "euler"
    """Sampler; docs/sampling.md compares them."""
    steps: SamplingSteps = 50
    """Steps of the sampler. Each evaluates the network once, with heun twice and with rk4 four times; the last step of
    both takes one evaluation less. Guidance doubles the count, and cfg++ triples it. Raise them until samples no longer
    change."""
    eta: Fraction = 0.0
    """ddim: noise added per step, as a fraction of the ancestral sampler's; 0 = deterministic."""
    time_grid: Name = "uniform"
    """Times of the steps: "uniform" from 1 to 0, "karras" denser at low noise (arXiv 2206.00364, equation 5), or, for
    flows, "shifted", denser at high noise (arXiv 2403.03206, equation 23)."""
    time_shift: Positive = 3.0
    """shifted: the larger above 1, the denser at high noise; 1 = uniform."""
    guidance_scale: NotNegative = 1.0
    """w in u + w (c - u), where c is the conditional prediction: 1 = only c, in one pass; 0 = only u, with cfg++ in the
    limit of small steps; above 1 amplifies the difference between c and u."""
    guidance_type: Literal["classifier-free", "cfg++", "autoguidance"] = "classifier-free"
    """Where u comes from: "classifier-free", the same network without conditions (arXiv 2207.12598); "cfg++", the same,
    with c - u evaluated half a conditional step ahead, for flows and euler (arXiv 2510.07631); "autoguidance", an
    earlier checkpoint under the same conditions (arXiv 2406.02507)."""
    guidance_interval: tuple[Fraction, Fraction] = Field(default=(0.0, 1.0), strict=False)
    """[low, high]: guide only the steps that start at a time t with low < t and t <= high, where 0 = data and 1 =
    noise; the other steps use c, in one pass (arXiv 2404.07724)."""
    guidance_rescale: Fraction = 0.0
    """Strength with which the guided x0 is rescaled to the standard deviation of the conditional x0; 1 = fully (arXiv
    2305.08891, section 3.4, which rescales the network's output instead)."""
    guidance_checkpoint: str = ""
    """autoguidance: a weaker checkpoint of the same run, either "checkpoint-<step>" in the same folder as the
    checkpoint sampled from, or the path of a checkpoint."""
    resampling_steps: Resamplings = 10
    """How often each step is repeated when values are given to a model that was trained without `training.masking`
    (arXiv 2201.09865). Raise it if restored values do not fit the given ones."""
    use_ema: bool = True
    """Sample from the EMA weights."""
    seed: Seed = 0
    """Sample i depends only on (seed, i)."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class GenerationOutput:
    """[generation.output]: what `signal-diffusion sample` writes."""

    formats: tuple[Literal["npz", "parquet", "fif", "edf"], ...] = Field(default=("npz",), strict=False)
    """File formats for the samples; parquet, fif and edf store signals."""
    save_individual: bool = False
    """Also write one PNG per sample, and metadata.csv."""
    save_grid: bool = False
    """Also write one PNG with all samples."""
    grid_nrow: PerRow = 10
    """Samples per row of that PNG."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Generation:
    """[generation]"""

    checkpoint: Name = "latest"
    """Checkpoint that `sample`, `export` and the pipeline use when given a run: "latest", the newest complete one;
    "best", the one with the best validation result; or "checkpoint-<step>". No effect when given a checkpoint."""
    sampling: Sampling = field(default_factory=Sampling)
    output: GenerationOutput = field(default_factory=GenerationOutput)
