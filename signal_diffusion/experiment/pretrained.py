"""Weights that an experiment starts from, or that a checkpoint needs and does not hold.

A checkpoint holds what was trained. What else it takes to use it, the autoencoder, the text encoder and under LoRA the
pretrained weights, is named by the experiment and recognised by its hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from signal_diffusion import checkpoints
from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError, listed
from signal_diffusion.experiment.compatibility import check_same_network, other_conditions
from signal_diffusion.models.autoencoders.frozen import Autoencoder, LatentStatistics
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.pretrained import CONFIG, PIPELINE, DiffusersDenoiser, located
from signal_diffusion.models.registry import BACKBONES
from signal_diffusion.paths import expanded

__all__ = [
    "FROZEN_NAME",
    "KEYS",
    "LATENTS_NAME",
    "advice_without_hub",
    "check_pretrained",
    "check_same_frozen",
    "in_diffusers_layout",
    "latent_statistics",
    "load_pretrained",
    "pretrained_conditions",
    "pretrained_in_errors",
    "weights_folder",
]

FROZEN_NAME = "frozen.json"
"""File of a checkpoint: hashes of the weights that it needs and does not hold."""
LATENTS_NAME = "latents.json"
"""File of a checkpoint: the `LatentStatistics` that its network's latents are normalised with."""
KEYS = {
    "autoencoder": "[model.autoencoder] path",
    "pretrained": "[model] pretrained",
    "text_encoder": "[model.conditioning] text_encoder",
}
"""Keys that name such weights, as errors show them, by their names in `FROZEN_NAME`."""


def latent_statistics(
    model: schema.Model, autoencoder: Autoencoder, checkpoint: Path | None
) -> LatentStatistics | None:
    """Statistics of the checkpoint's latents, or of the run whose weights a new one starts from in the same space."""
    if checkpoint is not None:
        return _statistics_in(checkpoint, "start a new run")
    if not model.pretrained:
        return None
    folder = expanded(model.pretrained, "[model] pretrained")
    if _trained_with(folder).get("autoencoder") != autoencoder.fingerprint:
        return None
    with pretrained_in_errors():
        return _statistics_in(folder, "expected a checkpoint of this version")


def check_same_frozen(checkpoint: Path, frozen: Mapping[str, str]) -> None:
    """Raise a `UserError` unless the `frozen` hashes are those that a checkpoint was trained with.

    LoRA changes of other weights, or latents of another autoencoder, would give noise that looks like a result.
    """
    trained_with = _trained_with(checkpoint)
    for name, key in KEYS.items():
        then, now = trained_with.get(name, "none"), frozen.get(name, "none")
        if then != now:
            raise UserError(
                f"{key}: other weights than {checkpoint} was trained with (SHA-256 {now[:12]}, and {then[:12]} then); "
                "put those back, or start a new run"
            )


def pretrained_conditions(experiment: schema.Experiment, card: DatasetCard) -> str:
    """The conditions of the checkpoint of ours that [model] pretrained names, where they are others; "" else.

    What embeds conditions is fresh then, as it is beside weights in diffusers' layout.
    """
    if not experiment.model.pretrained:
        return ""
    with pretrained_in_errors():
        folder = expanded(experiment.model.pretrained, "[model] pretrained")
        ours = (folder / checkpoints.MANIFEST).is_file()
        return other_conditions(folder, experiment, card) if ours else ""


def check_pretrained(model: Denoiser, experiment: schema.Experiment) -> None:
    """Hold the weights that [model] pretrained names against the network that they are for, before they are read.

    Raises
    ------
    UserError
        Where they are not whole, or of another network.
    """
    table = experiment.model
    with pretrained_in_errors():
        if isinstance(model, DiffusersDenoiser) and in_diffusers_layout(table):
            model.check_channels(weights_folder(table, weights=False))
            return
        folder = expanded(table.pretrained, "[model] pretrained")
        if not (folder / checkpoints.MANIFEST).is_file():
            raise UserError(f"{folder}: not a checkpoint; expected the checkpoint-<step> folder of an earlier run")
        checkpoints.verify(folder)
        check_same_network(folder, experiment)


def load_pretrained(model: Denoiser, experiment: schema.Experiment, card: DatasetCard) -> None:
    """Load the weights that [model] pretrained names into a fresh network.

    From a checkpoint of ours they are the averaged ones; its conditioning is kept fresh if its conditions are others.
    """
    table = experiment.model
    with pretrained_in_errors():
        if isinstance(model, DiffusersDenoiser) and in_diffusers_layout(table):
            model.load_pretrained(weights_folder(table))
        else:
            folder = expanded(table.pretrained, "[model] pretrained")
            with _own_conditioning(model) if pretrained_conditions(experiment, card) else nullcontext():
                checkpoints.load_weights(model, folder, use_ema=True)


def in_diffusers_layout(model: schema.Model) -> bool:
    """Whether [model] pretrained names weights in diffusers' layout; a `UserError` if the backbone cannot use them."""
    if not model.pretrained:
        return False
    root = expanded(model.pretrained, "[model] pretrained")
    if (root / checkpoints.MANIFEST).is_file():
        return False
    if BACKBONES[model.name].architecture_of is not None:
        return True
    if (root / PIPELINE).is_file() or (root / CONFIG).is_file():
        able = [name for name, backbone in BACKBONES.items() if backbone.architecture_of is not None]
        raise UserError(
            f"[model] pretrained: {root} is in diffusers' layout, which {listed(able)} can start from; for "
            f"{model.name!r} expected the checkpoint folder of an earlier run"
        )
    return False


def weights_folder(model: schema.Model, *, weights: bool = True) -> Path:
    """The folder of the network's weights, or of its settings alone, local or brought here from the Hub."""
    root = expanded(model.pretrained, "[model] pretrained").as_posix()
    return located(root, BACKBONES[model.name].part, weights=weights)


def advice_without_hub(model: schema.Model) -> str:
    """What to set where weights are on the Hub alone, which may be out of reach: the end of an error's line."""
    if not model.autoencoder.enabled or expanded(model.pretrained, "[model] pretrained").is_dir():
        return ""
    return (
        '; without the Hub, set model.pretrained to a local folder, or model.pretrained = "" and '
        "model.autoencoder.path to a VAE's folder"
    )


@contextmanager
def pretrained_in_errors(advice: str = "") -> Iterator[None]:
    """Put the key [model] pretrained before errors that name no key, and `advice` behind all."""
    try:
        yield
    except UserError as error:
        lines = (line if line.startswith("[") else f"[model] pretrained: {line}" for line in error.lines)
        raise UserError(*(f"{line}{advice}" for line in lines)) from None


def _statistics_in(checkpoint: Path, advice: str) -> LatentStatistics:
    if not (checkpoint / LATENTS_NAME).is_file():
        raise UserError(
            f"{checkpoint}: has no {LATENTS_NAME}, so what its network takes for latents is not known; it was made "
            f"by an earlier version: {advice}"
        )
    return LatentStatistics.from_json((checkpoint / LATENTS_NAME).read_text(encoding="utf-8"))


def _trained_with(checkpoint: Path) -> dict[str, str]:
    path = checkpoint / FROZEN_NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


@contextmanager
def _own_conditioning(model: Denoiser) -> Iterator[None]:
    """Have a network keep its `conditioning` in place of that, or of none, of a state that is loaded meanwhile."""

    def keep(module: torch.nn.Module, state: dict[str, Any], *_: object) -> None:
        for name in [name for name in state if name.startswith("conditioning.")]:
            del state[name]
        state.update({name: own for name, own in module.state_dict().items() if name.startswith("conditioning.")})

    hook = model.register_load_state_dict_pre_hook(keep)
    try:
        yield
    finally:
        hook.remove()
