"""Arbitrary images, from files and arrays, scaled to [-1, 1].

They cannot be turned into signals, even if they show EEG: limits and scales were not stored with them.
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

__all__ = ["Picture", "RawImage", "image_dimensions", "read_image"]

RawImage = Path | bytes | np.ndarray
"""A file, its content, or values in [-1, 1] as (H, W), (C, H, W) or (H, W, C), with C = 1 or 3."""

NOT_FROM_SIGNALS = "representation: 'image' images cannot be made from signals; use db-only, db-iq or db-polar"
_GREY, _COLOUR = {"1", "L", "LA"}, {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


@dataclass(frozen=True, kw_only=True)
class Picture(Representation):
    """Any images of one size, 1 × S × S (grey) or 3 × S × S (red, green, blue); black is -1, white is 1."""

    name: ClassVar[str] = "image"
    column: ClassVar[str] = "image"

    channels: int
    """1 or 3."""
    size: int
    """Height and width, pixels."""

    @property
    def layout(self) -> str:
        """`picture`: one example per image."""
        return "picture"

    @property
    def inverse(self) -> Inverse:
        """`none`: the signals are unknown."""
        return "none"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one example: (channels, size, size)."""
        return (self.channels, self.size, self.size)

    def to_tensor(self, signal: Tensor) -> Tensor:
        """Raise a `UserError`: images are not made from signals."""
        raise UserError(NOT_FROM_SIGNALS)

    def to_signal(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Raise a `UserError`: limits and scales are unknown."""
        raise UserError(
            "this model was trained on images without limits and scales, so its samples cannot be turned into signals"
        )

    def mean_spectrum(self, tensor: Tensor) -> None:
        """None: the images have no known spectrum."""
        return None

    def picture(self, tensor: Tensor) -> Tensor:
        """The image itself: grey (H, W) or in colour (H, W, 3)."""
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
        """Raise a `UserError`: images are not made from signals."""
        raise UserError(NOT_FROM_SIGNALS)

    def parameters(self) -> dict[str, Any]:
        """The fields, as JSON values."""
        return asdict(self)


def image_dimensions(raw: RawImage, where: str) -> tuple[int, tuple[int, int]]:
    """Channels (1 or 3) and (height, width) of an image; of a file, only the header is read.

    Raises a `UserError` that starts with `where` if it is not an image.
    """
    if isinstance(raw, np.ndarray):
        channels, height, width = _planes(raw, where).shape
        return channels, (height, width)
    with _opened(raw, where) as image:
        return 3 if image.mode in _COLOUR else 1, (image.height, image.width)


def read_image(raw: RawImage, where: str, *, channels: int, size: int) -> np.ndarray:
    """Read an image as (channels, size, size) float32 in [-1, 1]; a grey one is repeated to three channels.

    The shorter side is resized to `size`, antialiased, and the longer one cropped at its centre. The range of 8 bits,
    [0, 255], or of 16 bits becomes [-1, 1]; transparency is ignored. Raises a `UserError` that starts with `where` for
    a damaged image, another bit depth or values out of range.
    """
    if isinstance(raw, np.ndarray):
        planes = np.stack([np.asarray(_fitted(Image.fromarray(plane), size)) for plane in _planes(raw, where)])
    else:
        with _opened(raw, where) as image:
            planes = _pixels(_fitted(_plain(ImageOps.exif_transpose(image)), size))
    planes = planes.clip(-1, 1)  # bicubic resizing overshoots at sharp edges
    return np.repeat(planes, channels, axis=0) if len(planes) < channels else planes


def _plain(image: Image.Image) -> Image.Image:
    """Convert to a mode that can be resized: 8 bits grey or colour, or float for 16 bits."""
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
                raise UserError(f"{where}: unsupported image mode {image.mode!r}; expected 8 or 16 bits per value")
            yield image
    except FileNotFoundError:
        raise UserError(f"{where}: no such image; add it, or remove it from the list") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = "unknown format" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise UserError(f"{where}: cannot be read as an image ({reason}); repair it or remove it") from None


def _planes(values: np.ndarray, where: str) -> np.ndarray:  # (C, H, W) float32
    planes = values[None] if values.ndim == 2 else values
    if planes.ndim == 3 and planes.shape[0] not in (1, 3) and planes.shape[2] in (1, 3):
        planes = planes.transpose(2, 0, 1)
    if planes.ndim != 3 or planes.shape[0] not in (1, 3) or not planes.size:
        raise UserError(
            f"{where}: array of shape {values.shape}; expected (H, W), (C, H, W) or (H, W, C), with C = 1 or 3"
        )
    low, high = float(planes.min()), float(planes.max())
    if not -1 <= low <= high <= 1:
        raise UserError(
            f"{where}: values from {low:g} to {high:g}; expected arrays in [-1, 1], or encoded images of 8 or 16 bits"
        )
    return np.ascontiguousarray(planes, dtype=np.float32)
