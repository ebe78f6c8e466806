"""A short run that compares generated samples at each validation, and the same comparison outside of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import Accelerator

from signal_diffusion.config import schema
from signal_diffusion.data.loaders import Examples
from signal_diffusion.experiment.dataset import Dataset
from signal_diffusion.sampling.trained import Trained
from signal_diffusion.training.comparison import Comparison
from signal_diffusion.training.spectral_distance import GeneratedSamples

NUM_EXAMPLES = 14  # of validation, each with a phase that has to be found
SHORT = (
    "training.max_steps=4",
    "data.loading.max_train_examples=32",
    f"training.validation.num_examples={NUM_EXAMPLES}",
)
COMPARED = (*SHORT, "training.validation.num_generated=5")


def examples_of(trained: Trained, root: Path, split: str) -> Examples:
    dataset = Dataset(data=trained.experiment.data, root=root, card=trained.card)
    return dataset.examples(split, trained.attributes)


def held_out(trained: Trained, root: Path) -> Examples:
    return examples_of(trained, root, "validation")


def comparison(trained: Trained, root: Path, **others: Any) -> Comparison:
    representation = others.pop("representation", trained.representation)
    table = schema.Validation(**({"num_generated": 5, "num_examples": NUM_EXAMPLES} | others))
    samples = GeneratedSamples(
        held_out(trained, root), trained.generator, representation, table=table, guidance_scale=1.0, seed=0
    )
    training = examples_of(trained, root, "train")
    return Comparison(samples, training, Accelerator(cpu=True), card=trained.card, metric=table.metric)
