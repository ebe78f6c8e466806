"""Weights in diffusers' layout: found in a folder or on the Hub, and read into the networks of diffusers that we wrap.

A model's folder holds `config.json` and `diffusion_pytorch_model.safetensors`, whole or in shards; a pipeline's folder
holds `model_index.json` and a model's folder for each of its parts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from signal_diffusion.errors import UserError
from signal_diffusion.hub import downloaded, is_hub_id
from signal_diffusion.models.attention import attention_kernel
from signal_diffusion.models.denoiser import Denoiser

__all__ = ["CONFIG", "PIPELINE", "DiffusersDenoiser", "load_tensors", "located", "read_config", "settled"]

CONFIG = "config.json"
PIPELINE = "model_index.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
SHARDS = f"{WEIGHTS}.index.json"
Architecture = TypeVar("Architecture")


class DiffusersDenoiser(Denoiser):
    """A network of diffusers, `network`, behind our contract."""

    network: Any

    @property
    def kernels(self) -> dict[str, str]:
        """What computes attention."""
        return {"attention": attention_kernel()}

    def load_pretrained(self, folder: Path) -> None:
        """Read the weights of a model's folder into `network`, in fp32; what embeds conditions keeps its fresh ones.

        Raises
        ------
        UserError
            Where they are not whole, or of a network of other sizes.
        """
        load_tensors(self.network, folder, self.fitted)

    def check_channels(self, folder: Path) -> None:
        """Hold the channels of a model's folder against ours, which takes its settings alone.

        Raises
        ------
        UserError
            Where they differ.
        """
        channels = self.network.config.in_channels
        wanted = read_config(folder, type(self.network).__name__).get("in_channels")
        if wanted == channels:
            return
        advice = f"use weights for {channels} channels"
        if channels in (1, 3) and wanted not in (1, 3):
            advice = f"set model.autoencoder.enabled = true, with a VAE that makes {wanted} channels"
        raise UserError(f"{folder}: for examples of {wanted} channels, but these have {channels}; {advice}")

    def fitted(self, name: str, tensor: Tensor) -> Tensor:
        """What becomes of a tensor of the folder, by its name in `network`, before it is put there: nothing."""
        return tensor

    def checkpoint_gradients(self) -> None:
        """Turn gradient checkpointing on."""
        super().checkpoint_gradients()
        self.network.enable_gradient_checkpointing()


def located(pretrained: str, part: str, *, weights: bool = True) -> Path:
    """The folder of one model: a local folder, or a Hub id, "owner/name" or "owner/name@revision", brought here first.

    Parameters
    ----------
    pretrained
        The model's own folder, or that of a pipeline.
    part
        The model's name in a pipeline, such as "transformer".
    weights
        Whether they are brought here too, or the settings alone.

    Raises
    ------
    UserError
        Where there is no such folder here and the Hub does not give it, or it is not in diffusers' layout.
    """
    root = Path(pretrained).expanduser()
    if not root.is_dir():
        if not is_hub_id(pretrained):
            raise UserError(
                f"{pretrained}: no such folder; expected one in diffusers' layout, or a Hub id, owner/name or "
                "owner/name@revision"
            )
        root = _downloaded(pretrained, part, weights=weights)
    folder = root / part if (root / part / CONFIG).is_file() else root
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{root}: not in diffusers' layout; expected {CONFIG} and {WEIGHTS}, in it or in its folder {part}/"
        )
    return folder


def _downloaded(identifier: str, part: str, *, weights: bool) -> Path:
    patterns = [CONFIG, *(["diffusion_pytorch_model*.safetensors", SHARDS] if weights else [])]
    wanted = [PIPELINE, *patterns, *(f"{part}/{pattern}" for pattern in patterns)]
    return downloaded(identifier, allow=wanted, ignore=["*.fp16*"])  # the same weights again, in half precision


def read_config(folder: Path, class_name: str) -> dict[str, Any]:
    """What `config.json` says of a model, which has to be of the class of diffusers that is named.

    Raises
    ------
    UserError
        Where the file is unreadable, or of another class.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        found = config["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: missing or unreadable; expected the settings of a {class_name}") from None
    if found != class_name:
        raise UserError(f"{path}: of a {found}; expected a {class_name}")
    return config


def settled(architecture: type[Architecture], folder: Path, values: Mapping[str, Any]) -> Architecture:
    """The architecture of a model's folder, from what its `config.json` says.

    Raises
    ------
    UserError
        Naming the first value that our dataclass does not take, or that is missing.
    """
    try:
        return architecture(**values)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UserError(
            f"{folder}: its {CONFIG} has {wrong['loc'][0]} = {wrong['input']!r}, which [model.architecture] cannot say"
        ) from None


def load_tensors(network: nn.Module, folder: Path, fitted: Callable[[str, Tensor], Tensor]) -> None:
    """Read a model's weights, each `fitted(name, tensor)`, into `network`, in its precision: all of them and no others.

    One tensor is in memory at a time.

    Raises
    ------
    UserError
        Naming the file that is missing or cut short, or the first tensor that is missing, unknown or of another size.
    """
    wanted = network.state_dict()
    files = _files(folder)
    if unknown := sorted(files.keys() - wanted.keys()):
        raise UserError(f"{folder}: holds a tensor {unknown[0]!r} that its {CONFIG} does not make")
    if missing := sorted(wanted.keys() - files.keys()):
        raise UserError(f"{folder}: lacks the tensor {missing[0]!r} that its {CONFIG} makes")
    for path in sorted(set(files.values())):
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                tensor = fitted(name, file.get_tensor(name))
                if tensor.shape != wanted[name].shape:
                    raise UserError(
                        f"{path}: tensor {name!r} is of {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}"
                    )
                with torch.no_grad():
                    wanted[name].copy_(tensor)


def _files(folder: Path) -> dict[str, Path]:
    """The file that each tensor is in."""
    index = folder / SHARDS
    if not index.is_file():
        with _opened(folder / WEIGHTS) as file:
            return dict.fromkeys(file.keys(), folder / WEIGHTS)
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index}: unreadable; expected the names of the files that hold the weights") from None
    files: dict[str, Path] = {}
    for name in names:
        with _opened(folder / name) as file:
            files |= dict.fromkeys(file.keys(), folder / name)
    return files


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise UserError(f"{path}: missing; expected weights in safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cut short or damaged ({error}); copy or download it again") from None
