"""Mean spectra of the labels of a dataset, of posterior and other electrodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.escaping import for_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["POSTERIOR", "Spectra", "draw_spectra", "mean_spectra"]

POSTERIOR = ("O1", "O2", "Pz", "P3", "P4")
"""Electrodes over which the alpha rhythm of closed eyes is strongest."""

Spectra = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]
"""(label, electrodes) → Hz (F,), dB re 1 µV (F,)."""


def mean_spectra(
    card: DatasetCard,
    frame: pd.DataFrame,
    label_of: Mapping[int, str],
    batches: Iterable[tuple[np.ndarray, Tensor]],
) -> Spectra:
    """Mean spectrum of the examples of each label; empty if there is no spectrum.

    `batches` yields rows of `frame` and their tensors (n, C, H, W), `label_of` are labels by row.
    """
    representation = representation_of(card)
    if representation.mean_spectrum(torch.zeros(1, *card.shape)) is None:
        return {}
    sums: dict[tuple[str, str], tuple[Tensor, int]] = {}
    frequencies = torch.zeros(0)
    for here, tensors in batches:
        labels = np.array([label_of[row] for row in here])
        for group in _electrode_groups(representation, card, frame.iloc[here]):
            for label in np.unique(labels[group.rows]):
                selected = group.of(tensors[torch.from_numpy(group.rows & (labels == label))])
                if not len(selected):
                    continue
                frequencies, level = group.spectrum(selected)
                total, count = sums.get((label, group.name), (torch.zeros_like(level), 0))
                sums[label, group.name] = (total + level * len(selected), count + len(selected))
    names = dict.fromkeys(label_of.values())
    keys_in_order = [(label, part) for label in names for part in ("posterior", "others", "") if (label, part) in sums]
    return {key: (frequencies.numpy(), (sums[key][0] / sums[key][1]).numpy()) for key in keys_in_order}


def draw_spectra(axis: Axes, spectra: Spectra) -> None:
    """Draw a curve for each label, solid for posterior electrodes and dashed for others; alpha is shaded."""
    labels = list(dict.fromkeys(label for label, _ in spectra))
    for (label, part), (frequencies, levels) in spectra.items():
        style = "--" if part == "others" else "-"
        name = for_figure(", ".join(word for word in (label, part) if word))
        axis.plot(frequencies, levels, style, color=f"C{labels.index(label)}", linewidth=1.2, label=name or None)
    axis.axvspan(8, 13, color="grey", alpha=0.15, linewidth=0)
    axis.text(10.5, 0.99, "alpha", transform=axis.get_xaxis_transform(), ha="center", va="top", fontsize=7)
    axis.set_xlim(0, None)
    axis.set_xlabel("Hz")
    axis.set_ylabel("mean level, dB re 1 µV")
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=7)


@dataclass(frozen=True, kw_only=True)
class _ElectrodeGroup:
    """Some electrodes of a batch of examples."""

    name: str
    rows: np.ndarray
    """Whether each example (n,) contains them."""
    representation: Representation
    """Representation of the selected part of the tensors."""
    selection: tuple[int, Tensor] | None = None
    """Axis and indices to select; None = whole examples."""

    def of(self, tensors: Tensor) -> Tensor:
        """These electrodes of examples, without examples that lack them all."""
        if self.selection:
            tensors = tensors.index_select(*self.selection)
        return tensors[~tensors.isnan().flatten(1).all(1)]

    def spectrum(self, tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Mean spectrum of examples that `of` has selected: Hz (F,), dB re 1 µV (F,)."""
        found = self.representation.mean_spectrum(tensors)
        assert found is not None
        return found


def _electrode_groups(
    representation: Representation, card: DatasetCard, frame: pd.DataFrame
) -> Iterator[_ElectrodeGroup]:
    """Yield posterior and other electrodes; if they cannot be distinguished, one unnamed group of all."""
    everything = np.ones(len(frame), dtype=bool)
    posterior = np.array([name in POSTERIOR for name in card.channels], dtype=bool)
    if not posterior.any() or posterior.all():
        yield _ElectrodeGroup(name="", rows=everything, representation=representation)
        return
    for name, electrodes in (("posterior", posterior), ("others", ~posterior)):
        indices = np.flatnonzero(electrodes)
        if representation.per_electrode:
            has_them = frame["electrode"].isin([card.channels[index] for index in indices]).to_numpy()
            yield _ElectrodeGroup(name=name, rows=has_them, representation=representation)
        elif isinstance(representation, TimeSeries):
            mean, std = (tuple(np.array(each)[indices]) for each in (representation.mean, representation.std))
            some = replace(representation, mean=mean, std=std)
            yield _ElectrodeGroup(
                name=name, rows=everything, representation=some, selection=(-2, torch.from_numpy(indices))
            )
        else:  # strips of a mosaic
            strip = card.shape[-1] // len(card.channels)
            columns = torch.from_numpy((indices[:, None] * strip + np.arange(strip)).reshape(-1))
            yield _ElectrodeGroup(name=name, rows=everything, representation=representation, selection=(-1, columns))
