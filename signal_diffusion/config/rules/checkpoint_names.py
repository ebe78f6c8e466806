"""Rules about the checkpoints that settings name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from signal_diffusion.config.rules.findings import AnyExperiment, Finding
from signal_diffusion.config.schema import CHECKPOINT, Experiment
from signal_diffusion.untrusted import weights_file_problem

__all__ = ["folders", "resumed", "sampled"]


def resumed(experiment: AnyExperiment) -> Iterator[Finding]:
    """A file of weights where the folder of a checkpoint is expected."""
    resume = experiment.training.resume
    if resume.enabled and (problem := weights_file_problem(resume.checkpoint)):
        yield "training.resume.checkpoint", f"{resume.checkpoint!r} is {problem}"


def folders(experiment: Experiment) -> Iterator[Finding]:
    """Files of weights where the folder of a checkpoint is expected."""
    values = {
        "model.pretrained": experiment.model.pretrained,
        "generation.checkpoint": experiment.generation.checkpoint,
        "generation.sampling.guidance_checkpoint": experiment.generation.sampling.guidance_checkpoint,
    }
    for key, value in values.items():
        if problem := weights_file_problem(value):
            yield key, f"{value!r} is {problem}"


def sampled(experiment: Experiment) -> Iterator[Finding]:
    """Which checkpoint of a run to sample from."""
    name = experiment.generation.checkpoint
    if not re.fullmatch(CHECKPOINT, name) and not weights_file_problem(name):
        yield "generation.checkpoint", f"expected 'latest', 'best' or 'checkpoint-<step>', found {name!r}"
