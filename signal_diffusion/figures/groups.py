"""Examples that a figure shows, and what it shows of all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import evenly_spaced
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.figures.topomaps import band_levels, located

__all__ = ["ExampleSet", "SampleGroup"]

MAPPED = 256  # windows, evenly spaced, for maps of bands


@dataclass(frozen=True, kw_only=True, eq=False)
class ExampleSet:
    """Examples of a dataset's kind. Spectrum and bands are computed when first asked for, and kept."""

    tensors: Tensor
    """(N, C, H, W), on the CPU."""
    card: DatasetCard

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.tensors)

    @cached_property
    def representation(self) -> Representation:
        """Representation of the examples."""
        return representation_of(self.card)

    def signals(self, rows: Sequence[int]) -> np.ndarray:
        """Some of the examples as windows in µV, (n, electrodes, samples)."""
        return self.representation.to_signal(self.tensors[list(rows)]).numpy()

    @cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean spectrum: Hz (F,), dB re 1 µV (F,); None without examples or if the representation has none."""
        found = self.representation.mean_spectrum(self.tensors) if len(self) else None
        return None if found is None else (found[0].numpy(), found[1].numpy())

    @cached_property
    def bands(self) -> dict[str, np.ndarray]:
        """Mean level of each band by electrode, dB re 1 µV²; empty if a map is not possible."""
        if not (len(self) and located(self.card.channels, self.card.positions).size) or self.card.sampling_rate is None:
            return {}
        return band_levels(self.signals(evenly_spaced(len(self), MAPPED)), self.card.sampling_rate)


@dataclass(frozen=True, kw_only=True)
class SampleGroup:
    """One row of a figure: samples that are shown together."""

    title: str
    samples: ExampleSet
    real: ExampleSet | None = None
    """Real examples for comparison."""

    @property
    def sets(self) -> dict[str, ExampleSet]:
        """What there is to show: real and generated examples."""
        found = {"real": self.real, "generated": self.samples}
        return {name: each for name, each in found.items() if each is not None and len(each)}
