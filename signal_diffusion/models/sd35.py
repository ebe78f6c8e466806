"""The transformer of Stable Diffusion 3.5 (Esser et al., https://arxiv.org/abs/2403.03206), from diffusers.

Tokens of the example and tokens of the conditions attend to each other. The default sizes are those of
stable-diffusion-3.5-medium (https://huggingface.co/stabilityai/stable-diffusion-3.5-medium).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from signal_diffusion.config.types import TABLE, Layers, LayersOrNone, Side, Width
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Attribute, Caption, Conditioning
from signal_diffusion.models.conditioning.embeddings import ConditioningEmbedding, HasCaptions
from signal_diffusion.models.denoiser import check_heads
from signal_diffusion.models.pretrained import DiffusersDenoiser, build_architecture, read_config

__all__ = ["SD35", "SD35Architecture", "architecture_of"]

CLASS = "SD3Transformer2DModel"


@dataclass(frozen=True, kw_only=True, config=TABLE)
class SD35Architecture:
    """`[model.architecture]` of an `sd35`."""

    num_layers: Layers = 24
    """Transformer blocks, 1 or more."""
    num_attention_heads: Width = 24
    """Attention heads, 1 or more; the width is heads × head dimension, a multiple of 4."""
    attention_head_dim: Width = 64
    """Channels of each head, 1 or more."""
    dual_attention_layers: Annotated[tuple[LayersOrNone, ...], Field(max_length=256)] = tuple(range(13))
    """Blocks, counted from 0, with a second attention among the example's own tokens; numbers beyond the last block
    have no effect."""
    qk_norm: Literal["rms_norm", "none"] = "rms_norm"
    """Norm of queries and keys; Stable Diffusion 3 has "none"."""
    patch_size: Side = 2
    """Rows and columns of a patch, which becomes a token; examples that it does not divide are padded with zeros."""
    joint_attention_dim: Width = 4096
    """Channels of a condition's token, at least as many as the text encoder's."""
    pooled_projection_dim: Width = 2048
    """Channels of the pooled embedding of the conditions, at least as many as the text encoder's."""
    sample_size: Side = 128
    """Rows and columns of the examples that the positions of the whole table are scaled to, at least `patch_size`;
    examples may be larger or smaller."""
    pos_embed_max_size: Side = 384
    """Rows and columns of the table of positions, in tokens; an example uses its centre."""

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.num_attention_heads * self.attention_head_dim


class SD35(DiffusersDenoiser):
    """diffusers' `SD3Transformer2DModel`. Before training, it predicts zero."""

    lora_targets = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    condition_layers = ("norm1.linear", "norm1_context.linear")

    def __init__(
        self,
        architecture: SD35Architecture,
        *,
        shape: tuple[int, int, int],
        attributes: Sequence[Attribute] = (),
        electrode_rows: bool = False,
    ) -> None:
        """`electrode_rows` changes nothing: a row of a latent, or of a patch, spans several electrodes."""
        super().__init__()
        from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel  # slow to import

        self.check(architecture)
        channels, *size = shape
        self.patch_size = patch = architecture.patch_size
        self.grid = (math.ceil(size[0] / patch), math.ceil(size[1] / patch))
        self.num_tokens = math.prod(self.grid)
        self.pos_embed_max_size = architecture.pos_embed_max_size
        self.network = SD3Transformer2DModel(
            sample_size=patch,
            patch_size=patch,
            in_channels=channels,
            out_channels=channels,
            num_layers=architecture.num_layers,
            attention_head_dim=architecture.attention_head_dim,
            num_attention_heads=architecture.num_attention_heads,
            joint_attention_dim=architecture.joint_attention_dim,
            caption_projection_dim=architecture.width,
            pooled_projection_dim=architecture.pooled_projection_dim,
            pos_embed_max_size=1,  # its table of positions, up to a gigabyte, is replaced below
            dual_attention_layers=architecture.dual_attention_layers,
            qk_norm=None if architecture.qk_norm == "none" else architecture.qk_norm,
        )
        self.network.pos_embed = _PatchEmbedding(channels, architecture, _positions(self.grid, architecture))
        self.conditioning = _JointConditioning(attributes, architecture)
        nn.init.zeros_(self.network.proj_out.weight)
        nn.init.zeros_(self.network.proj_out.bias)

    @staticmethod
    def check(architecture: SD35Architecture) -> None:
        """See `Denoiser.check`."""
        check_heads(architecture.num_attention_heads, architecture.attention_head_dim)
        if architecture.sample_size < architecture.patch_size:
            raise UserError(f"sample_size: {architecture.sample_size}, expected at least the patch_size")

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        return self.network.transformer_blocks

    def forward(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The prediction for x (B, C, H, W) at the times t (B,)."""
        tokens, pooled = self.conditioning(cond, len(x))
        height, width = x.shape[2:]
        prediction = self.network(
            hidden_states=F.pad(x, (0, -width % self.patch_size, 0, -height % self.patch_size)),
            timestep=1000 * t,
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            return_dict=False,
        )[0]
        return prediction[:, :, :height, :width]

    def adapt(self, name: str, tensor: Tensor) -> Tensor:
        """Cut a square table of positions to its centre, which examples use: (1, size², width) → (1, N, width)."""
        if name != "pos_embed.pos_embed":
            return tensor
        size, (rows, columns) = self.pos_embed_max_size, self.grid
        if max(rows, columns) > size:
            raise UserError(
                f"examples have {rows} × {columns} tokens, but the pretrained model has positions for only "
                f"{size} × {size}; use smaller examples"
            )
        top, left = (size - rows) // 2, (size - columns) // 2
        square = tensor.unflatten(1, (size, size))
        return square[:, top : top + rows, left : left + columns].flatten(1, 2)


def architecture_of(folder: Path) -> SD35Architecture:
    """The architecture of the model in a folder in diffusers' layout.

    Raises
    ------
    UserError
        If it is another network, or one that this wrapper does not support.
    """
    config = read_config(folder, CLASS)
    values = {field.name: config.get(field.name) for field in fields(SD35Architecture)}
    values["dual_attention_layers"] = tuple(values["dual_attention_layers"] or ())
    values["qk_norm"] = values["qk_norm"] or "none"
    architecture = build_architecture(SD35Architecture, folder, values)
    expected = {"caption_projection_dim": architecture.width, "out_channels": config.get("in_channels")}
    for name, value in expected.items():
        if config.get(name) not in (None, value):
            raise UserError(f"{folder}: its config.json has {name} = {config[name]}; expected {value}")
    return architecture


class _PatchEmbedding(nn.Module):
    """Embed patches and add positions, with the names of diffusers' `PatchEmbed`: (B, C, H, W) → (B, N, D).

    The sum is not rounded to autocast's bf16, so the residual stream is fp32.
    """

    pos_embed: Tensor

    def __init__(self, channels: int, architecture: SD35Architecture, positions: Tensor) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, architecture.width, architecture.patch_size, stride=architecture.patch_size)
        self.register_buffer("pos_embed", positions)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2) + self.pos_embed


class _JointConditioning(nn.Module):
    """Embed conditions as tokens to attend to, (B, L, joint dim), and as one pooled embedding, (B, pooled dim).

    A caption gives the tokens and the pooled embedding of its text encoder. Any other attribute gives one learnt token;
    the sum of these tokens, through a linear layer, is added to the pooled embedding. Without attributes there is one
    learnt token.
    """

    def __init__(self, attributes: Sequence[Attribute], architecture: SD35Architecture) -> None:
        super().__init__()
        dims = architecture.joint_attention_dim, architecture.pooled_projection_dim
        captions = [attribute for attribute in attributes if isinstance(attribute, Caption)]
        others = [attribute for attribute in attributes if not isinstance(attribute, Caption)]
        self.caption_names = [caption.name for caption in captions]
        self.captions = nn.ModuleList(_CaptionTable(caption, *dims) for caption in captions)
        self.embedding = ConditioningEmbedding(others, dims[0]) if others else None
        self.pooled = nn.Linear(*dims) if others else None
        if not attributes:
            self.token, self.whole = nn.Parameter(torch.randn(dims[0])), nn.Parameter(torch.zeros(dims[1]))

    def forward(self, cond: Conditioning, batch: int) -> tuple[Tensor, Tensor]:
        """Embed the conditions of a batch."""
        tokens, pooled = [], []
        for name, table in zip(self.caption_names, self.captions, strict=True):
            caption_tokens, caption_pooled = table(cond.attributes[name])
            tokens.append(caption_tokens)
            pooled.append(caption_pooled)
        if self.embedding is not None and self.pooled is not None:
            tokens.append(self.embedding.tokens(cond))
            pooled.append(self.pooled(tokens[-1].sum(1)))
        if not tokens:
            return self.token.expand(batch, 1, -1), self.whole.expand(batch, -1)
        return torch.cat(tokens, dim=1), torch.stack(pooled).sum(0)


class _CaptionTable(nn.Module, HasCaptions):
    """The embeddings of the captions; row 0, the empty caption, is the null.

    Only the rows of a batch are padded with zeros to the network's width, as CLIP's are: the table may have many
    captions, and stays narrower.

    The table is not saved: another run has other captions, and the text encoder can embed them again.
    """

    tokens: Tensor
    pooled: Tensor

    def __init__(self, caption: Caption, joint_attention_dim: int, pooled_projection_dim: int) -> None:
        super().__init__()
        widths = {"joint_attention_dim": joint_attention_dim, "pooled_projection_dim": pooled_projection_dim}
        for (key, width), table in zip(widths.items(), (caption.tokens, caption.pooled), strict=True):
            if table.shape[-1] > width:
                raise UserError(
                    f"{key}: {width}, but the text encoder has {table.shape[-1]} channels; expected at least as many"
                )
        self.widths = tuple(widths.values())
        self.set_captions(caption)

    def set_captions(self, caption: Caption) -> None:
        self.register_buffer("tokens", caption.tokens.float(), persistent=False)
        self.register_buffer("pooled", caption.pooled.float(), persistent=False)

    def forward(self, index: Tensor) -> tuple[Tensor, Tensor]:
        row = index.clamp(min=0)
        tokens, pooled = (
            F.pad(table[row], (0, width - table.shape[-1]))
            for table, width in zip((self.tokens, self.pooled), self.widths, strict=True)
        )
        return tokens, pooled


def _positions(grid: tuple[int, int], architecture: SD35Architecture) -> Tensor:
    """Sines and cosines of the column in one half of the channels, of the row in the other, (1, N, width).

    They are the centre of SD3's table, which is extrapolated for an example of more tokens.
    """
    size, base = architecture.pos_embed_max_size, architecture.sample_size // architecture.patch_size
    num_frequencies = architecture.width // 4
    frequencies = 10_000.0 ** (-torch.arange(num_frequencies, dtype=torch.float64) / num_frequencies)
    waves = []
    for length in grid:
        positions = (torch.arange(length) + (size - length) // 2).double() * base / size
        angles = positions[:, None] * frequencies
        waves.append(torch.cat([angles.sin(), angles.cos()], dim=1))
    rows, columns = waves[0][:, None].expand(-1, grid[1], -1), waves[1][None].expand(grid[0], -1, -1)
    return torch.cat([columns, rows], dim=2).flatten(0, 1)[None].float()
