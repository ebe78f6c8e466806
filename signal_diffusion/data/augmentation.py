"""`[data.augmentation]`: random changes to training examples, different in each step.

In plain torch, on the batch's device. torchvision's transforms use the global generator, once for a whole batch. Here
each example gets its own random numbers from the generator of its step, so that a resumed run repeats none and skips
none. A disabled augmentation uses no random numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from signal_diffusion.config import schema
from signal_diffusion.data.mirroring import Mirror, mirror_of

if TYPE_CHECKING:
    from signal_diffusion.data.card import DatasetCard
    from signal_diffusion.data.representations.representation import Representation

__all__ = ["Augmenting", "augmenting_of"]


@dataclass(frozen=True, kw_only=True)
class Augmenting:
    """Augments batches as [data.augmentation] says."""

    table: schema.Augmentation = field(default_factory=schema.Augmentation)
    mirror: Mirror | None = None

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Augment (B, C, H, W) in [-1, 1]; all random numbers come from `generator`, on the device of `x`.

        In this order: mirrored electrodes, flip, rotation, colours, noise; only noise may leave [-1, 1].
        """
        if self.mirror:
            x = torch.where(_half(x, generator), self.mirror(x), x)
        table = self.table
        if table.horizontal_flip:
            x = torch.where(_half(x, generator), x.flip(-1), x)
        if table.rotation_degrees:
            x = _rotated(x, _uniform(x, generator) * math.radians(table.rotation_degrees))
        if table.color_jitter.enabled:
            x = _jittered(x, *(1 + table.color_jitter.strength * _uniform(x, generator) for _ in range(3)))
        if table.gaussian_noise_std:
            x = x + table.gaussian_noise_std * torch.randn(x.shape, generator=generator, device=x.device)
        return x


def augmenting_of(table: schema.Augmentation, card: DatasetCard, representation: Representation) -> Augmenting:
    """The augmentation of a dataset's examples."""
    return Augmenting(table=table, mirror=mirror_of(card, representation) if table.mirror else None)


def _half(x: Tensor, generator: torch.Generator) -> Tensor:  # (B, 1, 1, 1), each true with probability 1/2
    return torch.rand(len(x), generator=generator, device=x.device)[:, None, None, None] < 0.5


def _uniform(x: Tensor, generator: torch.Generator) -> Tensor:  # (B,) in [-1, 1]
    return torch.rand(len(x), generator=generator, device=x.device) * 2 - 1


def _rotated(x: Tensor, angle: Tensor) -> Tensor:
    """Rotate square images about their centre by radians (B,); the corners are filled by reflection."""
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turns = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], -2)  # (B, 2, 3)
    grid = functional.affine_grid(turns, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _jittered(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Scale brightness, distance from the mean, and distance from grey by factors (B,); clip after each."""
    brightness, contrast, saturation = (factor[:, None, None, None] for factor in (brightness, contrast, saturation))
    x = ((x + 1) / 2 * brightness).clamp(0, 1)
    mean = _grey(x).mean(dim=(-1, -2), keepdim=True)
    x = (mean + (x - mean) * contrast).clamp(0, 1)
    if x.shape[1] == 3:
        grey = _grey(x)
        x = (grey + (x - grey) * saturation).clamp(0, 1)
    return x * 2 - 1


def _grey(x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, 1, H, W)
    if x.shape[1] == 1:
        return x
    red, green, blue = x.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601
