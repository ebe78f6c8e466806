"""Every backbone at a size for tests, and examples of every representation as its input."""

from __future__ import annotations

import json
from functools import cache

import torch
from pydantic import TypeAdapter
from torch import Tensor

from signal_diffusion.data.representations.registry import representation_named
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.data.synthetic import person, simulate
from signal_diffusion.models.conditioning.attributes import Attribute, Caption, Categorical, Conditioning, Numeric
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.registry import BACKBONES, build

SFREQ = 256.0

IMAGES = {
    "dit": {"num_layers": 2, "num_attention_heads": 4, "attention_head_dim": 32, "patch_size": [4, 4]},
    "hourglass": {"depths": [1, 1], "widths": [64, 96], "kernel_sizes": [3, 0], "attention_head_dim": 32}
    | {"patch_size": [4, 4], "mapping_width": 64},
    "localmamba": {"depths": [1, 1], "dims": [64, 64], "d_state": 2, "patch_size": [4, 4]}
    | {"scan_directions": ["h", "v_flip"]},
    "sd35": {"num_layers": 2, "num_attention_heads": 4, "attention_head_dim": 16, "patch_size": 4}
    | {"joint_attention_dim": 32, "pooled_projection_dim": 32, "pos_embed_max_size": 64, "dual_attention_layers": [0]},
    "unet": {"model_channels": 12, "channel_multipliers": [1, 2], "use_attention": [False, True]}
    | {"layers_per_block": 1},
}
"""`[model.architecture]` by backbone, for images."""
SIGNALS = {"dit": {"patch_size": [1, 64]}, "hourglass": {"patch_size": [1, 16]}, "localmamba": {"patch_size": [1, 16]}}
SIGNALS |= {"sd35": {"patch_size": 16, "attention_head_dim": 32}, "unet": {"layers_per_block": 2}}
"""What differs for time series."""

CONDITIONINGS: dict[str, tuple[Attribute, ...]] = {
    "none": (),
    "class": (Categorical("label", ("alert", "relaxed")),),
    "caption": (
        Caption(
            "caption",
            ("", "alert", "relaxed"),
            tokens=torch.randn(3, 4, 24, generator=torch.Generator().manual_seed(1)),
            pooled=torch.randn(3, 24, generator=torch.Generator().manual_seed(2)),
        ),
    ),
    "attributes": (Categorical("gender", ("female", "male")), Numeric("age", 40.0, 15.0)),
}
"""Attributes by `model.conditioning.type`."""


def tiny(
    backbone: str,
    shape: tuple[int, int, int],
    *,
    conditioning: str = "none",
    electrode_rows: bool = False,
    known: bool = False,
    places: Tensor | None = None,
    **architecture: object,
) -> Denoiser:
    """A small network of a backbone, with the same weights each time."""
    assert backbone in IMAGES, f"tests/models/tiny.py: give {backbone!r} small sizes in IMAGES"
    table = IMAGES[backbone] | (SIGNALS.get(backbone, {}) if electrode_rows else {}) | architecture
    sizes = TypeAdapter(BACKBONES[backbone].architecture).validate_json(json.dumps(table))
    torch.manual_seed(0)
    attributes = CONDITIONINGS[conditioning]
    return build(
        backbone,
        sizes,
        shape=shape,
        attributes=attributes,
        electrode_rows=electrode_rows,
        known=known,
        places=places,
    )


def conditions(conditioning: str, batch: int) -> Conditioning:
    """Conditions of a batch; those of the last example are null."""
    values: dict[str, Tensor] = {}
    for attribute in CONDITIONINGS[conditioning]:
        if isinstance(attribute, Numeric):
            values[attribute.name] = torch.linspace(20, 60, batch)
        else:
            values[attribute.name] = torch.arange(batch) % 2 + isinstance(attribute, Caption)
    return Conditioning(values).drop(torch.arange(batch) == batch - 1)


@cache
def examples(name: str, count: int, window: int = 2048) -> tuple[Representation, Tensor]:
    """A representation fitted to synthetic EEG, and some of its examples (N, C, H, W)."""
    signal, _ = simulate("relaxed", person(0, 1), window * count, SFREQ, seed=0, recording=0)
    windows = torch.from_numpy(signal[-4:]).unflatten(1, (count, window)).transpose(0, 1)  # (N, electrodes, window)
    representation = representation_named(name).fit([windows], sampling_rate=SFREQ, window=window)
    occipital = windows[:, -1] if representation.per_electrode else windows
    return representation, representation.to_tensor(occipital)
