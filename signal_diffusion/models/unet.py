"""The convolutional U-Net of DDPM (Ho et al., https://arxiv.org/abs/2006.11239), from diffusers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from signal_diffusion.config.types import LEVELS, MAX_WIDTH, TABLE, Layers, Width
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Attribute, Conditioning
from signal_diffusion.models.conditioning.embeddings import ConditioningEmbedding
from signal_diffusion.models.pretrained import DiffusersDenoiser, build_architecture, read_config

__all__ = ["UNet", "UNetArchitecture", "architecture_of"]

CLASS = "UNet2DModel"
EXAMPLE_SETTINGS = ("sample_size", "in_channels", "out_channels", "class_embed_type", "num_class_embeds")
"""Arguments of `UNet2DModel` that depend on the examples and their conditions, not on the architecture."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class UNetArchitecture:
    """`[model.architecture]` of a `unet`."""

    model_channels: Annotated[Width, Field(ge=4, multiple_of=4)] = 64
    """Channels of the first level, a multiple of 4."""
    channel_multipliers: Annotated[tuple[Width, ...], LEVELS] = (1, 2, 4)
    """Channels of each level, divided by `model_channels`; each level after the first has half the rows and columns."""
    use_attention: tuple[bool, ...] = (False, False, True)
    """Whether each level has self-attention, one value per level; the middle block always has it."""
    layers_per_block: Layers = 2
    """Residual layers of each level."""
    attention_head_dim: Width = 8
    """Channels of each attention head, a divisor of the channels of every level with attention and of the last."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout in the residual layers, 0 ≤ p < 1."""


class UNet(DiffusersDenoiser):
    """diffusers' `UNet2DModel`. Before training, it predicts zero."""

    condition_layers = ("time_emb_proj",)

    def __init__(
        self,
        architecture: UNetArchitecture,
        *,
        shape: tuple[int, int, int],
        attributes: Sequence[Attribute] = (),
        electrode_rows: bool = False,
    ) -> None:
        """With `electrode_rows`, rows are padded with zeros to a multiple that the levels divide."""
        super().__init__()
        from diffusers.models.unets.unet_2d import UNet2DModel  # slow to import

        channels, height, width = shape
        self.check(architecture)
        self.missing_rows = -height % _factor(architecture) if electrode_rows else 0
        _check_size(architecture, height + self.missing_rows, width)
        self.num_tokens = (height + self.missing_rows) * width
        self.network = UNet2DModel(
            in_channels=channels,
            out_channels=channels,
            class_embed_type="identity" if attributes else None,
            **_settings(architecture),
        )
        time_width = 4 * _widths(architecture)[0]
        self.conditioning = ConditioningEmbedding(attributes, time_width) if attributes else None
        nn.init.zeros_(self.network.conv_out.weight)
        nn.init.zeros_(self.network.conv_out.bias)

    @staticmethod
    def check(architecture: UNetArchitecture) -> None:
        """See `Denoiser.check`."""
        widths, attention = _widths(architecture), architecture.use_attention
        if len(widths) != len(attention):
            raise UserError(
                f"use_attention has {len(attention)} levels and channel_multipliers {len(widths)}; expected the same "
                "number in both"
            )
        if max(widths) > MAX_WIDTH:
            raise UserError(
                f"model_channels × channel_multipliers = {max(widths)} in one level: expected at most {MAX_WIDTH}"
            )
        with_attention = [width for width, each in zip(widths, attention, strict=True) if each]
        for width in (*with_attention, widths[-1]):
            if width % architecture.attention_head_dim:
                raise UserError(
                    f"attention_head_dim: {architecture.attention_head_dim}, expected a divisor of the {width} "
                    "channels of a level with attention"
                )

    @property
    def blocks(self) -> nn.ModuleList:
        """The levels on the way down, the middle block, and the levels on the way up."""
        return nn.ModuleList([*self.network.down_blocks, self.network.mid_block, *self.network.up_blocks])

    def forward(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The prediction for x (B, C, H, W) at the times t (B,).

        diffusers' step k is our t = (k + 1)/T. So weights of its pipelines (T = 1000) receive 1000·t = k + 1, one more
        than the step that they were trained with.
        """
        condition = None if self.conditioning is None else self.conditioning(cond)
        padded = F.pad(x, (0, 0, 0, self.missing_rows))
        return self.network(padded, 1000 * t, class_labels=condition, return_dict=False)[0][:, :, : x.shape[2]]


def architecture_of(folder: Path) -> UNetArchitecture:
    """The architecture of the model in a folder in diffusers' layout.

    Raises
    ------
    UserError
        If it is another network, or has a setting that `[model.architecture]` has no key for.
    """
    from diffusers.models.unets.unet_2d import UNet2DModel

    config = read_config(folder, CLASS)
    try:
        widths = config["block_out_channels"]
        values = {
            "model_channels": widths[0],
            "channel_multipliers": tuple(width // widths[0] for width in widths),
            "use_attention": tuple(name.startswith("Attn") for name in config["down_block_types"]),
        }
    except (KeyError, TypeError, IndexError, AttributeError, ZeroDivisionError):
        raise UserError(
            f"{folder}: its config.json lacks settings of a {CLASS}, or has wrong ones; copy or download it again"
        ) from None
    values |= {name: config.get(name) for name in ("layers_per_block", "attention_head_dim")}
    architecture = build_architecture(UNetArchitecture, folder, values | {"dropout": config.get("dropout", 0.0)})
    expected = _defaults(UNet2DModel) | _settings(architecture)
    for name in sorted(expected.keys() - set(EXAMPLE_SETTINGS)):
        if _plain(config.get(name, expected[name])) != _plain(expected[name]):
            raise UserError(f"{folder}: its config.json has {name} = {config[name]}; expected {expected[name]}")
    return architecture


def _settings(architecture: UNetArchitecture) -> dict[str, Any]:
    """The arguments of `UNet2DModel` that do not depend on the examples."""
    widths = _widths(architecture)
    return {
        "block_out_channels": widths,
        "layers_per_block": architecture.layers_per_block,
        "down_block_types": tuple("AttnDownBlock2D" if each else "DownBlock2D" for each in architecture.use_attention),
        "up_block_types": tuple("AttnUpBlock2D" if each else "UpBlock2D" for each in architecture.use_attention[::-1]),
        "attention_head_dim": architecture.attention_head_dim,
        "norm_num_groups": math.gcd(32, *widths),
        "dropout": architecture.dropout,
    }


def _widths(architecture: UNetArchitecture) -> tuple[int, ...]:
    return tuple(architecture.model_channels * each for each in architecture.channel_multipliers)


def _factor(architecture: UNetArchitecture) -> int:
    """The factor by which the deepest level has fewer rows and columns than the first."""
    return 2 ** (len(architecture.channel_multipliers) - 1)


def _check_size(architecture: UNetArchitecture, height: int, width: int) -> None:
    factor = _factor(architecture)
    if height % factor or width % factor:
        raise UserError(
            f"channel_multipliers: {len(architecture.channel_multipliers)} levels need rows and columns that are "
            f"multiples of {factor}, but examples are {height} × {width}; use fewer levels, or examples of "
            f"{_rounded(height, factor)} × {_rounded(width, factor)}"
        )
    if height == width == factor:
        raise UserError(
            f"channel_multipliers: {len(architecture.channel_multipliers)} levels reduce {height} × {width} to one "
            "pixel, too few for a group norm; use fewer levels"
        )


def _rounded(size: int, factor: int) -> int:
    return -(-size // factor) * factor


def _defaults(network: type) -> dict[str, Any]:
    """The default arguments of a diffusers network."""
    parameters = inspect.signature(network).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
