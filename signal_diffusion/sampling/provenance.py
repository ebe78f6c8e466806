"""How samples were made: the settings that determine them, and what `samples.json` says."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from signal_diffusion.checkpoints import digests
from signal_diffusion.experiment.loading import RunPaths
from signal_diffusion.paths import without_paths
from signal_diffusion.sampling.choosing import is_exported
from signal_diffusion.sampling.drawing import requested_columns
from signal_diffusion.sampling.guide import guide_folder
from signal_diffusion.sampling.requests import Request
from signal_diffusion.sampling.trained import Trained

__all__ = ["checkpoint_name", "provenance_of", "settings_of", "weight_hashes"]

PACKAGES = ("signal-diffusion", "torch", "diffusers", "numpy")


def settings_of(trained: Trained, request: Request) -> dict[str, Any]:
    """Everything that determines the samples, except the batch size, which only rounds them."""
    # Names and texts, because the index of a caption differs from command to command.
    columns = {
        name: values.tolist() for name, values in sorted(requested_columns(trained.attributes, request.cond).items())
    }
    rows = hashlib.sha256(repr((request.noise, request.phase, columns)).encode())
    guide = guide_folder(trained.sampling, trained.checkpoint) if trained.guide else None
    card = trained.card
    montage = {} if trained.places is None else {"montage": {name: card.positions[name] for name in card.channels}}
    return (
        dataclasses.asdict(trained.sampling)
        | montage
        | {
            "num_samples": len(request),
            "electrodes": request.electrodes,
            "conditions_sha256": rows.hexdigest(),
            "weights_sha256": weight_hashes(trained.checkpoint),
            "guide_weights_sha256": weight_hashes(guide) if guide else {},
            "device": trained.generator.device,
        }
    )


def provenance_of(trained: Trained, settings: Mapping[str, Any], requested: Mapping[str, str]) -> dict[str, Any]:
    """What `samples.json` says about how samples were made."""
    return without_paths(dict(settings)) | {
        "checkpoint": checkpoint_name(trained),
        "asked": {name: without_paths(text) if name == "like" else text for name, text in requested.items()},
        "versions": {name: version(name) for name in PACKAGES},
    }


def weight_hashes(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of the weight files of a checkpoint, by name."""
    return {name: digest for name, digest in digests(checkpoint).items() if name.endswith(".safetensors")}


def checkpoint_name(trained: Trained) -> str:
    """The checkpoint below its run's folder, such as `my-run/checkpoint-500`; of an exported model only the folder."""
    checkpoint = trained.checkpoint.absolute()
    if is_exported(checkpoint):
        return checkpoint.name
    base = RunPaths.around(checkpoint, trained.experiment.output.subdirs).base
    return checkpoint.relative_to(base.parent).as_posix()
