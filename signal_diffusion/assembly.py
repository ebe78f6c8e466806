"""A network as it is before its training begins, or before a checkpoint is loaded into it: one way to both.

A checkpoint holds what was trained. What else it takes to use it, the autoencoder and under LoRA the pretrained
weights, is named by the experiment and known again by its hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from signal_diffusion import experiment as experiments
from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError
from signal_diffusion.models.autoencoder import Autoencoder, load_vae
from signal_diffusion.models.conditioning import Caption
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.lora import add_lora, frozen_state
from signal_diffusion.randomness import Purpose, derived_seed
from signal_diffusion.training.pretrained import load_pretrained

__all__ = ["FROZEN_NAME", "Assembly", "assemble", "vae_of"]

FROZEN_NAME = "frozen.json"
"""File of a checkpoint: hashes of the weights that it needs and does not hold."""

_KEYS = {
    "autoencoder": "[model.autoencoder] path",
    "pretrained": "[model] pretrained",
    "text_encoder": "[model.conditioning] text_encoder",
}


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A network, and the space that it works in."""

    model: Denoiser
    autoencoder: Autoencoder | None
    """None where the network works on the examples themselves."""
    frozen: dict[str, str]
    """SHA-256 of the weights that training leaves as they are, by what they are of; kept in every checkpoint."""


def vae_of(model: schema.Model) -> Any | None:
    """The VAE that [model.autoencoder] names; None where it is not enabled. Read before anything else is done."""
    if not model.autoencoder.enabled:
        return None
    table, key = (model.autoencoder, "path") if model.autoencoder.path else (model, "pretrained")
    return load_vae(str(experiments.expanded(getattr(table, key), _KEYS["autoencoder"])))


def assemble(
    experiment: schema.Experiment,
    card: DatasetCard,
    vae: Any | None,
    caption: Caption | None = None,
    *,
    checkpoint: Path | None = None,
) -> Assembly:
    """The experiment's network: its fresh weights, the pretrained ones in their place, and the changes of LoRA.

    With a `checkpoint`, whose weights are loaded into the network after this, the pretrained ones are read only where
    it does not hold them.

    Raises
    ------
    UserError
        Where something does not fit, or is not what the checkpoint was trained with.
    """
    table = experiment.model
    autoencoder = Autoencoder(vae, card.shape) if vae is not None else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(Purpose.WEIGHTS, experiment.compute.seed))
        latent_shape = autoencoder.latent_shape if autoencoder else None
        model = experiments.model_of(table, card, experiment.data.columns, latent_shape, caption)
        if table.pretrained and (table.lora.enabled or checkpoint is None):
            load_pretrained(model, table)
        if table.lora.enabled:
            add_lora(model, table.lora)
    states = {"autoencoder": autoencoder.state_dict() if autoencoder else {}, "pretrained": frozen_state(model)}
    frozen = {name: _fingerprint(state) for name, state in states.items() if state}
    if caption:
        frozen["text_encoder"] = caption.encoder
    if checkpoint is not None:
        _check_same_frozen(checkpoint, frozen)
    return Assembly(model=model, autoencoder=autoencoder, frozen=frozen)


def _check_same_frozen(checkpoint: Path, frozen: Mapping[str, str]) -> None:
    """Changes of other weights, or latents of another autoencoder, would give noise that looks like a result."""
    path = checkpoint / FROZEN_NAME
    trained_with = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name, key in _KEYS.items():
        then, now = trained_with.get(name, "none"), frozen.get(name, "none")
        if then != now:
            raise UserError(
                f"{key}: other weights than {checkpoint} was trained with (SHA-256 {now[:12]}, and {then[:12]} then); "
                "put those back, or start a new run"
            )


def _fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
