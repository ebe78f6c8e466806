"""Figure of a dataset: examples of each label side by side, and their mean spectra."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import as_array, split_files
from signal_diffusion.data.loaders import evenly_spaced
from signal_diffusion.data.overview import read_columns
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.escaping import for_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

__all__ = ["draw_overview"]

MAX_LABELS = 6
POSTERIOR = ("O1", "O2", "Pz", "P3", "P4")
"""Electrodes over which the alpha rhythm of closed eyes is strongest."""
_SHOWN = ("O1", "O2", "Pz", "Cz")  # for single electrodes: the first of these in the dataset is shown
_WINDOWS = 200  # per label, for the mean spectrum
_SECONDS = 4.0  # length of a trace
_APART = 50.0  # µV between traces
_CHANNELS = {  # name and colour map of each channel of an image
    "db-only": (("dB", "magma"),),
    "db-iq": (("dB", "magma"), ("I", "RdBu_r"), ("Q", "RdBu_r")),
    "db-polar": (("dB", "magma"), ("magnitude", "magma"), ("phase", "twilight")),
}


def draw_overview(root: Path, path: Path, *, num: int | None = None) -> None:
    """Write a PNG: `num` training examples of each label (at most six labels), and the mean spectrum per label.

    Examples are from different subjects as far as possible, and are the same each time; single electrodes are all the
    same electrode. 0 Hz is at the bottom. Spectra are plotted for posterior and for other electrodes, if electrodes
    are known, and omitted for images without a spectrum. `num` None = 8 examples, or 4 of large ones.
    """
    from matplotlib.figure import Figure

    card = DatasetCard.load(root)
    representation = representation_of(card)
    keys = [
        name for name in ("label", "subject", "dataset", "recording", "window", "electrode") if name in card.columns
    ]
    frame = read_columns(root, "train", keys)
    groups = _labels(frame, card)
    panel = _panel(representation, card)
    num = num or panel.num
    chosen = {label: _spread_over_subjects(frame.loc[rows], card, num) for label, rows in groups.items()}
    spectra = _spectra(root, card, representation, frame, groups)
    wanted = np.unique(np.concatenate(list(chosen.values())))
    tensors = {
        row: tensor for rows, batch in _read(root, card, wanted) for row, tensor in zip(rows, batch, strict=True)
    }

    lines, columns = len(groups) * len(panel.channels), max(len(rows) for rows in chosen.values())
    size = (
        panel.width * columns + 0.9 + (4.5 if spectra else 0),
        max(panel.height * lines, 3.0 if spectra else 0) + 0.8,
    )
    figure = Figure(figsize=size, layout="constrained")
    ratios = [panel.width] * columns + ([4.5] if spectra else [])
    grid = figure.add_gridspec(lines, len(ratios), width_ratios=ratios)
    _draw_examples(figure, grid, panel, chosen, lambda row: (_title(frame, row), tensors[row]))
    if spectra:
        rows_of_spectrum = slice(0, min(lines, max(1, math.ceil(4 / panel.height))))
        _draw_spectra(figure.add_subplot(grid[rows_of_spectrum, -1]), spectra)
    hidden = frame["label"].nunique() - len(groups) if "label" in frame else 0
    more = f", {hidden} more labels" if hidden > 0 else ""
    figure.suptitle(for_figure(f"{root.resolve().name}: {_headline(card)}{more}"), fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw_examples(
    figure: Figure,
    grid: GridSpec,
    panel: _Panel,
    chosen: Mapping[str, Sequence[int]],
    example: Callable[[int], tuple[str, Tensor]],
) -> None:
    """Draw the chosen rows of each label, one axis per channel; `example(row)` is (title, tensor (C, H, W))."""
    last = (len(chosen) - 1, len(panel.channels) - 1)
    for number, (label, rows) in enumerate(chosen.items()):
        for offset, channel in enumerate(panel.channels):
            for column, row in enumerate(rows):
                axis = figure.add_subplot(grid[number * len(panel.channels) + offset, column])
                title, tensor = example(row)
                panel.draw(axis, tensor, offset, column == 0, (number, offset) == last)
                if offset == 0:
                    axis.set_title(for_figure(title), fontsize=7)
                if column == 0:
                    words = [for_figure(label) if offset == 0 else "", channel, panel.unit]
                    axis.set_ylabel("\n".join(word for word in words if word), fontsize=8)


def _headline(card: DatasetCard) -> str:
    parameters = card.representation["parameters"]
    words = f"{card.representation['name']}, {'×'.join(map(str, card.shape))}"
    if "db_min" in parameters:
        words += f", {parameters['db_min']:.1f} (dark) to {parameters['db_max']:.1f} dB re 1 µV (bright)"
    return words


def _title(frame: pd.DataFrame, row: int) -> str:
    words = [frame[name].iloc[row] for name in ("subject", "electrode") if name in frame]
    return " ".join(str(word) for word in words if word is not None)


def _labels(frame: pd.DataFrame, card: DatasetCard) -> dict[str, pd.Index]:
    """Rows of each label in the training split, in the card's order; all rows under "" if there are no labels."""
    if "label" not in frame or frame["label"].isna().all():
        return {"": frame.index}
    labels = [name for name in card.columns["label"]["names"] if (frame["label"] == name).any()]
    return {name: frame.index[frame["label"] == name] for name in labels[:MAX_LABELS]}


def _spread_over_subjects(frame: pd.DataFrame, card: DatasetCard, num: int) -> list[int]:
    """Choose `num` rows from as many subjects as possible, evenly spaced over each subject's windows."""
    if "electrode" in frame:
        electrodes = set(frame["electrode"])
        shown = next((name for name in (*_SHOWN, *card.channels) if name in electrodes), None)
        frame = frame[frame["electrode"] == shown] if shown else frame
    subjects = [rows for _, rows in frame.groupby("subject").groups.items()] if "subject" in frame else [frame.index]
    subjects = subjects or [frame.index]
    chosen = [subjects[index] for index in evenly_spaced(len(subjects), num)]
    rounds = -(-num // len(chosen))
    picked = [[int(rows[index]) for index in evenly_spaced(len(rows), rounds)] for rows in chosen]
    round_robin = [rows[number] for number in range(rounds) for rows in picked if number < len(rows)]
    return sorted(round_robin[:num])


def _read(root: Path, card: DatasetCard, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield the tensors (n, C, H, W) of sorted rows of the training split, one row group at a time."""
    column, start = card.representation["column"], 0
    for path in split_files(root, "train"):
        file = pq.ParquetFile(path)
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            here = rows[(rows >= start) & (rows < start + count)]
            if len(here):
                table = file.read_row_group(group, columns=[column])
                yield here, torch.from_numpy(as_array(table.column(0), card.shape)[here - start]).float()
            start += count


Spectra = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]
"""(label, electrodes) → Hz (F,), dB re 1 µV (F,)."""


def _spectra(
    root: Path,
    card: DatasetCard,
    representation: Representation,
    frame: pd.DataFrame,
    groups: Mapping[str, pd.Index],
) -> Spectra:
    """Mean spectrum of some windows of each label, spread over the split; empty if there is no spectrum."""
    if representation.mean_spectrum(torch.zeros(1, *card.shape)) is None:
        return {}
    label_of: dict[int, str] = {}
    keys = [name for name in ("dataset", "recording", "window") if name in frame]
    for label, rows in groups.items():
        # Whole windows: every n-th row could always be the same electrode.
        windows = (
            [list(each) for each in frame.loc[rows].groupby(keys, dropna=False).groups.values()]
            if keys
            else [[r] for r in rows]
        )
        label_of |= {int(row): label for index in evenly_spaced(len(windows), _WINDOWS) for row in windows[index]}
    sums: dict[tuple[str, str], tuple[Tensor, int]] = {}
    frequencies = torch.zeros(0)
    for here, tensors in _read(root, card, np.array(sorted(label_of))):
        labels = np.array([label_of[row] for row in here])
        for group in _electrode_groups(representation, card, frame.iloc[here]):
            for label in np.unique(labels[group.rows]):
                selected = tensors[torch.from_numpy(group.rows & (labels == label))]
                frequencies, level = group.spectrum(selected)
                total, count = sums.get((label, group.name), (torch.zeros_like(level), 0))
                sums[label, group.name] = (total + level * len(selected), count + len(selected))
    keys_in_order = [(label, part) for label in groups for part in ("posterior", "others", "") if (label, part) in sums]
    return {key: (frequencies.numpy(), (sums[key][0] / sums[key][1]).numpy()) for key in keys_in_order}


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

    def spectrum(self, tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Mean spectrum of examples with these electrodes: Hz (F,), dB re 1 µV (F,)."""
        found = self.representation.mean_spectrum(tensors.index_select(*self.selection) if self.selection else tensors)
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


def _draw_spectra(axis: Axes, spectra: Spectra) -> None:
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
class _Panel:
    """How one example is drawn."""

    channels: Sequence[str]
    """Name of each channel; they are drawn one below the other."""
    unit: str
    """Unit of the vertical axis."""
    num: int
    """Default number of examples per label."""
    width: float
    height: float
    """Size of an axis, inches."""
    draw: Callable[[Axes, Tensor, int, bool, bool], None]
    """(axis, example (C, H, W), index of the channel, whether leftmost, whether lowest)."""


def _panel(representation: Representation, card: DatasetCard) -> _Panel:
    layout = representation.layout
    if layout == "window":
        return _Panel(channels=[""], unit="", num=4, width=3.4, height=3.6, draw=_traces(representation, card))
    named = _CHANNELS.get(representation.name)
    if layout == "picture" or named is None:

        def draw(axis: Axes, tensor: Tensor, channel: int, leftmost: bool, lowest: bool) -> None:
            axis.imshow((representation.picture(tensor) + 1) / 2, vmin=0, vmax=1, cmap="gray", interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])

        return _Panel(channels=[""], unit="", num=8, width=1.7, height=1.7, draw=draw)
    large = layout == "mosaic"
    return _Panel(
        channels=[name for name, _ in named] if len(named) > 1 else [""],
        unit="Hz",
        num=4 if large else 8,
        width=3.6 if large else 1.6,
        height=(3.2 if large else 1.6) * (1.0 if len(named) == 1 else 0.8),
        draw=_spectrograms(representation, card, [colours for _, colours in named]),
    )


def _spectrograms(
    representation: Representation, card: DatasetCard, colours: Sequence[str]
) -> Callable[[Axes, Tensor, int, bool, bool], None]:
    height, width = card.shape[1:]
    found = representation.mean_spectrum(torch.zeros(1, *card.shape))
    assert found is not None and card.window is not None and card.sampling_rate is not None
    frequencies, seconds = found[0].numpy(), card.window / card.sampling_rate
    logarithmic = frequencies[1] / max(frequencies[0], 1e-6) < 2 and frequencies[0] > 0
    hertz = [f for f in ((1, 2, 4, 8, 16, 32, 64) if logarithmic else range(0, 1000, 20)) if f <= frequencies[-1]]
    levels = height - 1 - np.interp(hertz, frequencies, np.arange(height))

    def draw(axis: Axes, tensor: Tensor, channel: int, leftmost: bool, lowest: bool) -> None:
        axis.imshow(tensor[channel], vmin=-1, vmax=1, cmap=colours[channel], aspect="auto", interpolation="nearest")
        axis.set_yticks(levels, [str(f) for f in hertz] if leftmost else [""] * len(hertz), fontsize=6)
        if representation.layout == "mosaic":
            strip = width // len(card.channels)
            axis.set_xticks(
                np.arange(len(card.channels)) * strip + (strip - 1) / 2,
                card.channels if lowest else [""] * len(card.channels),
                fontsize=6,
                rotation=90,
            )
        else:
            times = np.arange(0, seconds, 5 if seconds > 8 else 1)
            axis.set_xticks(times / seconds * width - 0.5, [f"{t:g}" for t in times] if lowest else [""] * len(times))
            axis.tick_params(axis="x", labelsize=6)
            if lowest:
                axis.set_xlabel("s", fontsize=7)

    return draw


def _traces(representation: Representation, card: DatasetCard) -> Callable[[Axes, Tensor, int, bool, bool], None]:
    """Plot the first seconds of all electrodes, the first electrode at the top."""
    assert card.sampling_rate is not None
    samples = round(_SECONDS * card.sampling_rate)
    times = np.arange(samples) / card.sampling_rate + (card.tmin or 0.0)  # an event is at 0 s

    def draw(axis: Axes, tensor: Tensor, channel: int, leftmost: bool, lowest: bool) -> None:
        signals = representation.to_signal(tensor)[:, :samples].numpy()  # (electrodes, samples)
        offsets = -_APART * np.arange(len(signals))
        axis.plot(times[: signals.shape[1]], (signals + offsets[:, None]).T, color="C0", linewidth=0.5)
        axis.set_yticks(offsets, card.channels if leftmost else [""] * len(offsets), fontsize=6)
        axis.set_ylim(offsets[-1] - 2 * _APART, 2 * _APART)
        axis.tick_params(axis="x", labelsize=6)
        if lowest:
            axis.set_xlabel(f"s (lines are {_APART:g} µV apart)", fontsize=7)

    return draw
