"""The weaker network that autoguidance guides away from: an earlier checkpoint of the same run.

Karras et al., https://arxiv.org/abs/2406.02507: it must make the same errors as the network that it guides, only
larger. So it needs the same architecture, data and conditions, and less training (or fewer parameters).
"""

from __future__ import annotations

import copy
import re
from pathlib import Path

from signal_diffusion.checkpoints import load_weights, step_of, verify
from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.checkpoint import FROZEN_NAME, LATENTS_NAME, Checkpoint
from signal_diffusion.experiment.compatibility import check_same_run
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.paths import expand_path

__all__ = ["guide_folder", "guide_of"]

KEY = "[generation.sampling] guidance_checkpoint"
ADVICE = "use an earlier checkpoint of the same run"


def guide_of(checkpoint: Path, experiment: schema.Experiment, card: DatasetCard, model: Denoiser) -> Denoiser | None:
    """A copy of `model` with the weights of the guide in [generation.sampling]; None if autoguidance is off.

    The weights are averaged if those of the model are. Weights that the checkpoint does not contain (the autoencoder,
    the text encoder, the weights that LoRA changes) are the model's.

    Raises
    ------
    UserError
        If there is no such checkpoint, it is damaged, of another run, or not earlier than the sampled one.
    """
    sampling = experiment.generation.sampling
    if sampling.guidance_type != "autoguidance" or sampling.guidance_scale == 1:
        return None
    folder = guide_folder(sampling, checkpoint)
    try:
        _check(folder, checkpoint, experiment, card)
        guide = copy.deepcopy(model)
        load_weights(guide, folder, use_ema=sampling.use_ema)
    except UserError as error:
        raise UserError(*(f"{KEY}: {line}" for line in error.lines)) from None
    return guide.eval()


def guide_folder(sampling: schema.Sampling, checkpoint: Path) -> Path:
    """The folder that `guidance_checkpoint` names: "checkpoint-<step>" next to the sampled checkpoint, or a path."""
    name = sampling.guidance_checkpoint
    return checkpoint.parent / name if re.fullmatch(r"checkpoint-\d+", name) else expand_path(name, KEY)


def _check(folder: Path, checkpoint: Path, experiment: schema.Experiment, card: DatasetCard) -> None:
    if folder.resolve() == checkpoint.resolve():
        raise UserError(f"{folder}: a checkpoint cannot guide itself; {ADVICE}")
    verify(folder)
    check_same_run(Checkpoint(folder), experiment, card, ADVICE, files_advice=ADVICE)
    step, sampled = step_of(folder), step_of(checkpoint)
    if step >= sampled:
        raise UserError(f"{folder}: its step {step} is not before the sampled checkpoint's {sampled}; {ADVICE}")
    for name in (FROZEN_NAME, LATENTS_NAME):
        if _text(folder / name) != _text(checkpoint / name):
            raise UserError(f"{folder / name}: differs from that of {checkpoint}; {ADVICE}")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
