"""Samples: what a model made, in every form that it has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.data import export
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.sampling.requests import ELECTRODE

if TYPE_CHECKING:
    import mne
    from PIL.Image import Image

__all__ = ["Samples"]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """N samples, or N whole windows, on the CPU, in the order that they were asked for."""

    tensors: Tensor
    """(N, C, H, W) in [-1, 1], float32: what the dataset has examples of; (N, electrodes, C, H, W) of whole windows."""
    latents: Tensor | None
    """What they were decoded from, (N, c, h, w) or (N, electrodes, c, h, w), for a model of latents."""
    signals: Tensor | None
    """µV, float32, (N, electrodes, samples), or (N, samples) of one electrode each; None where the tensors hold no
    signals."""
    columns: dict[str, np.ndarray]
    """What each was asked to be, by attribute (N,), with "" or NaN for the null."""
    card: DatasetCard
    """Of the dataset that the model was trained on."""
    representation: Representation

    def __len__(self) -> int:
        """How many."""
        return len(self.tensors)

    @property
    def sfreq(self) -> float | None:
        """Hz, of the signals."""
        return None if self.signals is None else self.card.sampling_rate

    @property
    def ch_names(self) -> list[str]:
        """Electrodes of the signals, in order; "EEG" of one that was left open, [] without signals."""
        return [] if self.signals is None else export.channel_names(self.signals, self.card, self.columns)

    def as_windows(self, electrodes: int) -> Samples:
        """The same with so many in a row as the electrodes of one window, which is one of N then; 0 = as they are."""
        if not electrodes:
            return self
        tensors, latents, signals = (
            None if each is None else each.unflatten(0, (-1, electrodes))
            for each in (self.tensors, self.latents, self.signals)
        )
        assert tensors is not None
        columns = {name: values[::electrodes] for name, values in self.columns.items() if name != ELECTRODE}
        return replace(self, tensors=tensors, latents=latents, signals=signals, columns=columns)

    def to_mne(self) -> mne.EpochsArray:
        """An epoch per sample, as `data.export.to_mne` makes them: volts, names, positions, and columns as metadata.

        Raises
        ------
        UserError
            Where there are no signals.
        """
        signals = torch.empty(len(self), 0) if self.signals is None else self.signals
        return export.to_mne(signals, self.card, self.columns)

    def to_pictures(self) -> list[Image]:
        """A picture per sample, or electrode, of what its representation shows: 8-bit grey for one value, or colour.

        -1 is black and 1 is white; what exceeds them is cut off.
        """
        from PIL import Image

        shown = (self.representation.picture(tensor) for tensor in self.tensors.flatten(0, -4))
        return [Image.fromarray(((each.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()) for each in shown]
