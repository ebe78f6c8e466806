"""A network as it is before its training begins, or before a checkpoint is loaded into it: one way to both.

A checkpoint holds what was trained. What else it takes to use it, the autoencoder and under LoRA the pretrained
weights, is named by the experiment and known again by its hash.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from signal_diffusion import checkpoints
from signal_diffusion import experiment as experiments
from signal_diffusion.config import schema
from signal_diffusion.continuity import check_same_network, other_conditions
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError, listed
from signal_diffusion.models.autoencoders.frozen import Autoencoder, LatentStatistics, load_vae
from signal_diffusion.models.conditioning.attributes import Caption
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.fingerprint import fingerprint
from signal_diffusion.models.lora import add_lora, frozen_state
from signal_diffusion.models.pretrained import CONFIG, PIPELINE, DiffusersDenoiser, located
from signal_diffusion.models.registry import BACKBONES
from signal_diffusion.paths import expanded
from signal_diffusion.randomness import Purpose, derived_seed

__all__ = [
    "FROZEN_NAME",
    "GUIDE_FOLDER",
    "LATENTS_NAME",
    "TEXT_ENCODER_FOLDER",
    "VAE_FOLDER",
    "Assembly",
    "assemble",
    "autoencoder_of",
    "check_pretrained",
    "placed",
    "pretrained_conditions",
    "vae_of",
    "with_architecture",
]

FROZEN_NAME = "frozen.json"
"""File of a checkpoint: hashes of the weights that it needs and does not hold."""
LATENTS_NAME = "latents.json"
"""File of a checkpoint: the `LatentStatistics` that its network's latents are normalised with."""
VAE_FOLDER, TEXT_ENCODER_FOLDER, GUIDE_FOLDER = "vae", "text_encoder", "guide"
"""Folders of an exported model, which holds all that it needs; its experiment names them by these names."""

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
    """None where the network works on the examples themselves; normalised where a checkpoint tells how."""
    frozen: dict[str, str]
    """SHA-256 of the weights that training leaves as they are, by what they are of; kept in every checkpoint."""


def with_architecture(
    experiment: schema.Experiment, written: Collection[str] = (), *, checkpoint: Path | None = None
) -> schema.Experiment:
    """The experiment with the architecture of its pretrained weights, where those are in diffusers' layout.

    So a checkpoint's experiment has it, and needs the weights' folder no more. Of what is on the Hub, only settings are
    brought here yet.

    Parameters
    ----------
    experiment
        As read from a file.
    written
        Dotted keys that the file or an override gives, which must not contradict the weights.
    checkpoint
        What the run goes on from, which knows the architecture already.

    Raises
    ------
    UserError
        Where there are no such weights, they are of another network, or the file contradicts them.
    """
    model = experiment.model
    if not _in_diffusers_layout(model):
        return experiment
    with _told(_way_without_the_hub(model)):
        if checkpoint is not None:
            architecture = experiments.load(checkpoint / experiments.CONFIG_NAME).model.architecture
        else:
            read = BACKBONES[model.name].architecture_of
            assert read is not None
            architecture = read(_folder(model, weights=False))
    wrong = [
        f"[model.architecture] {field.name}: {getattr(model.architecture, field.name)}, but the pretrained model has "
        f"{getattr(architecture, field.name)}; leave the key out"
        for field in dataclasses.fields(model.architecture)
        if f"model.architecture.{field.name}" in written
        and getattr(architecture, field.name, None) != getattr(model.architecture, field.name)
    ]
    if wrong:
        raise UserError(*wrong)
    return dataclasses.replace(experiment, model=dataclasses.replace(model, architecture=architecture))


def placed(experiment: schema.Experiment, folder: Path) -> schema.Experiment:
    """The experiment that an exported model's folder holds, with the places of what lies in there too."""
    model = experiment.model
    autoencoder, conditioning = model.autoencoder, model.conditioning
    if autoencoder.path == VAE_FOLDER:
        autoencoder = dataclasses.replace(autoencoder, path=str(folder / VAE_FOLDER))
    if conditioning.text_encoder == TEXT_ENCODER_FOLDER:
        conditioning = dataclasses.replace(conditioning, text_encoder=str(folder / TEXT_ENCODER_FOLDER))
    model = dataclasses.replace(model, autoencoder=autoencoder, conditioning=conditioning)
    generation = experiment.generation
    if generation.sampling.guidance_checkpoint == GUIDE_FOLDER:
        sampling = dataclasses.replace(generation.sampling, guidance_checkpoint=str(folder / GUIDE_FOLDER))
        generation = dataclasses.replace(generation, sampling=sampling)
    return dataclasses.replace(experiment, model=model, generation=generation)


def vae_of(model: schema.Model) -> Any | None:
    """The VAE that [model.autoencoder] names; None where it is not enabled. Read before anything else is done."""
    if not model.autoencoder.enabled:
        return None
    table, key = (model.autoencoder, "path") if model.autoencoder.path else (model, "pretrained")
    return load_vae(expanded(getattr(table, key), _KEYS["autoencoder"]).as_posix())


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
    autoencoder = autoencoder_of(table, vae, card)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(Purpose.WEIGHTS, experiment.compute.seed))
        latent_shape = autoencoder.latent_shape if autoencoder else None
        model = experiments.model_of(table, card, experiment.data.columns, latent_shape, caption)
        if table.pretrained and (table.lora.enabled or checkpoint is None):
            check_pretrained(model, experiment)
            _load_pretrained(model, experiment, card)
        if table.lora.enabled:
            add_lora(model, table.lora)
    states = {"pretrained": frozen_state(model)}
    frozen = {name: fingerprint(state) for name, state in states.items() if state}
    if autoencoder:
        frozen["autoencoder"] = autoencoder.fingerprint
    if caption:
        frozen["text_encoder"] = caption.encoder
    if checkpoint is not None:
        _check_same_frozen(checkpoint, frozen)
    if autoencoder and (statistics := _statistics(table, autoencoder, checkpoint)):
        autoencoder.normalise(statistics)
    return Assembly(model=model, autoencoder=autoencoder, frozen=frozen)


def autoencoder_of(model: schema.Model, vae: Any | None, card: DatasetCard) -> Autoencoder | None:
    """The autoencoder for a dataset's examples around `vae_of`'s VAE, which it can load again; None without one.

    Raises
    ------
    UserError
        Where it does not take such examples.
    """
    if vae is None:
        return None
    return Autoencoder(vae, card.shape, tiling=model.autoencoder.tiling, load=partial(vae_of, model))


def _statistics(model: schema.Model, autoencoder: Autoencoder, checkpoint: Path | None) -> LatentStatistics | None:
    """Those of the checkpoint, or else of the earlier run whose weights a new one starts from in the same space."""
    if checkpoint is not None:
        return _statistics_in(checkpoint, "start a new run")
    if not model.pretrained:
        return None
    folder = expanded(model.pretrained, "[model] pretrained")
    if _trained_with(folder).get("autoencoder") != autoencoder.fingerprint:
        return None
    with _told():
        return _statistics_in(folder, "expected a checkpoint of this version")


def _statistics_in(checkpoint: Path, advice: str) -> LatentStatistics:
    if not (checkpoint / LATENTS_NAME).is_file():
        raise UserError(
            f"{checkpoint}: has no {LATENTS_NAME}, so what its network takes for latents is not known; it was made "
            f"by an earlier version: {advice}"
        )
    return LatentStatistics.from_json((checkpoint / LATENTS_NAME).read_text(encoding="utf-8"))


def _check_same_frozen(checkpoint: Path, frozen: Mapping[str, str]) -> None:
    """Changes of other weights, or latents of another autoencoder, would give noise that looks like a result."""
    trained_with = _trained_with(checkpoint)
    for name, key in _KEYS.items():
        then, now = trained_with.get(name, "none"), frozen.get(name, "none")
        if then != now:
            raise UserError(
                f"{key}: other weights than {checkpoint} was trained with (SHA-256 {now[:12]}, and {then[:12]} then); "
                "put those back, or start a new run"
            )


def _trained_with(checkpoint: Path) -> dict[str, str]:
    path = checkpoint / FROZEN_NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def pretrained_conditions(experiment: schema.Experiment, card: DatasetCard) -> str:
    """The conditions of the checkpoint of ours that [model] pretrained names, where they are others; "" else.

    What embeds conditions is fresh then, as it is beside weights in diffusers' layout.
    """
    if not experiment.model.pretrained:
        return ""
    with _told():
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
    with _told():
        if isinstance(model, DiffusersDenoiser) and _in_diffusers_layout(table):
            model.check_channels(_folder(table, weights=False))
            return
        folder = expanded(table.pretrained, "[model] pretrained")
        if not (folder / checkpoints.MANIFEST).is_file():
            raise UserError(f"{folder}: not a checkpoint; expected the checkpoint-<step> folder of an earlier run")
        checkpoints.verify(folder)
        check_same_network(folder, experiment)


def _load_pretrained(model: Denoiser, experiment: schema.Experiment, card: DatasetCard) -> None:
    """Put them into a fresh network; of a checkpoint of ours, the averaged ones, as far as they mean the same here."""
    table = experiment.model
    with _told():
        if isinstance(model, DiffusersDenoiser) and _in_diffusers_layout(table):
            model.load_pretrained(_folder(table))
        else:
            folder = expanded(table.pretrained, "[model] pretrained")
            with _own_conditioning(model) if pretrained_conditions(experiment, card) else nullcontext():
                checkpoints.load_weights(model, folder, use_ema=True)


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


def _in_diffusers_layout(model: schema.Model) -> bool:
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


def _folder(model: schema.Model, *, weights: bool = True) -> Path:
    """The folder of the network's weights, or of its settings alone, local or brought here from the Hub."""
    root = expanded(model.pretrained, "[model] pretrained").as_posix()
    return located(root, BACKBONES[model.name].part, weights=weights)


def _way_without_the_hub(model: schema.Model) -> str:
    """What to set where weights are on the Hub alone, which may be out of reach: the end of an error's line."""
    if not model.autoencoder.enabled or expanded(model.pretrained, "[model] pretrained").is_dir():
        return ""
    return (
        '; without the Hub, set model.pretrained to a local folder, or model.pretrained = "" and '
        "model.autoencoder.path to a VAE's folder"
    )


@contextmanager
def _told(advice: str = "") -> Iterator[None]:
    try:
        yield
    except UserError as error:
        lines = (line if line.startswith("[") else f"[model] pretrained: {line}" for line in error.lines)
        raise UserError(*(f"{line}{advice}" for line in lines)) from None
