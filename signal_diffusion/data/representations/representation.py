"""The interface of representations: signals in microvolts ⇄ the tensors that models see.

A representation is a value object: its parameters are stored in the dataset's card and in checkpoints, so that samples
can be turned back into microvolts. To add one, implement `Representation` and add a line to `registry.py`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from signal_diffusion.diffusion.normalisation import UNCHANGED, Normalisation
from signal_diffusion.errors import UserError
from signal_diffusion.randomness import Purpose, generator_for

__all__ = ["CONSTANT_SIGNALS", "DEFAULT_PICTURES", "Inverse", "PictureOptions", "Representation"]

CONSTANT_SIGNALS = (
    "the signals of the training split are all zero or constant; expected EEG in µV: check the files and their unit"
)
"""Message of `fit`: nothing can be scaled by a range of zero."""

Inverse = Literal["exact", "approximate", "none"]
"""How a tensor turns back into microvolts: exactly (to rounding), with an estimated phase, or not at all."""


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Options of spectrogram images; time series do not have them."""

    layout: Literal["electrode", "mosaic"] = "electrode"
    """One image per electrode and window, or one image per window with all electrodes side by side."""
    size: int = 64
    """mosaic: height and width, pixels; even, at least 32."""
    frequency: Literal["linear", "log"] = "linear"
    """mosaic: spacing of the rows, linear from 0 Hz or logarithmic from 1 Hz, to Nyquist."""
    db_limits: tuple[float, float] | None = None
    """Levels that become -1 and 1, dB re 1 µV; None = percentiles of the training windows."""

    def __post_init__(self) -> None:
        if self.layout not in ("electrode", "mosaic"):
            raise UserError(f"layout: unknown value {self.layout!r}; use electrode or mosaic")
        if self.frequency not in ("linear", "log"):
            raise UserError(f"frequency: unknown value {self.frequency!r}; use linear or log")
        if self.layout == "electrode":
            for option, value, default in (("picture-size", self.size, 64), ("frequency", self.frequency, "linear")):
                if value != default:
                    raise UserError(
                        f"--{option} {value} has no effect with --layout electrode; leave it out or use --layout mosaic"
                    )
        if self.size < 32 or self.size % 2:
            raise UserError(f"--picture-size {self.size}: expected an even number of pixels, at least 32")
        limits = self.db_limits
        if limits is not None and not (len(limits) == 2 and all(map(math.isfinite, limits)) and limits[0] < limits[1]):
            raise UserError(
                f"--db-limits {' '.join(map(str, limits))}: expected two levels in dB re 1 µV, the lower one first"
            )


DEFAULT_PICTURES = PictureOptions()


class Representation(ABC):
    """Converts windows of EEG to tensors and back."""

    name: ClassVar[str]
    column: ClassVar[str]
    """Column of the dataset with the tensors: `image` or `signal`."""

    @property
    @abstractmethod
    def layout(self) -> str:
        """What an example is: an `electrode` or `mosaic` of spectra, a `window` of signals, or another `picture`."""

    @property
    @abstractmethod
    def inverse(self) -> Inverse:
        """How well `to_signal` inverts `to_tensor`."""

    @property
    def per_electrode(self) -> bool:
        """Whether each electrode of a window is a separate example; else all electrodes are one example."""
        return self.layout == "electrode"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Shape of one example: (C, H, W)."""

    @property
    def normalisation(self) -> Normalisation:
        """What diffusion normalises examples by; nothing, for values that fill [-1, 1]."""
        return UNCHANGED

    @abstractmethod
    def to_tensor(self, signal: Tensor) -> Tensor:
        """Turn µV, (*, window) or (*, electrodes, window), into values in [-1, 1], (*, C, H, W), float32."""

    @abstractmethod
    def to_signal(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Turn (*, C, H, W) back into µV, float32, on the tensor's device.

        What the tensor does not contain (the phase of `db-only`) starts from random numbers of `generator`, a CPU
        generator, so that the result does not depend on the device; None = seeded with 0. Examples use its random
        numbers one after the other. Raises `UserError` if `inverse` is "none".
        """

    def to_signals(self, tensors: Tensor, seed: int, numbers: Sequence[int]) -> Tensor:
        """Turn examples (N, C, H, W) into µV, (N, …); each depends only on itself, the seed and its number."""
        examples = zip(tensors, numbers, strict=True)
        return torch.stack([self.to_signal(each, generator_for(Purpose.SIGNAL, seed, i)) for each, i in examples])

    @abstractmethod
    def mean_spectrum(self, tensor: Tensor) -> tuple[Tensor, Tensor] | None:
        """Mean spectrum of (*, C, H, W): ascending frequencies, Hz (F,), and dB re 1 µV (F,); None if there is none."""

    def picture(self, tensor: Tensor) -> Tensor:
        """Image to display of one example (C, H, W): (H, W) in [-1, 1], or in colour (H, W, 3).

        The layout `window` needs none: its signals are drawn as traces.
        """
        raise NotImplementedError(f"{self.name}: no image; draw `to_signal` as traces")

    @classmethod
    def check(cls, pictures: PictureOptions, *, sampling_rate: float, window: int, electrodes: int) -> None:
        """Raise the `UserError` that `fit` would raise, before any recording is read.

        By default, a representation accepts no options for images.
        """
        if pictures != DEFAULT_PICTURES:
            raise UserError(
                f"representation {cls.name}: does not support --layout, --picture-size, --frequency or --db-limits; "
                "leave them out, or use db-only, db-iq or db-polar"
            )

    @classmethod
    @abstractmethod
    def fit(
        cls,
        signals: Iterable[Tensor],
        *,
        sampling_rate: float,
        window: int,
        pictures: PictureOptions = DEFAULT_PICTURES,
    ) -> Self:
        """Fit data-dependent parameters in one pass over the training windows, µV (n, electrodes, window).

        Raises `UserError` if the options do not suit the representation or the windows; `check` does so earlier. Also
        if the signals are constant.
        """

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Parameters for `from_parameters`, as JSON values."""

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Self:
        """Rebuild a representation from its `parameters()`."""
        return cls(**parameters)
