"""Backbones by name, a line for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning import Attribute
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.dit import DiT, DiTArchitecture

__all__ = ["BACKBONES", "Backbone", "build"]


@dataclass(frozen=True)
class Backbone:
    """A kind of network."""

    architecture: type
    """Dataclass of `[model.architecture]`."""
    builder: Callable[..., Denoiser]
    """`(architecture, *, shape, attributes, electrode_rows) -> Denoiser`."""


BACKBONES: dict[str, Backbone] = {
    "dit": Backbone(DiTArchitecture, DiT),
}


def build(
    name: str,
    architecture: Any,
    *,
    shape: tuple[int, int, int],
    attributes: Sequence[Attribute] = (),
    electrode_rows: bool = False,
) -> Denoiser:
    """A backbone with fresh weights for examples of `shape` (C, H, W), conditioned on `attributes`.

    With `electrode_rows`, the rows of an example are electrodes: they have no order, and each is told by its number.
    """
    if name not in BACKBONES:
        raise UserError(f"backbone {name!r} is unknown: expected one of {', '.join(BACKBONES)}")
    return BACKBONES[name].builder(architecture, shape=shape, attributes=attributes, electrode_rows=electrode_rows)
