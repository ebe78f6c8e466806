"""Figures of single windows: real above synthetic, and synthetic ones beside the training windows nearest to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.evaluation.features import Unavailable
from signal_diffusion.evaluation.groups import Groups
from signal_diffusion.evaluation.page.picture import KINDS, by_label, in_figure
from signal_diffusion.evaluation.report import Report
from signal_diffusion.evaluation.windows import Windows
from signal_diffusion.figures.traces import draw_traces, excerpt_in_words, height_of_traces, spacing_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Pair", "example_pairs", "likely_copies", "nearest_training", "traces"]

PAIRS = 2
NEIGHBOURS = 3
SMALLEST = 1e-6
"""Of a distance that others are divided by; that of training windows that are there twice is 0."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Single windows that are drawn one above the other."""

    title: str
    windows: Mapping[str, Windows]
    """What it is → one window."""


def example_pairs(groups: Groups, count: int) -> list[Pair]:
    """Pairs of a real and a synthetic window of the same label, spread over the windows that there are."""
    sets = list(by_label(groups).items())
    pairs = []
    for number in range(count):
        label, kinds = sets[number % len(sets)]
        place = (number + 0.5) / count  # in order of people, so that pairs are of different ones
        windows = {kind: each.windows.take([int(place * len(each))]) for kind, each in kinds.items()}
        pairs.append(Pair(title=label, windows=windows))
    return pairs


def traces(report: Report) -> tuple[Figure, str]:
    """Real windows above synthetic ones."""
    windows = report.groups.real.windows
    pairs = example_pairs(report.groups, PAIRS)
    return _drawn(pairs), (
        f"{len(pairs)} real windows above {len(pairs)} synthetic ones, all in µV on the same scale "
        f"({excerpt_in_words(windows.signals.shape[-1], windows.sfreq)}; the bar says how much). Windows are "
        "evenly spaced over each set, not chosen."
    )


def nearest_training(report: Report) -> tuple[Figure, str]:
    """The synthetic windows that are most likely copies, above the training windows nearest to them."""
    windows, pairs = report.features["synthetic"].windows, likely_copies(report)
    return _drawn(pairs), (
        f"The {len(pairs)} of {len(windows)} synthetic windows that are most likely copies. The distance ratio is that "
        "from a synthetic window to the nearest training window (below it) ÷ that from this training window to its own "
        "nearest one: well under 1 for copies. What is copied may be shifted by up to 0.5 s. All in µV on the same "
        f"scale ({excerpt_in_words(windows.signals.shape[-1], windows.sfreq)})."
    )


def likely_copies(report: Report) -> list[Pair]:
    """Synthetic windows with the training windows nearest to them, the most suspect first."""
    synthetic = report.features["synthetic"]
    try:
        (distance, own), neighbours = synthetic.nearest.T, synthetic.nearest_row
    except AttributeError:
        raise Unavailable("distances to training windows are not part of this report") from None
    ratio = distance / np.maximum(own, SMALLEST)
    return [
        Pair(
            title=f"distance ratio {ratio[row]:.2f}",
            windows={
                "synthetic": synthetic.windows.take([row]),
                "nearest training window": report.features["train"].windows.take([neighbours[row]]),
            },
        )
        for row in np.argsort(ratio, kind="stable")[:NEIGHBOURS]
    ]


def _drawn(pairs: Sequence[Pair]) -> Figure:
    from matplotlib.figure import Figure

    names = list(pairs[0].windows)
    first = pairs[0].windows[names[0]]
    height = height_of_traces(len(first.ch_names))
    figure = Figure(figsize=(7.6, len(names) * height + 0.3), layout="constrained")
    axes = figure.subplots(len(names), len(pairs), squeeze=False)
    spacing = spacing_of([windows.signals[0] for pair in pairs for windows in pair.windows.values()])
    for column, pair in enumerate(pairs):
        for axis, (name, windows) in zip(axes[:, column], pair.windows.items(), strict=True):
            draw_traces(
                axis,
                windows.signals[0],
                sfreq=windows.sfreq,
                ch_names=windows.ch_names,
                spacing=spacing,
                tmin=windows.tmin,
                names=column == 0,
                colour=KINDS.get(name, KINDS["real"]).colour,
            )
            whose = windows.people[0] if windows.people and name != "synthetic" else ""
            words = (name, pair.title if axis is axes[0, column] else "", whose)
            axis.set_title(", ".join(in_figure(word) for word in words if word), fontsize=7)
    return figure
