"""Stand-ins for what is not on this machine, so that `config check` shows the size of an experiment without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from signal_diffusion.config import schema
from signal_diffusion.config.expectations import Expectation
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.recordings.channels import TEN_TWENTY
from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.registry import representation_named
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.errors import MissingError
from signal_diffusion.experiment.dataset import Dataset
from signal_diffusion.models.conditioning.attributes import Caption
from signal_diffusion.models.registry import BACKBONES

__all__ = ["Assumptions", "assumed_architecture", "assumed_caption", "assumed_dataset", "assumed_vae", "required"]

S = TypeVar("S")
T = TypeVar("T")

SAMPLING_RATE, WINDOW = 125.0, 2048
"""The defaults of `prepare`, Hz and samples."""
IMAGE_SIZE = 64
"""Pixels of images, if the experiment does not say it."""
NUM_CLASSES = 2
"""Of a dataset, if the experiment does not say it."""
CLIP_TOKENS = 77
SD35_VAE: Mapping[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 16,
    "sample_size": 1024,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
"""Settings of the VAE of Stable Diffusion 3.5, which has 83.8 M weights."""


@dataclass(kw_only=True)
class Assumptions:
    """What an experiment names and this machine does not have, and what is assumed instead; a line for each."""

    missing: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)

    def look_up(self, find: Callable[[], T], stand_in: Callable[[], tuple[S, str]], *, skip: bool = False) -> T | S:
        """The result of `find` or, if something is missing, of `stand_in`, which also returns a line about it.

        With `skip`, `find` is not called: it is known to need what is already listed as missing.
        """
        if not skip:
            try:
                return find()
            except MissingError as error:
                self.missing += error.lines
        value, line = stand_in()
        self.assumed.append(line)
        return value


def required(find: Callable[[], T], stand_in: object, *, skip: bool = False) -> T:
    """The result of `find`: nothing is assumed."""
    return find()


def assumed_architecture(model: schema.Model) -> tuple[Any, str]:
    """The architecture of the file, whose defaults for sd35 are Stable Diffusion 3.5 medium's; and a line about it."""
    is_medium = model.name == "sd35" and model.architecture == BACKBONES["sd35"].architecture()
    return model.architecture, "the network of Stable Diffusion 3.5 medium" if is_medium else "[model.architecture]"


def assumed_dataset(
    data: schema.Data, conditioning: schema.Conditioning, expected: Iterable[Expectation] = ()
) -> tuple[Dataset, str]:
    """A dataset without files, with a card as `prepare` makes it by default, and a line about it.

    Sizes that the experiment states are used: those of [data], and those that a file of an older layout has.
    """
    stated = {each.quantity: each.value for each in expected if isinstance(each.value, int)}
    is_series, is_image = data.representation == "timeseries", data.representation == Picture.name
    window = stated.get("samples", WINDOW) if is_series else WINDOW
    electrodes = _electrodes(stated.get("electrodes", len(TEN_TWENTY)) if is_series else len(TEN_TWENTY))
    found: Representation = Picture(channels=3, size=data.image_size or stated.get("size", IMAGE_SIZE))
    if not is_image:
        noise = torch.randn(1, len(electrodes), window, generator=torch.Generator().manual_seed(0))
        kind = representation_named(data.representation)
        found = kind.fit(iter([noise]), sampling_rate=SAMPLING_RATE, window=window)
    card = DatasetCard(
        representation={
            "name": data.representation,
            "layout": found.layout,
            "inverse": found.inverse,
            "column": found.column,
            "parameters": found.parameters(),
        },
        shape=found.shape,
        sampling_rate=None if is_image else SAMPLING_RATE,
        window=None if is_image else window,
        channels=() if is_image else electrodes,
        positions={} if is_image else {name: [0.0, 0.0, 1.0] for name in electrodes},  # the cost depends on none
        columns=_columns(data.columns, conditioning, electrodes if found.per_electrode else ()),
        splits={},
        preprocessing={},
        sources=[],
        command="",
        made_from="",
    )
    line = f"examples of {' × '.join(map(str, found.shape))}"
    if conditioning.type == "class":
        line += f" in {conditioning.num_classes or NUM_CLASSES} classes"
    return Dataset(data=data, root=Path(data.paths.root), card=card), line


def assumed_vae() -> tuple[Any, str]:
    """The VAE of Stable Diffusion 3.5 with uninitialised weights, and a line about it."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL  # takes seconds to import

    with init_empty_weights():
        vae: Any = AutoencoderKL(**SD35_VAE)
    return vae.to_empty(device="cpu"), "the VAE of Stable Diffusion 3.5: 16 channels, an eighth of the rows and columns"


def assumed_caption(model: schema.Model) -> tuple[Caption, str]:
    """The empty caption with embeddings as of CLIP ViT-L/14 or, for a pipeline, of Stable Diffusion 3.5; and a line."""
    length, width, pooled, name = CLIP_TOKENS, 768, 768, "CLIP ViT-L/14"
    if not model.conditioning.text_encoder:
        length, width, pooled, name = length + model.conditioning.max_caption_tokens, 4096, 2048, "Stable Diffusion 3.5"
    caption = Caption("caption", ("",), torch.empty(1, length, width), torch.empty(1, pooled))
    return caption, f"one caption of {length} tokens × {width}, as by the text encoder of {name}"


def _electrodes(count: int) -> tuple[str, ...]:
    return TEN_TWENTY if count == len(TEN_TWENTY) else tuple(f"E{number}" for number in range(1, count + 1))


def _columns(
    names: schema.Columns, conditioning: schema.Conditioning, electrodes: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """The columns that a model is conditioned on: classes, people, electrodes, and others with two categories."""

    def categorical(count: int) -> dict[str, Any]:
        return {"kind": "categorical", "names": [f"{number}" for number in range(count)]}

    others = conditioning.attributes or ("gender", "health")
    columns = {getattr(names, name, name): categorical(2) for name in others}
    columns[names.label] = categorical(conditioning.num_classes or NUM_CLASSES)
    columns[names.age] = {"kind": "numeric", "mean": 40.0, "std": 15.0}
    return columns | ({"electrode": {"kind": "categorical", "names": list(electrodes)}} if electrodes else {})
