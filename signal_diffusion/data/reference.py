"""The reference of signals, as a property of their tensors: which electrodes average to zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.recordings.channels import channel_names
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.diffusion.normalisation import UNCHANGED, Normalisation

__all__ = ["Reference", "reference_of"]


@dataclass(frozen=True, eq=False)
class Reference:
    """Takes the mean over the electrodes of the reference off x0 (B, C, H, W), whose rows are electrodes."""

    electrodes: Tensor
    """Which electrodes the reference is the mean of, (H,) bool."""
    scale: Tensor
    """µV per unit of x0, (H,)."""
    zero: Tensor
    """µV of x0 = 0, filtered as x0 is, (H, W or 1)."""

    def taken_off(self, x0: Tensor, electrodes: Tensor | None = None) -> Tensor:
        """x0 with this reference, or with the mean of other electrodes of each example, (B, H) bool."""
        scale, zero = self.scale.to(x0)[:, None], self.zero.to(x0)
        chosen = self.electrodes[None] if electrodes is None else electrodes
        weights = (chosen / chosen.sum(1, keepdim=True).clamp(min=1)).to(x0)  # (B, H) or (1, H)
        average = torch.einsum("bh,bchw->bcw", weights.expand(len(x0), -1), x0 * scale + zero)
        return x0 - average[:, :, None] / scale


def reference_of(
    card: DatasetCard, signals: Representation, normalisation: Normalisation = UNCHANGED
) -> Reference | None:
    """The reference of time series; None if its electrodes are not all in the dataset, or it has none.

    `signals` is what makes the dataset's examples, `normalisation` what filters x0: in time, all electrodes
    alike, so averages stay averages. Recordings with electrodes marked as bad are an exception: their average is over
    the good ones.
    """
    name = str(card.preprocessing.get("reference", "none"))
    if not isinstance(signals, TimeSeries) or name == "none":
        return None
    named = card.channels if name == "average" else channel_names(name)
    if not set(named) <= set(card.channels):
        return None
    scale, zero = signals.microvolts_of_x0()
    zero = normalisation.filtered(zero[:, None].expand(-1, card.shape[2]))
    return Reference(torch.tensor([each in named for each in card.channels]), scale, zero)
