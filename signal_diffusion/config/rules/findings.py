"""What a rule takes, and what it finds."""

from __future__ import annotations

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.schema import Experiment

__all__ = ["AnyExperiment", "Finding"]

Finding = tuple[str, str]
"""A dotted key, and what is wrong with it."""
AnyExperiment = Experiment | AutoencoderExperiment
