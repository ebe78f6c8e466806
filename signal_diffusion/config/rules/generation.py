"""Rules about [generation], and about guidance in previews."""

from __future__ import annotations

from collections.abc import Iterator

from signal_diffusion.config.rules.findings import Finding
from signal_diffusion.config.schema import Experiment

__all__ = ["guidance", "sampling"]


def guidance(experiment: Experiment) -> Iterator[Finding]:
    """Guidance needs a null condition that the model was trained on."""
    conditioning = experiment.model.conditioning
    by_another_network = experiment.generation.sampling.guidance_type == "autoguidance"
    scales = {
        "training.visualization.guidance_scale": experiment.training.visualization.guidance_scale,
        "generation.sampling.guidance_scale": experiment.generation.sampling.guidance_scale,
    }
    for key, scale in scales.items():
        if scale == 1.0 or (key.startswith("generation") and by_another_network):
            continue
        if conditioning.type == "none":
            yield (
                key,
                f"guidance {scale} needs a condition, but model.conditioning.type is 'none'; set it to 1.0",
            )
        elif conditioning.cfg_dropout == 0.0:
            yield (
                key,
                f"guidance {scale} needs a trained null condition, but model.conditioning.cfg_dropout is 0; set it to "
                "1.0, or cfg_dropout to e.g. 0.1",
            )


def sampling(experiment: Experiment) -> Iterator[Finding]:
    """Time grids and guidance types that need a rectified flow, or another setting."""
    sampling, table = experiment.generation.sampling, "generation.sampling"
    flow = experiment.model.diffusion.method == "rectified_flow"
    if sampling.time_grid == "shifted" and not flow:
        yield f"{table}.time_grid", "'shifted' needs model.diffusion.method = 'rectified_flow'; choose another grid"
    if sampling.guidance_type == "cfg++" and not (flow and sampling.sampler == "euler"):
        yield (
            f"{table}.guidance_type",
            "'cfg++' needs model.diffusion.method = 'rectified_flow' and sampler = 'euler'; set both, or choose "
            "another guidance_type",
        )
    if sampling.guidance_type == "autoguidance" and not sampling.guidance_checkpoint:
        yield (
            f"{table}.guidance_checkpoint",
            "'autoguidance' needs a weaker checkpoint to guide with, such as \"checkpoint-1000\"",
        )
    low, high = sampling.guidance_interval
    if low >= high:
        yield f"{table}.guidance_interval", f"expected [low, high] with low below high, found [{low}, {high}]"
