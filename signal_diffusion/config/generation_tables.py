"""The tables of sampling: [generation] and what is below it."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from signal_diffusion.config.types import TABLE, Count, Fraction, Name, NotNegative, Positive, Seed

__all__ = ["CHECKPOINT", "Generation", "GenerationOutput", "Sampling"]

CHECKPOINT = r"latest|best|checkpoint-\d+"
"""What `generation.checkpoint` matches."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Sampling:
    """[generation.sampling]: the defaults of previews and of `signal-diffusion sample`."""

    num_samples: Count = 64
    """Samples to generate."""
    sampler: Name = "euler"
    """Sampler: "euler", "ddim", "ddpm", "euler-stochastic", "heun", "rk4" or "dpm++2m"."""
    steps: Count = 50
    """Steps of the sampler. Each evaluates the network once; of heun twice and of rk4 four times, the last step of both
    once less. Guidance doubles that, and cfg++ trebles it."""
    eta: Fraction = 0.0
    """ddim: noise that a step adds, as a share of the ancestral sampler's; 0 = deterministic."""
    time_grid: Literal["uniform", "karras", "shifted"] = "uniform"
    """Times that the steps visit: evenly from 1 to 0, dense at low noise (arXiv 2206.00364, equation 5), or, for flows,
    dense at high noise (arXiv 2403.03206, equation 23)."""
    time_shift: Positive = 3.0
    """shifted: how much denser, above 1; 1 = uniform."""
    guidance_scale: NotNegative = 1.0
    """w of u + w (c - u), c being the network under its conditions: 1 = c alone, in one pass; 0 = u, with cfg++ in the
    limit of small steps; above 1 overstates what sets c apart from u."""
    guidance_type: Literal["classifier-free", "cfg++", "autoguidance"] = "classifier-free"
    """What u is, and where: the same network without conditions (arXiv 2207.12598); the same, with c - u taken half a
    conditional step ahead, for flows and euler (arXiv 2510.07631); or an earlier checkpoint under the same conditions
    (arXiv 2406.02507)."""
    guidance_interval: tuple[Fraction, Fraction] = Field(default=(0.0, 1.0), strict=False)
    """[low, high]: steps that begin at a time t with low < t and t <= high are guided, 0 = data and 1 = noise; the
    others are c alone, in one pass (arXiv 2404.07724)."""
    guidance_rescale: Fraction = 0.0
    """Share by which the guided x0 is scaled back to the standard deviation of that of c (arXiv 2305.08891, section
    3.4, there of the network's output)."""
    guidance_checkpoint: str = ""
    """autoguidance: a weaker checkpoint of the same run, "checkpoint-<step>" beside the one sampled from, or a
    folder."""
    use_ema: bool = True
    """Sample from the averaged weights."""
    seed: Seed = 0
    """Sample i depends on (seed, i) alone."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class GenerationOutput:
    """[generation.output]: what `signal-diffusion sample` writes."""

    formats: tuple[Literal["npz", "parquet", "fif", "edf"], ...] = Field(default=("npz",), strict=False)
    """Files with all samples; the last three hold signals."""
    save_individual: bool = False
    """A PNG per sample too, with metadata.csv."""
    save_grid: bool = False
    """One PNG with all samples too."""
    grid_nrow: Count = 10
    """Samples in a row of it."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Generation:
    """[generation]"""

    checkpoint: Name = "latest"
    """Checkpoint that a run's folder stands for in `sample`, `export` and the pipeline: "latest", the newest whole one;
    "best", that of the best validation; or "checkpoint-<step>". A checkpoint's own folder stands for itself."""
    sampling: Sampling = field(default_factory=Sampling)
    output: GenerationOutput = field(default_factory=GenerationOutput)
