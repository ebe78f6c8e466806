"""Signals in microvolts ⇄ the tensors that models see: what every representation offers.

A representation is a value: its parameters travel in the dataset's card and then in the checkpoint, so whatever a model
generates can be turned back into microvolts. A new one is a class that implements `Representation`, and a line in
`registry.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

__all__ = ["Representation"]


class Representation(ABC):
    """How a window of EEG becomes a tensor, and the way back."""

    name: ClassVar[str]
    layout: ClassVar[str]
    column: ClassVar[str]
    """The column of the dataset that holds it: `image` or `signal`."""
    per_electrode: ClassVar[bool]
    """Whether each electrode of a window is an example of its own, or all electrodes are one example."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Of one example: (C, H, W)."""

    @abstractmethod
    def to_tensor(self, signal: Tensor) -> Tensor:
        """Turn µV, (*, window) or (*, electrodes, window), into values in [-1, 1], (*, C, H, W), float32."""

    @abstractmethod
    def to_signal(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Turn (*, C, H, W) back into µV, float32, on the tensor's device.

        What the tensor does not hold (the phase of `db-only`) is drawn from `generator`, one of the CPU, so
        that every device gives the same; None is a generator seeded with 0. Examples draw one after the
        other.
        """

    @abstractmethod
    def mean_spectrum(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Average the level of (*, C, H, W): frequencies in Hz (F,) and dB re 1 µV (F,), ascending."""

    @abstractmethod
    def picture(self, tensor: Tensor) -> Tensor:
        """What to show of one example (C, H, W): (H, W) in [-1, 1]."""

    @classmethod
    @abstractmethod
    def fit(cls, signals: Iterable[Tensor], *, sampling_rate: float, window: int) -> Self:
        """Take the parameters that depend on data from the training split's windows, seen once, in µV."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Everything `from_parameters` needs, as JSON values."""

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Self:
        """Build the representation whose `parameters()` these are."""
        return cls(**parameters)
