"""Pictures that nobody knows the signals of: files and arrays of others, read to [-1, 1] and nothing more.

The way back to microvolts was never stored with them, so they have none here, whatever they show.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from signal_diffusion.data.representations.representation import (
    DEFAULT_PICTURES,
    Inverse,
    PictureOptions,
    Representation,
)
from signal_diffusion.errors import UserError

__all__ = ["Picture", "RawPicture", "picture_size", "read_picture"]

RawPicture = Path | bytes | np.ndarray
"""A file, its content, or values in [-1, 1] as (H, W), (C, H, W) or (H, W, C), C being 1 or 3."""

_GREY, _COLOUR = {"1", "L", "LA"}, {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


@dataclass(frozen=True, kw_only=True)
class Picture(Representation):
    """Any pictures of one size, 1 × S × S (grey) or 3 × S × S (red, green, blue), black being -1 and white 1."""

    name: ClassVar[str] = "image"
    column: ClassVar[str] = "image"

    channels: int
    """1 or 3."""
    size: int
    """Pixels of an edge."""

    @property
    def layout(self) -> str:
        """One example per picture."""
        return "picture"

    @property
    def inverse(self) -> Inverse:
        """Nobody knows the signals."""
        return "none"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one example: (channels, size, size)."""
        return (self.channels, self.size, self.size)

    def to_tensor(self, signal: Tensor) -> Tensor:
        """Raise a `UserError`: these pictures were not made from signals."""
        raise UserError(f"representation: {self.name!r} is of pictures, which are not made from signals")

    def to_signal(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Raise a `UserError`: limits and scales were never stored."""
        raise UserError("the pictures that this model learnt came without limits and scales: no signal can be made")

    def mean_spectrum(self, tensor: Tensor) -> None:
        """Without."""
        return None

    def picture(self, tensor: Tensor) -> Tensor:
        """The picture itself: grey (H, W) or in colour (H, W, 3)."""
        return tensor[0] if self.channels == 1 else tensor.permute(1, 2, 0)

    @classmethod
    def fit(
        cls,
        signals: Iterable[Tensor],
        *,
        sampling_rate: float,
        window: int,
        pictures: PictureOptions = DEFAULT_PICTURES,
    ) -> Self:
        """Raise a `UserError`: these pictures are not made from signals."""
        raise UserError(f"representation: {cls.name!r} is of pictures, which are not made from signals")

    def parameters(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


def picture_size(raw: RawPicture, where: str) -> tuple[int, tuple[int, int]]:
    """Tell a picture's channels (1 or 3) and its height and width, from a file's header alone.

    Raises a `UserError` that begins with `where` for what is no picture.
    """
    if isinstance(raw, np.ndarray):
        channels, height, width = _planes(raw, where).shape
        return channels, (height, width)
    with _opened(raw, where) as image:
        return 3 if image.mode in _COLOUR else 1, (image.height, image.width)


def read_picture(raw: RawPicture, where: str, *, channels: int, size: int) -> np.ndarray:
    """Read a picture as (channels, size, size) float32 in [-1, 1]; a grey one is repeated to three channels.

    The shorter side is resized to `size`, antialiased, and the longer one cropped at its centre. Eight bits are
    [0, 255] → [-1, 1], sixteen likewise; transparency is left out. Raises a `UserError` that begins with `where`
    for what is damaged, of another depth or out of range.
    """
    if isinstance(raw, np.ndarray):
        planes = np.stack([np.asarray(_fitted(Image.fromarray(plane), size)) for plane in _planes(raw, where)])
    else:
        with _opened(raw, where) as image:
            planes = _pixels(_fitted(_plain(ImageOps.exif_transpose(image)), size))
    planes = planes.clip(-1, 1)  # a sharp edge overshoots when resized
    return np.repeat(planes, channels, axis=0) if len(planes) < channels else planes


def _plain(image: Image.Image) -> Image.Image:
    """One of the modes that can be resized: 8 bits grey or in colour, or float for what has 16 bits."""
    if image.mode in _COLOUR:
        return image.convert("RGB")
    return image.convert("L" if image.mode in _GREY else "F")


def _fitted(image: Image.Image, size: int) -> Image.Image:
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


def _pixels(image: Image.Image) -> np.ndarray:  # (C, H, W)
    largest = 65_535 if image.mode == "F" else 255
    values = np.asarray(image, np.float32) * np.float32(2 / largest) - 1
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


@contextmanager
def _opened(raw: Path | bytes, where: str) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw) as image:
            if image.mode not in _GREY | _COLOUR and not image.mode.startswith("I;16"):
                raise UserError(f"{where}: a picture of mode {image.mode!r}; expected 8 or 16 bits per value")
            yield image
    except FileNotFoundError:
        raise UserError(f"{where}: no such picture; put it there, or leave it out of the list") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = "of no known format" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise UserError(f"{where}: cannot be read as a picture ({reason}); repair it or remove it") from None


def _planes(values: np.ndarray, where: str) -> np.ndarray:  # (C, H, W) float32
    planes = values[None] if values.ndim == 2 else values
    if planes.ndim == 3 and planes.shape[0] not in (1, 3) and planes.shape[2] in (1, 3):
        planes = planes.transpose(2, 0, 1)
    if planes.ndim != 3 or planes.shape[0] not in (1, 3) or not planes.size:
        raise UserError(f"{where}: an array of shape {values.shape}; expected (H, W), (C, H, W) or (H, W, C), C 1 or 3")
    low, high = float(planes.min()), float(planes.max())
    if not -1 <= low <= high <= 1:
        raise UserError(
            f"{where}: values from {low:g} to {high:g}; expected arrays in [-1, 1], or encoded pictures of 8 or 16 bits"
        )
    return np.ascontiguousarray(planes, dtype=np.float32)
