"""Settings for other machines, without the paths and the device of the one that trained the model."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from signal_diffusion.config import schema
from signal_diffusion.experiment.network import GUIDE_FOLDER, TEXT_ENCODER_FOLDER, VAE_FOLDER
from signal_diffusion.paths import is_machine_path, last_part
from signal_diffusion.sampling.trained import Trained
from signal_diffusion.untrusted import read_json

__all__ = ["portable", "remove_paths"]

_PATH_SETTINGS = re.compile(r"(path|file|dir)$")


def portable(trained: Trained) -> schema.Experiment:
    """The experiment for another machine: datasets by their last name, parts by their folder in the export."""
    experiment = trained.experiment
    model, sampling = experiment.model, experiment.generation.sampling
    autoencoder, conditioning = model.autoencoder, model.conditioning
    if trained.autoencoder:
        autoencoder = dataclasses.replace(autoencoder, path=VAE_FOLDER)
    if trained.encoder:
        conditioning = dataclasses.replace(conditioning, text_encoder=TEXT_ENCODER_FOLDER)
    sampling = dataclasses.replace(sampling, use_ema=trained.averaged)
    if trained.guide is not None:
        sampling = dataclasses.replace(sampling, guidance_checkpoint=GUIDE_FOLDER)
    elif sampling.guidance_type == "autoguidance":  # not guided, since the scale is 1
        sampling = dataclasses.replace(sampling, guidance_type="classifier-free", guidance_checkpoint="")
    return dataclasses.replace(
        experiment,
        compute=dataclasses.replace(experiment.compute, device="auto"),
        data=dataclasses.replace(
            experiment.data,
            paths=_portable_paths(experiment.data.paths),
            loading=dataclasses.replace(experiment.data.loading, cache_dir=""),
        ),
        model=dataclasses.replace(
            model, pretrained="", autoencoder=autoencoder, conditioning=conditioning, lora=schema.Lora()
        ),
        training=dataclasses.replace(experiment.training, resume=schema.Resume()),
        generation=dataclasses.replace(experiment.generation, sampling=sampling),
        output=schema.Output(),
        logging=schema.Logging(tensorboard=experiment.logging.tensorboard),  # without account names
    )


def _portable_paths(paths: schema.Paths) -> schema.Paths:
    """The paths of a dataset without folders of this machine: the root, or else the training folder, by last name."""
    default = schema.Paths()
    root = paths.root or (paths.train if is_machine_path(paths.train) else "")
    return schema.Paths(
        root=last_part(root) if is_machine_path(root) else root,
        train=default.train if is_machine_path(paths.train) else paths.train,
        val=default.val if is_machine_path(paths.val) else paths.val,
    )


def remove_paths(path: Path) -> None:
    """Remove from a part's settings the path that it was loaded from, which libraries store there."""
    settings = read_json(path, dict[str, Any], "export again")
    kept = {name: value for name, value in settings.items() if not _is_path(name, value)}
    if kept != settings:
        path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _is_path(name: str, value: object) -> bool:
    return isinstance(value, str) and _PATH_SETTINGS.search(name) is not None and is_machine_path(value)
