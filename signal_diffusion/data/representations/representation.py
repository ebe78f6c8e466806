"""Signals in microvolts ⇄ the tensors that models see: what every representation offers.

A representation is a value: its parameters travel in the dataset's card and then in the checkpoint, so whatever a model
generates can be turned back into microvolts. A new one is a class that implements `Representation`, and a line in
`registry.py`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from signal_diffusion.errors import UserError

__all__ = ["DEFAULT_PICTURES", "Inverse", "PictureOptions", "Representation"]

Inverse = Literal["exact", "approximate", "none"]
"""How well a tensor turns back into microvolts: to rounding, up to a phase that has to be guessed, or not."""


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """What there is to choose about pictures of EEG; without effect on time series."""

    layout: Literal["electrode", "mosaic"] = "electrode"
    """A picture per electrode and window, or all electrodes of a window side by side in one."""
    size: int = 64
    """mosaic: pixels of an edge, even, at least 32."""
    frequency: Literal["linear", "log"] = "linear"
    """mosaic: spacing of the rows, from 0 Hz or (log) from 1 Hz, to Nyquist."""
    db_limits: tuple[float, float] | None = None
    """Levels of the values -1 and 1, dB re 1 µV; None = percentiles of the training windows."""

    def __post_init__(self) -> None:
        if self.layout not in ("electrode", "mosaic"):
            raise UserError(f"layout: there is no {self.layout!r}; use electrode or mosaic")
        if self.frequency not in ("linear", "log"):
            raise UserError(f"frequency: there is no {self.frequency!r}; use linear or log")
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
    """How a window of EEG becomes a tensor, and the way back."""

    name: ClassVar[str]
    column: ClassVar[str]
    """The column of the dataset that holds it: `image` or `signal`."""

    @property
    @abstractmethod
    def layout(self) -> str:
        """How examples are cut from a window: `electrode`, `mosaic`, `window`, or `picture` for any other picture."""

    @property
    @abstractmethod
    def inverse(self) -> Inverse:
        """How well `to_signal` undoes `to_tensor`."""

    @property
    def per_electrode(self) -> bool:
        """Whether each electrode of a window is an example of its own, or all electrodes are one example."""
        return self.layout == "electrode"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Of one example: (C, H, W)."""

    @property
    def data_std(self) -> float:
        """What diffusion divides examples by, as noise of standard deviation 1 would drown them; 1 = nothing.

        Values that fill [-1, 1] need nothing.
        """
        return 1.0

    @abstractmethod
    def to_tensor(self, signal: Tensor) -> Tensor:
        """Turn µV, (*, window) or (*, electrodes, window), into values in [-1, 1], (*, C, H, W), float32."""

    @abstractmethod
    def to_signal(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Turn (*, C, H, W) back into µV, float32, on the tensor's device.

        What the tensor does not hold (the phase of `db-only`) is drawn from `generator`, one of the CPU, so
        that every device gives the same; None is a generator seeded with 0. Examples draw one after the
        other. Raises `UserError` where `inverse` is "none".
        """

    @abstractmethod
    def mean_spectrum(self, tensor: Tensor) -> tuple[Tensor, Tensor] | None:
        """Average the level of (*, C, H, W): frequencies in Hz (F,) and dB re 1 µV (F,), ascending; None without."""

    @abstractmethod
    def picture(self, tensor: Tensor) -> Tensor:
        """What to show of one example (C, H, W): (H, W) in [-1, 1], or in colour (H, W, 3)."""

    @classmethod
    def check(cls, pictures: PictureOptions, *, sampling_rate: float, window: int, electrodes: int) -> None:
        """Raise the `UserError` that `fit` would raise, before anything is read.

        Without more ado, a representation takes no options for pictures.
        """
        if pictures != DEFAULT_PICTURES:
            raise UserError(
                f"representation {cls.name}: takes no --layout, --picture-size, --frequency or --db-limits; "
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
        """Take what depends on data from the training split's windows, (n, electrodes, window) in µV, seen once.

        Raises `UserError` where the options do not suit the representation or the windows; `check` does so earlier.
        """

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Everything `from_parameters` needs, as JSON values."""

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Self:
        """Build the representation whose `parameters()` these are."""
        return cls(**parameters)
