"""Find weights in diffusers' layout, in a folder or on the Hub, and load them into the diffusers networks we wrap.

A model's folder contains `config.json` and `diffusion_pytorch_model.safetensors`, whole or in shards. A pipeline's
folder contains `model_index.json` and a folder for each of its models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from signal_diffusion.errors import MissingError, UserError
from signal_diffusion.hub import download, is_hub_id
from signal_diffusion.models.attention.full import attention_kernel
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.untrusted import is_within, pickled_weights, read_json

__all__ = [
    "CONFIG",
    "PIPELINE",
    "DiffusersDenoiser",
    "build_architecture",
    "find_model_folder",
    "load_tensors",
    "read_config",
    "refuse_pickles",
]

CONFIG = "config.json"
PIPELINE = "model_index.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
SHARDS = f"{WEIGHTS}.index.json"
PICKLE = "diffusion_pytorch_model.bin"
Architecture = TypeVar("Architecture")


@dataclass(frozen=True)
class _Shards:
    """The index of weights in several files."""

    weight_map: dict[str, str]
    """Tensor → file in the same folder."""


class DiffusersDenoiser(Denoiser):
    """A diffusers network, `network`, behind our interface."""

    network: Any

    @property
    def kernels(self) -> dict[str, str]:
        """The backend of attention."""
        return {"attention": attention_kernel()}

    def load_pretrained(self, folder: Path) -> None:
        """Load the weights of a model's folder into `network`, in fp32; `conditioning` keeps its fresh weights.

        Raises
        ------
        UserError
            If weights are missing or damaged, or of a network of other sizes.
        """
        load_tensors(self.network, folder, self.adapt)

    def check_channels(self, folder: Path) -> None:
        """Check that a model's folder is for our number of channels; only its `config.json` is read.

        Raises
        ------
        UserError
            If the numbers differ.
        """
        channels = self.network.config.in_channels
        wanted = read_config(folder, type(self.network).__name__).get("in_channels")
        if wanted == channels:
            return
        advice = f"use weights for {channels} channels"
        if channels in (1, 3) and wanted not in (1, 3):
            advice = f"set model.autoencoder.enabled = true, with a VAE of {wanted} latent channels"
        raise UserError(f"{folder}: the model takes {wanted} channels, but the examples have {channels}; {advice}")

    def adapt(self, name: str, tensor: Tensor) -> Tensor:
        """Convert a tensor from the folder to the one called `name` in `network`; by default nothing changes."""
        return tensor

    def checkpoint_gradients(self) -> None:
        """Turn gradient checkpointing on."""
        super().checkpoint_gradients()
        self.network.enable_gradient_checkpointing()


def find_model_folder(pretrained: str, part: str, *, weights: bool = True) -> Path:
    """Find the folder of a model; a Hub id ("owner/name" or "owner/name@revision") is downloaded first.

    Parameters
    ----------
    pretrained
        A local folder or a Hub id, of the model itself or of a pipeline.
    part
        The model's name in a pipeline, such as "transformer".
    weights
        Whether to download weights too, or only settings.

    Raises
    ------
    MissingError
        If the folder does not exist and cannot be downloaded from the Hub.
    UserError
        If it is not in diffusers' layout.
    """
    root = Path(pretrained).expanduser()
    if not root.is_dir():
        if not is_hub_id(pretrained):
            raise MissingError(
                f"{pretrained}: no such folder; expected one in diffusers' layout, or a Hub id, owner/name or "
                "owner/name@revision"
            )
        root = _downloaded(pretrained, part, weights=weights)
    folder = root / part if (root / part / CONFIG).is_file() else root
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{root}: not in diffusers' layout; expected {CONFIG} and {WEIGHTS}, in it or in its subfolder {part}/"
        )
    return folder


def _downloaded(identifier: str, part: str, *, weights: bool) -> Path:
    patterns = [CONFIG, *(["diffusion_pytorch_model*.safetensors", SHARDS] if weights else [])]
    wanted = [PIPELINE, *patterns, *(f"{part}/{pattern}" for pattern in patterns)]
    return download(identifier, allow=wanted, ignore=["*.fp16*"])  # a copy of the weights in half precision


def read_config(folder: Path, class_name: str) -> dict[str, Any]:
    """Read a model's `config.json`, and check that it is for the diffusers class `class_name`.

    Raises
    ------
    UserError
        If the file is missing or unreadable, or for another class.
    """
    path = folder / CONFIG
    config = read_json(path, dict[str, Any], f"expected the settings of a {class_name}")
    if (found := config.get("_class_name")) != class_name:
        raise UserError(f"{path}: describes a {found}; expected a {class_name}")
    return config


def build_architecture(architecture: type[Architecture], folder: Path, values: Mapping[str, Any]) -> Architecture:
    """Build the architecture of a model's folder from the `values` of its `config.json`.

    Raises
    ------
    UserError
        Names the first value that is missing or that our dataclass does not accept.
    """
    try:
        return architecture(**values)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UserError(
            f"{folder}: its {CONFIG} has {wrong['loc'][0]} = {wrong['input']!r}, which [model.architecture] does not "
            "support; use other weights"
        ) from None


def load_tensors(network: nn.Module, folder: Path, adapt: Callable[[str, Tensor], Tensor]) -> None:
    """Load a model's weights, each converted by `adapt(name, tensor)`, into `network`, in the precision of `network`.

    The folder must contain exactly the tensors of `network`. One tensor is in memory at a time.

    Raises
    ------
    UserError
        Names the file that is missing or cut short, or the first tensor that is missing, unknown or of another size.
    """
    refuse_pickles(folder, type(network).__name__)
    wanted = network.state_dict()
    files = _files(folder)
    if unknown := sorted(files.keys() - wanted.keys()):
        raise UserError(
            f"{folder}: the weights have a tensor {unknown[0]!r} that its {CONFIG} does not describe; "
            f"use the {CONFIG} of these weights"
        )
    if missing := sorted(wanted.keys() - files.keys()):
        raise UserError(
            f"{folder}: the weights lack the tensor {missing[0]!r}, which its {CONFIG} describes; "
            "copy or download them again"
        )
    for path in sorted(set(files.values())):
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                tensor = adapt(name, file.get_tensor(name))
                if tensor.shape != wanted[name].shape:
                    raise UserError(
                        f"{path}: tensor {name!r} has shape {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}"
                    )
                with torch.no_grad():
                    wanted[name].copy_(tensor)


def refuse_pickles(folder: Path, class_name: str) -> None:
    """Raise a `UserError` if a folder has the weights of a diffusers class only as a pickle, which may be code."""
    if (folder / PICKLE).is_file() and not any(folder.glob("*.safetensors")):
        raise pickled_weights(folder / PICKLE, "diffusers", class_name)


def _files(folder: Path) -> dict[str, Path]:
    """The file of each tensor, by the tensor's name."""
    index = folder / SHARDS
    if not index.is_file():
        with _opened(folder / WEIGHTS) as file:
            return dict.fromkeys(file.keys(), folder / WEIGHTS)
    names = sorted(set(read_json(index, _Shards, "copy or download it again").weight_map.values()))
    if outside := [name for name in names if not is_within(name)]:
        raise UserError(f"{index}: names {outside[0]!r}, which is outside of its folder; use other weights")
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
