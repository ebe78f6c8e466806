"""The registry of backbones by name: one line for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.dataclasses import is_pydantic_dataclass
from torch import Tensor

from signal_diffusion.errors import UserError
from signal_diffusion.models import sd35, unet
from signal_diffusion.models.conditioning.attributes import Attribute
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.dit import DiT, DiTArchitecture
from signal_diffusion.models.hourglass import Hourglass, HourglassArchitecture
from signal_diffusion.models.localmamba import LocalMamba, LocalMambaArchitecture

__all__ = ["BACKBONES", "Backbone", "build"]


@dataclass(frozen=True)
class Backbone:
    """A registered kind of network."""

    architecture: type
    """Dataclass of `[model.architecture]`."""
    builder: type[Denoiser]
    """`(architecture, *, shape, attributes, electrode_rows) -> Denoiser`."""
    architecture_of: Callable[[Path], Any] | None = None
    """`(folder) -> architecture` of weights in diffusers' layout; None = it can only start from our own checkpoints."""
    part: str = ""
    """Name of its folder in a diffusers pipeline."""
    takes_known: bool = False
    """Whether it can be trained with masks, to generate the rest of examples of which some values are given."""
    takes_places: bool = False
    """Whether it can know electrodes by their places, so that it takes any number and order of them."""

    def __post_init__(self) -> None:
        if not is_pydantic_dataclass(self.architecture):
            raise TypeError(
                f"{self.architecture.__name__}: an experiment file cannot be read into it; declare it with pydantic's "
                "dataclass and config=TABLE, like DiTArchitecture"
            )


BACKBONES: dict[str, Backbone] = {
    "dit": Backbone(DiTArchitecture, DiT, takes_known=True, takes_places=True),
    "hourglass": Backbone(HourglassArchitecture, Hourglass, takes_known=True, takes_places=True),
    "localmamba": Backbone(LocalMambaArchitecture, LocalMamba, takes_known=True),
    "sd35": Backbone(sd35.SD35Architecture, sd35.SD35, sd35.architecture_of, "transformer"),
    "unet": Backbone(unet.UNetArchitecture, unet.UNet, unet.architecture_of, "unet"),
}


def build(
    name: str,
    architecture: Any,
    *,
    shape: tuple[int, int, int],
    attributes: Sequence[Attribute] = (),
    electrode_rows: bool = False,
    known: bool = False,
    places: Tensor | None = None,
) -> Denoiser:
    """Build a backbone with fresh weights for examples of `shape` (C, H, W), conditioned on `attributes`.

    With `electrode_rows`, the rows of an example are electrodes: they have no order, and are identified by index, or by
    their `places` (H, 3) on the unit sphere if these are given. With `known`, some values of an example may be given,
    see `Denoiser.with_known`.
    """
    if name not in BACKBONES:
        raise UserError(f"backbone {name!r} is unknown: expected one of {', '.join(BACKBONES)}")
    kind = BACKBONES[name].builder
    options: dict[str, Any] = ({"known": True} if known else {}) | ({} if places is None else {"places": places})
    model = kind(architecture, shape=shape, attributes=attributes, electrode_rows=electrode_rows, **options)
    for attribute in ("num_tokens", *(("conditioning",) if attributes else ())):
        if not hasattr(model, attribute):
            raise TypeError(f"{kind.__name__}: __init__ does not set {attribute!r}; see the class Denoiser")
    return model
