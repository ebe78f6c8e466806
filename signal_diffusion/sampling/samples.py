"""Generated samples as tensors, latents, signals, MNE epochs and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.mne_objects import to_mne
from signal_diffusion.data.export.signals import channel_names
from signal_diffusion.data.foreign.image_folder import eight_bits
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.errors import UserError
from signal_diffusion.sampling.requests import ELECTRODE

if TYPE_CHECKING:
    import mne
    from PIL.Image import Image

    from signal_diffusion.evaluation.windows import Windows

__all__ = ["Samples"]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """N samples, or N whole windows, on the CPU, in the order of the request."""

    tensors: Tensor
    """(N, C, H, W) in [-1, 1], float32, like the dataset's examples; (N, electrodes, C, H, W) for whole windows."""
    latents: Tensor | None
    """Latents that were decoded to `tensors`, (N, c, h, w) or (N, electrodes, c, h, w); None without an autoencoder."""
    signals: Tensor | None
    """Signals in µV, float32, (N, electrodes, samples), or (N, samples) if a sample is one electrode; None if the
    representation has no signals."""
    columns: dict[str, np.ndarray]
    """The requested conditions by attribute, (N,) each, with "" or NaN for attributes left open."""
    card: DatasetCard
    """Card of the dataset that the model was trained on."""
    representation: Representation

    def __len__(self) -> int:
        """Number of samples or windows."""
        return len(self.tensors)

    @property
    def sfreq(self) -> float | None:
        """Sampling rate of the signals in Hz; None without signals."""
        return None if self.signals is None else self.card.sampling_rate

    @property
    def ch_names(self) -> list[str]:
        """Electrodes of the signals, in order; "EEG" if the electrode was left open, [] without signals."""
        return [] if self.signals is None else channel_names(self.signals, self.card, self.columns)

    def finite(self) -> Tensor:
        """Which samples or windows have only finite values, (N,)."""
        values = [each for each in (self.tensors, self.latents, self.signals) if each is not None]
        return torch.stack([each.isfinite().flatten(1).all(1) for each in values]).all(0)

    def take(self, rows: Sequence[int]) -> Samples:
        """Some of the samples or windows, in the given order."""
        some = torch.tensor(rows, dtype=torch.int64)
        tensors, latents, signals = (
            None if each is None else each[some] for each in (self.tensors, self.latents, self.signals)
        )
        assert tensors is not None
        columns = {name: values[some.numpy()] for name, values in self.columns.items()}
        return replace(self, tensors=tensors, latents=latents, signals=signals, columns=columns)

    def as_windows(self, electrodes: int) -> Samples:
        """The same samples grouped into windows of this many consecutive electrodes; 0 = unchanged."""
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
        """Convert to one epoch per sample, in volts, with names, positions, and columns as metadata.

        Raises
        ------
        UserError
            If there are no signals.
        """
        signals = torch.empty(len(self), 0) if self.signals is None else self.signals
        return to_mne(signals, self.card, self.columns)

    def to_windows(self, name: str = "samples") -> Windows:
        """Convert to `evaluation.windows.Windows`, which messages call `name`: µV, with the conditions as columns.

        Raises
        ------
        UserError
            If there are no signals.
        """
        import pandas as pd

        from signal_diffusion.evaluation.reading import windows_of_card
        from signal_diffusion.evaluation.stored_spectrograms import spectrograms_in

        if self.signals is None:
            raise UserError("samples: this representation has no signals; train a model of signals or spectrograms")
        return windows_of_card(
            self.signals.numpy(),
            self.card,
            pd.DataFrame(self.columns),
            name=name,
            spectrograms=spectrograms_in(self.card, self.tensors.numpy()),
        )

    def to_pictures(self) -> list[Image]:
        """Convert each sample, or each electrode of a window, to an 8-bit image to look at.

        Time series are traces in µV, all on one scale. Everything else is grey or RGB, from -1 (black) to 1 (white);
        values outside are clipped.
        """
        from PIL import Image

        if self.representation.layout == "window":
            from signal_diffusion.figures.trace_images import window_images

            assert self.signals is not None
            return [Image.fromarray(image) for image in window_images(self.signals.numpy(), self.card)]
        shown = (self.representation.picture(tensor) for tensor in self.tensors.flatten(0, -4))
        return [Image.fromarray(eight_bits(each)) for each in shown]
