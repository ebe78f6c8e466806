"""Export a trained model as a self-contained folder in diffusers' style.

    model_index.json       the parts, by class
    model.safetensors      the weights for sampling, in fp32 or fp16, with LoRA updates merged
    config.toml            the experiment
    signal_dataset.json    what the samples are: representation, sampling rate, electrodes, attributes
    vae/, latents.json     for a latent model
    text_encoder/          for a caption model, with its tokenizer
    frozen.json            hashes of the VAE and the text encoder
    guide/                 for a model that is guided by an earlier checkpoint
    README.md              the model card
    report.json, privacy.json  reports of `evaluate`, if there are any; the model card has a summary
    manifest.json          sizes and hashes of all other files except the model card, which may be edited

For everything else it is a checkpoint, and is read as one. It contains no paths of the machine that wrote it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from signal_diffusion.checkpoints import WEIGHTS, step_of, write_manifest
from signal_diffusion.config.writing import to_toml
from signal_diffusion.data.card import CARD_NAME
from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.disks import size_of
from signal_diffusion.errors import UserError, print_warning
from signal_diffusion.experiment.changed_data import changed_since
from signal_diffusion.experiment.checkpoint import FROZEN_NAME, LATENTS_NAME
from signal_diffusion.experiment.loading import CONFIG_NAME
from signal_diffusion.experiment.network import GUIDE_FOLDER, TEXT_ENCODER_FOLDER, VAE_FOLDER
from signal_diffusion.models.conditioning.text.encoder import TextEncoder
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.lora import merged_state
from signal_diffusion.models.pretrained import PIPELINE
from signal_diffusion.sampling.attached_reports import FILES, read_reports, with_reports
from signal_diffusion.sampling.choosing import is_exported
from signal_diffusion.sampling.guide import guide_folder
from signal_diffusion.sampling.model_card import README, model_card, with_defaults
from signal_diffusion.sampling.portable import portable, remove_paths
from signal_diffusion.sampling.provenance import weight_hashes
from signal_diffusion.sampling.trained import Trained

__all__ = ["check_new", "export"]


def export(trained: Trained, output: Path, *, name: str = "", report: Path | None = None, half: bool = False) -> Path:
    """Write the new folder `output`, completely or not at all; its model card has the name `name`, or the folder's.

    `report` is a folder that `evaluate` wrote about this model; its summary is part of the model card. `half` rounds
    the weights to fp16 (3 digits); loaded, they are fp32 again.

    Prints a warning if the dataset is on this machine, and its training files are not those of the run.

    Raises
    ------
    UserError
        If it already exists, the checkpoint is missing, the report is not of this model, or the weights cannot be
        written.
    """
    check_new(output)
    reports = _reports(trained, report)
    for line in changed_since(trained.experiment.data, trained.card):
        print_warning(line)
    try:
        with atomic_folder(output, "the model", needs=_size(trained), replaces=False) as folder:
            _write_model(trained, folder, name or output.name, reports, torch.float16 if half else torch.float32)
    except SafetensorError as error:  # not an OSError
        raise UserError(f"{output}: cannot write the weights: {error}; check the path and its permissions") from error
    return output


def check_new(output: Path) -> None:
    """Raise a `UserError` if `output` already exists."""
    if output.exists():
        raise UserError(f"{output} already exists; choose another folder, or remove it")


def _size(trained: Trained) -> int:
    """Bytes of the weights and the text encoder's files."""
    encoder = trained.encoder.files() if trained.encoder else []
    vae = trained.autoencoder.vae.state_dict() if trained.autoencoder else {}
    networks = [trained.model, *([trained.guide] if trained.guide else [])]
    numbers = sum(parameter.numel() for network in networks for parameter in network.parameters())
    return 4 * numbers + size_of(vae) + sum(path.stat().st_size for path in encoder)


def _reports(trained: Trained, report: Path | None) -> dict[str, bytes]:
    """The reports to attach: those of a folder, or those that an exported model has already."""
    source = trained.checkpoint
    if report is not None:
        return read_reports(report, None if is_exported(source) else weight_hashes(source))
    has_own = is_exported(source) and any((source / name).is_file() for name in FILES)
    return read_reports(source) if has_own else {}


def _write_model(trained: Trained, folder: Path, name: str, reports: Mapping[str, bytes], dtype: torch.dtype) -> None:
    """Write all files of an exported model."""
    step = step_of(trained.checkpoint)
    index, texts = _write_parts(trained, folder)
    texts |= {CONFIG_NAME: to_toml(portable(trained)), CARD_NAME: trained.card.without_paths().to_json()}
    _write_network(trained.model, texts, folder, dtype)
    if trained.guide is not None:
        index["guide"] = index["denoiser"]
        _write_network(trained.guide, texts, folder / GUIDE_FOLDER, dtype)
        earlier = step_of(guide_folder(trained.sampling, trained.checkpoint))
        write_manifest(folder / GUIDE_FOLDER, earlier, [WEIGHTS, *texts])
    _write(folder / PIPELINE, json.dumps(index, indent=2) + "\n")
    for file, content in reports.items():
        (folder / file).write_bytes(content)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    write_manifest(folder, step, names)
    card = _readme(trained, name, step)
    _write(folder / README, with_reports(card, reports) if reports else card)


def _write_network(model: Denoiser, texts: Mapping[str, str], folder: Path, dtype: torch.dtype) -> None:
    """Write the files of a checkpoint that sampling reads."""
    folder.mkdir(exist_ok=True)
    state = {}
    for name, value in merged_state(model).items():
        state[name] = (value.to(dtype) if value.is_floating_point() else value).detach().cpu().contiguous()
        if value.is_floating_point() and not state[name].isfinite().all():
            raise UserError(f"{name}: has values that fp16 cannot represent; export without --half")
    save_file(state, folder / WEIGHTS)
    for name, text in texts.items():
        _write(folder / name, text)


def _write_parts(trained: Trained, folder: Path) -> tuple[dict[str, str | list[str]], dict[str, str]]:
    """Write the frozen parts; returns the index of all parts, and the text files of a network's folder."""
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
        remove_paths(folder / VAE_FOLDER / "config.json")
        texts[LATENTS_NAME] = statistics.to_json()
        frozen["autoencoder"] = trained.autoencoder.fingerprint
        index["vae"] = ["diffusers", trained.autoencoder.kind]
    if trained.encoder:
        frozen["text_encoder"] = _copy_encoder(trained.encoder, folder / TEXT_ENCODER_FOLDER).fingerprint
        index["text_encoder"] = ["signal_diffusion", "TextEncoder"]
    if frozen:
        texts[FROZEN_NAME] = json.dumps(frozen, indent=2) + "\n"
    return index, texts


def _copy_encoder(encoder: TextEncoder, folder: Path) -> TextEncoder:
    """Copy the files of a text encoder to another folder; returns the copy."""
    for path in encoder.files():
        copy = folder / path.relative_to(encoder.folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        if path.name.endswith("config.json"):
            remove_paths(copy)
    return dataclasses.replace(encoder, folder=folder)


def _readme(trained: Trained, name: str, step: int) -> str:
    """The model card: a new one, or for an exported model its own card with the current sampling defaults."""
    if not is_exported(trained.checkpoint):
        return model_card(trained, name, step)
    card = trained.checkpoint / README
    return with_defaults(card.read_text(encoding="utf-8"), trained) if card.is_file() else ""


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
