"""A trained model as a folder in diffusers' style, which holds everything that sampling needs.

    model_index.json       the parts, by class
    model.safetensors      the weights that are sampled from, in fp32, changes of LoRA added to what they change
    config.toml            the experiment
    signal_dataset.json    what the samples are: representation, sampling rate, electrodes, attributes
    vae/, latents.json     of a model of latents
    text_encoder/          of a model of captions, with its tokenizer
    frozen.json            hashes of the two
    guide/                 of a model that is guided by an earlier state of it
    README.md              the model card
    manifest.json          sizes and hashes of all others but the model card, which may be written on

It is a checkpoint otherwise, and is read as one. Nothing in it names a place on the machine that wrote it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from signal_diffusion.checkpoints import WEIGHTS, step_of, write_manifest
from signal_diffusion.config import schema
from signal_diffusion.config.loading import to_toml
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.publishing import published
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.checkpoint import FROZEN_NAME, LATENTS_NAME
from signal_diffusion.experiment.loading import CONFIG_NAME
from signal_diffusion.experiment.network import GUIDE_FOLDER, TEXT_ENCODER_FOLDER, VAE_FOLDER
from signal_diffusion.models.conditioning.text import TextEncoder, text_encoder
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.lora import merged_state
from signal_diffusion.models.pretrained import PIPELINE
from signal_diffusion.paths import is_place, last_name, without_places
from signal_diffusion.sampling.guide import guide_folder
from signal_diffusion.sampling.model_card import README, model_card, with_defaults
from signal_diffusion.sampling.trained import Trained, is_exported

__all__ = ["check_new", "export"]

_PLACES = re.compile(r"(path|file|dir)$")


def export(trained: Trained, output: Path, *, name: str = "") -> Path:
    """Write the new folder `output`, whole or not at all; the model card calls it `name`, or as the folder.

    Raises
    ------
    UserError
        Where it is there already, the checkpoint has gone, or the disk does not take the weights.
    """
    check_new(output)
    try:
        with published(output, replaces=False) as folder:
            _write_model(trained, folder, name or output.name)
    except SafetensorError as error:  # which is no OSError, though the disk is what is full
        raise UserError(
            f"{output}: cannot write the weights: {error}; check the path, its permissions and the space left"
        ) from error
    return output


def check_new(output: Path) -> None:
    """Raise a `UserError` where there is something already."""
    if output.exists():
        raise UserError(f"{output} is there already; choose another folder, or remove it")


def _write_model(trained: Trained, folder: Path, name: str) -> None:
    """All files of an exported model."""
    step = step_of(trained.checkpoint)
    index, texts = _write_parts(trained, folder)
    texts |= {CONFIG_NAME: to_toml(_portable(trained)), CARD_NAME: _portable_card(trained.card).to_json()}
    _write_network(trained.model, texts, folder)
    if trained.guide is not None:
        index["guide"] = index["denoiser"]
        _write_network(trained.guide, texts, folder / GUIDE_FOLDER)
        earlier = step_of(guide_folder(trained.sampling, trained.checkpoint))
        write_manifest(folder / GUIDE_FOLDER, earlier, [WEIGHTS, *texts])
    _write(folder / PIPELINE, json.dumps(index, indent=2) + "\n")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    write_manifest(folder, step, names)
    _write(folder / README, _readme(trained, name, step))


def _write_network(model: Denoiser, texts: Mapping[str, str], folder: Path) -> None:
    """What sampling reads of a checkpoint."""
    folder.mkdir(exist_ok=True)
    state = {name: value.float() if value.is_floating_point() else value for name, value in merged_state(model).items()}
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, folder / WEIGHTS)
    for name, text in texts.items():
        _write(folder / name, text)


def _write_parts(trained: Trained, folder: Path) -> tuple[dict[str, str | list[str]], dict[str, str]]:
    """Write what stays as it is beside the network; the index of all parts, and what a network's folder says."""
    index: dict[str, str | list[str]] = {
        "_class_name": "SignalDiffusionPipeline",
        "_signal_diffusion_version": version("signal-diffusion"),
        "denoiser": ["signal_diffusion", type(trained.model).__name__],
    }
    frozen, texts = {}, {}
    if trained.autoencoder:
        vae, statistics = trained.autoencoder.vae, trained.autoencoder.statistics
        assert statistics is not None
        vae.save_pretrained(folder / VAE_FOLDER)
        _forget_places(folder / VAE_FOLDER / "config.json")
        texts[LATENTS_NAME] = statistics.to_json()
        frozen["autoencoder"] = trained.autoencoder.fingerprint
        index["vae"] = ["diffusers", trained.autoencoder.kind]
    if trained.encoder:
        frozen["text_encoder"] = _copied(trained.encoder, folder / TEXT_ENCODER_FOLDER).fingerprint
        index["text_encoder"] = ["signal_diffusion", "TextEncoder"]
    if frozen:
        texts[FROZEN_NAME] = json.dumps(frozen, indent=2) + "\n"
    return index, texts


def _copied(encoder: TextEncoder, folder: Path) -> TextEncoder:
    """What an encoder is read from, in another folder."""
    for path in encoder.files():
        place = folder / path.relative_to(encoder.folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        if path.name.endswith("config.json"):
            _forget_places(place)
    return text_encoder(str(folder), encoder.max_tokens)


def _portable(trained: Trained) -> schema.Experiment:
    """The experiment for another machine: what it was trained on and from by name, what it needs within the folder."""
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
    elif sampling.guidance_type == "autoguidance":  # with a scale of 1, by nothing
        sampling = dataclasses.replace(sampling, guidance_type="classifier-free", guidance_checkpoint="")
    return dataclasses.replace(
        experiment,
        compute=dataclasses.replace(experiment.compute, device="auto"),
        data=dataclasses.replace(
            experiment.data,
            paths=_named(experiment.data.paths),
            loading=dataclasses.replace(experiment.data.loading, cache_dir=""),
        ),
        model=dataclasses.replace(
            model, pretrained="", autoencoder=autoencoder, conditioning=conditioning, lora=schema.Lora()
        ),
        training=dataclasses.replace(experiment.training, resume=schema.Resume()),
        generation=dataclasses.replace(experiment.generation, sampling=sampling),
        output=schema.Output(),
        logging=schema.Logging(tensorboard=experiment.logging.tensorboard),  # without the names of accounts
    )


def _named(paths: schema.Paths) -> schema.Paths:
    """Folders of this machine by their last names: of a dataset, or else of where its training pictures lay."""
    default = schema.Paths()
    root = paths.root or (paths.train if is_place(paths.train) else "")
    return schema.Paths(
        root=last_name(root) if is_place(root) else root,
        train=default.train if is_place(paths.train) else paths.train,
        val=default.val if is_place(paths.val) else paths.val,
    )


def _portable_card(card: DatasetCard) -> DatasetCard:
    """The card, of which a command, what was skipped and the folders of foreign splits name places of this machine.

    The names of categories stay, which the model is asked for, and which may be "/iy/".
    """
    entries = json.loads(card.to_json())
    kept = {"columns": entries.pop("columns"), "channels": entries.pop("channels")}
    marginals = {split: entries["splits"][split].pop("marginals") for split in card.splits}
    entries = _without_places(entries)
    for split, table in marginals.items():
        entries["splits"][split]["marginals"] = table
    return DatasetCard.from_json(json.dumps(entries | kept))


def _without_places(value: Any) -> Any:
    """What JSON holds, with each place in a text or a key by its last name."""
    if isinstance(value, dict):
        return {last_name(key) if is_place(key) else key: _without_places(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_places(each) for each in value]
    return without_places(value) if isinstance(value, str) else value


def _forget_places(path: Path) -> None:
    """Take out of a part's settings where it was read from, which libraries write into them."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in settings.items() if not _is_place(name, value)}
    if kept != settings:
        _write(path, json.dumps(kept, indent=2) + "\n")


def _is_place(name: str, value: object) -> bool:
    return isinstance(value, str) and _PLACES.search(name) is not None and is_place(value)


def _readme(trained: Trained, name: str, step: int) -> str:
    """The model card; that of an exported model, which is all that is known of it, but for how it samples now."""
    if not is_exported(trained.checkpoint):
        return model_card(trained, name, step)
    card = trained.checkpoint / README
    return with_defaults(card.read_text(encoding="utf-8"), trained) if card.is_file() else ""


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
