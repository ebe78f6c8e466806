"""Figure of a dataset: examples of each label side by side, their mean spectra, and maps of their bands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.overview import read_columns
from signal_diffusion.escaping import for_figure
from signal_diffusion.figures import averages
from signal_diffusion.figures.dataset_examples import (
    read_examples,
    rows_of_labels,
    spread_over_subjects,
    spread_over_windows,
)
from signal_diffusion.figures.dataset_panels import Panel, panel_of
from signal_diffusion.figures.dataset_spectra import draw_spectra, mean_spectra
from signal_diffusion.figures.groups import ExampleSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

__all__ = ["draw_overview"]

_AVERAGED, _MAPPED = 200, 40  # windows per label, for the mean spectrum and for maps
_SPECTRUM, _MAP = 3.2, 1.1  # heights of a spectrum and of a row of maps, inches


def draw_overview(root: Path, path: Path, *, num: int | None = None) -> None:
    """Write a PNG: `num` training examples of each label (at most six labels), and the mean spectrum per label.

    Examples are from different subjects as far as possible, and are the same each time; single electrodes are all the
    same electrode. Time series are traces on one scale, with maps of frequency bands; images have 0 Hz at the bottom.
    Spectra are plotted for posterior and for other electrodes, if electrodes are known, and omitted for images without
    a spectrum. `num` None = 8 examples, or 4 of large ones.
    """
    from matplotlib.figure import Figure

    card = DatasetCard.load(root)
    names = ("label", "subject", "dataset", "recording", "window", "electrode")
    frame = read_columns(root, "train", [name for name in names if name in card.columns])
    groups = rows_of_labels(frame, card)
    num = num or (4 if card.representation["layout"] in ("window", "mosaic") else 8)
    chosen = {label: spread_over_subjects(frame.loc[rows], card, num) for label, rows in groups.items()}
    examples = dict(_each_example(root, card, [row for rows in chosen.values() for row in rows]))
    panel = panel_of(card, list(examples.values()))
    averaged = spread_over_windows(frame, groups, _AVERAGED)
    spectra = mean_spectra(card, frame, averaged, read_examples(root, card, averaged))
    maps = _mapped(root, card, spread_over_windows(frame, groups, _MAPPED)) if panel.has_maps else {}

    height = max(panel.height * len(panel.channels) * len(groups), (_SPECTRUM + _MAP * len(maps)) * bool(spectra))
    widths = [panel.width * max(map(len, chosen.values())), *[averages.WIDTH] * bool(spectra)]
    figure = Figure(figsize=(sum(widths) + 0.9, height + 0.8), layout="constrained")
    grid = figure.add_gridspec(1, len(widths), width_ratios=widths)
    titled = {row: (_title(frame, row), example) for row, example in examples.items()}
    _draw_examples(figure, grid[0], panel, chosen, titled)
    if spectra:
        heights = [_SPECTRUM, *[_MAP * len(maps)] * bool(maps)]
        rest = max(height - sum(heights), 1e-3)
        cells = grid[1].subgridspec(len(heights) + 1, 1, height_ratios=[*heights, rest])
        draw_spectra(figure.add_subplot(cells[0]), spectra)
        if maps:
            averages.draw_band_maps(figure, cells[1], maps)
    hidden = frame["label"].nunique() - len(groups) if "label" in frame else 0
    more = f", {hidden} more labels" if hidden > 0 else ""
    figure.suptitle(for_figure(f"{root.resolve().name}: {_headline(card)}{panel.remark}{more}"), fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw_examples(
    figure: Figure,
    cell: SubplotSpec,
    panel: Panel,
    chosen: Mapping[str, Sequence[int]],
    examples: Mapping[int, tuple[str, Tensor]],
) -> None:
    """Draw the chosen rows of each label, one axis per channel; `examples` are (title, tensor (C, H, W)) by row."""
    lines = [(label, channel) for label in chosen for channel in range(len(panel.channels))]
    grid = cell.subgridspec(len(lines), max(map(len, chosen.values())))
    for line, (label, channel) in enumerate(lines):
        for column, row in enumerate(chosen[label]):
            axis = figure.add_subplot(grid[line, column])
            title, tensor = examples[row]
            panel.draw(axis, tensor, channel, column == 0, line == len(lines) - 1)
            if channel == 0:
                axis.set_title(for_figure(title), fontsize=7)
            if column == 0:
                words = [for_figure(label) if channel == 0 else "", panel.channels[channel], axis.get_ylabel()]
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


def _each_example(root: Path, card: DatasetCard, rows: Iterable[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield row and tensor (C, H, W)."""
    for here, tensors in read_examples(root, card, rows):
        yield from zip(here.tolist(), tensors, strict=True)


def _mapped(root: Path, card: DatasetCard, label_of: Mapping[int, str]) -> dict[str, ExampleSet]:
    """The windows of each label whose bands are mapped; none if there can be no map."""
    tensors: dict[str, list[Tensor]] = {}
    for row, tensor in _each_example(root, card, label_of):
        tensors.setdefault(label_of[row], []).append(tensor)
    sets = {label: ExampleSet(tensors=torch.stack(each), card=card) for label, each in tensors.items()}
    return {label: sets[label] for label in dict.fromkeys(label_of.values()) if sets[label].bands}
