"""Read an experiment file and check it against the models, methods, samplers and representations of this version."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.loading import is_autoencoder_file, read_autoencoder_experiment, read_experiment
from signal_diffusion.config.offer import Offer
from signal_diffusion.config.sources import CONFIG_NAME
from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.registry import REPRESENTATIONS
from signal_diffusion.diffusion.generation import times_of
from signal_diffusion.diffusion.methods import METHODS, PREDICTIONS, method_of
from signal_diffusion.diffusion.samplers import SAMPLERS
from signal_diffusion.diffusion.time_grids import TIME_GRIDS
from signal_diffusion.errors import UserError
from signal_diffusion.models.registry import BACKBONES

__all__ = [
    "CONFIG_NAME",
    "RunPaths",
    "file_in_errors",
    "load_any_experiment",
    "load_autoencoder_experiment",
    "load_experiment",
    "offer",
]

MAX_TERMINAL_ALPHA = 0.1  # share of the data left in x_t at the last step; sampling starts from pure noise


@dataclass(frozen=True)
class RunPaths:
    """The folders of a run."""

    base: Path
    logs: Path
    checkpoints: Path
    samples: Path
    generated: Path

    @classmethod
    def of(cls, base: Path, subdirs: schema.Subdirs) -> RunPaths:
        """The folders that [output.subdirs] names, inside the run directory `base`."""
        return cls(
            base, base / subdirs.logs, base / subdirs.checkpoints, base / subdirs.samples, base / subdirs.generated
        )

    @classmethod
    def around(cls, checkpoint: Path, subdirs: schema.Subdirs) -> RunPaths:
        """The folders of the run that a checkpoint's folder is in."""
        base = checkpoint.parent
        for _ in cls.of(Path(), subdirs).checkpoints.parts:
            base = base.parent
        return cls.of(base, subdirs)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> schema.Experiment:
    """Read and check the experiment file of a diffusion model, with `table.key=value` overrides.

    Raises
    ------
    UserError
        With one line per mistake.
    """
    return read_experiment(path, offer(), overrides)


def offer() -> Offer:
    """Everything that an experiment file can name in this version."""
    return Offer(
        architectures={name: backbone.architecture for name, backbone in BACKBONES.items()},
        representations=(*REPRESENTATIONS, Picture.name),
        methods=METHODS,
        predictions=PREDICTIONS,
        samplers=SAMPLERS,
        time_grids=TIME_GRIDS,
        check=_check,
        check_schedule=_check_schedule,
    )


def load_autoencoder_experiment(path: Path, overrides: Sequence[str] = ()) -> AutoencoderExperiment:
    """Read and check the experiment file of an autoencoder, like `load_experiment`."""
    return read_autoencoder_experiment(path, BACKBONES, (*REPRESENTATIONS, Picture.name), overrides)


def load_any_experiment(path: Path, overrides: Sequence[str] = ()) -> schema.Experiment | AutoencoderExperiment:
    """Read an experiment file of either kind."""
    return (
        load_autoencoder_experiment(path, overrides)
        if is_autoencoder_file(path, overrides)
        else load_experiment(path, overrides)
    )


def _check(experiment: schema.Experiment) -> Iterator[tuple[str, str]]:
    """Contradictions that need the backbones and methods to be found, as (dotted key, message)."""
    yield from _check_method(experiment)
    model = experiment.model
    try:
        BACKBONES[model.name].builder.check(model.architecture)
    except UserError as error:
        yield "model.architecture", str(error)
    if model.conditioning.type == "caption" and not model.conditioning.text_encoder and model.pretrained:
        folder = Path(os.path.expandvars(model.pretrained)).expanduser()
        if folder.is_dir() and not (folder / "model_index.json").is_file():
            yield (
                "model.conditioning.text_encoder",
                "expected the folder, or the Hub id, of a text encoder: model.pretrained = "
                f"{model.pretrained!r} is not a diffusers pipeline, which would contain one",
            )


def _check_method(experiment: schema.Experiment) -> Iterator[tuple[str, str]]:
    """Contradictions in the method, which are found by building it, and LoRA for a backbone without it."""
    if experiment.model.lora.enabled and not BACKBONES[experiment.model.name].builder.lora_targets:
        able = [name for name, each in BACKBONES.items() if each.builder.lora_targets]
        yield (
            "model.lora.enabled",
            f"LoRA is not available for {experiment.model.name!r}; set model.name to one of {', '.join(able)}, or "
            "leave the key out",
        )
    try:
        method = method_of(experiment.model.diffusion)
    except UserError as error:
        yield "model.diffusion.prediction", str(error)
        return
    try:
        times_of(method, experiment.generation.sampling)
    except UserError as error:
        yield "generation.sampling.steps", str(error)


def _check_schedule(experiment: schema.Experiment) -> Iterator[tuple[str, str]]:
    """A schedule that never reaches pure noise."""
    if (terminal_alpha := method_of(experiment.model.diffusion).schedule.terminal_alpha) > MAX_TERMINAL_ALPHA:
        yield (
            "model.diffusion.beta_schedule",
            f"leaves {terminal_alpha:.2f} of the data at the last step, but sampling starts from noise; expected "
            f"at most {MAX_TERMINAL_ALPHA}: use more num_timesteps, a larger beta_end, or zero_terminal_snr = true",
        )


@contextmanager
def file_in_errors(path: Path) -> Iterator[None]:
    """Prefix errors about tables of an experiment file with its path."""
    try:
        yield
    except UserError as error:
        raise type(error)(*(f"{path}: {line}" if line.startswith("[") else line for line in error.lines)) from None
