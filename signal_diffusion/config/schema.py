"""One frozen dataclass per table of the experiment file; the string under a field is its documentation.

Pydantic checks types and ranges when a file is read; `config/validating.py` reports the errors.
"""

from __future__ import annotations

from dataclasses import field

from pydantic.dataclasses import dataclass

from signal_diffusion.config.data_tables import Augmentation, Balancing, ColorJitter, Columns, Data, Loading, Paths
from signal_diffusion.config.generation_tables import CHECKPOINT, Generation, GenerationOutput, Sampling
from signal_diffusion.config.model_tables import Autoencoder, Conditioning, Diffusion, Lora, Model
from signal_diffusion.config.optimization_tables import Ema, Optimizer, Scheduler
from signal_diffusion.config.run_tables import Compute, Debug, Logging, Output, Subdirs, ValidationRules
from signal_diffusion.config.training_tables import Checkpointing, Masking, Performance, Resume, Training
from signal_diffusion.config.types import TABLE
from signal_diffusion.config.validation_tables import GENERATED, LARGER_IS_BETTER, Validation, Visualization

__all__ = [
    "CHECKPOINT",
    "GENERATED",
    "LARGER_IS_BETTER",
    "TABLE",
    "Augmentation",
    "Autoencoder",
    "Balancing",
    "Checkpointing",
    "ColorJitter",
    "Columns",
    "Compute",
    "Conditioning",
    "Data",
    "Debug",
    "Diffusion",
    "Ema",
    "Experiment",
    "Generation",
    "GenerationOutput",
    "Loading",
    "Logging",
    "Lora",
    "Masking",
    "Model",
    "Optimizer",
    "Output",
    "Paths",
    "Performance",
    "Resume",
    "Sampling",
    "Scheduler",
    "Subdirs",
    "Training",
    "Validation",
    "ValidationRules",
    "Visualization",
]


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Experiment:
    """The whole experiment file of a diffusion model."""

    compute: Compute = field(default_factory=Compute)
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    generation: Generation = field(default_factory=Generation)
    output: Output = field(default_factory=Output)
    logging: Logging = field(default_factory=Logging)
    validation_rules: ValidationRules = field(default_factory=ValidationRules)
    debug: Debug = field(default_factory=Debug)
