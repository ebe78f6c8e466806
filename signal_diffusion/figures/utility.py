"""Figure of utility: scores and gains against the share of training people, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from signal_diffusion.escaping import for_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Curve", "utility_figure"]

Curve = Sequence[tuple[float, float | None, tuple[float, float] | None]]
"""(share of the people, value, its interval), one for each share; None where there is none."""
_SYNTHETIC = ("#9ecae1", "#3182bd", "#08306b")
_OTHERS = ("#fdae6b", "#e6550d", "#74c476", "#9e9ac8")
_WIDTH, _HEIGHT = 4.6, 3.2  # of a panel, inches
_APART = 0.012  # in x, so that intervals do not hide each other


def utility_figure(
    panels: Mapping[str, tuple[Mapping[str, Curve], Mapping[str, Curve]]], *, title: str = "", score: str
) -> Figure:
    """A column per classifier: scores above, and below how much is gained by what was added.

    Parameters
    ----------
    panels
        Classifier → (arm → scores, arm → gains). The first arm has nothing added; arms that end with "S" have synthetic
        windows added.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(2, len(panels)) * _WIDTH, 2 * _HEIGHT + 1.0), layout="constrained")
    axes = figure.subplots(2, len(panels), squeeze=False, sharex=True, sharey="row")
    for column, (classifier, (scores, gains)) in enumerate(panels.items()):
        _draw(axes[0, column], scores)
        _draw(axes[1, column], gains)
        axes[0, column].set_title(for_figure(classifier), fontsize=10)
        axes[1, column].axhline(0, color="black", linewidth=0.8, zorder=0)
        axes[1, column].set_xlabel("share of the training people")
        axes[1, column].xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes[1, column].set_xticks([point[0] for point in next(iter(scores.values()))])
    axes[0, 0].set_ylabel(score)
    axes[1, 0].set_ylabel(f"gain in {score}")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False
    )
    if title:
        figure.suptitle(for_figure(title), fontsize=10)
    return figure


def _draw(axis: Axes, curves: Mapping[str, Curve]) -> None:
    synthetic, others = iter(_SYNTHETIC), iter(_OTHERS)
    for number, (name, curve) in enumerate(curves.items()):
        is_synthetic, is_alone = name.endswith(" S"), "+" not in name
        colour = "black" if is_alone else next(synthetic if is_synthetic else others, "grey")
        known = [(share, value, interval) for share, value, interval in curve if value is not None]
        places = [share + (number - len(curves) / 2) * _APART for share, _, _ in known]
        axis.plot(
            places,
            [value for _, value, _ in known],
            marker="o",
            markersize=3,
            linewidth=2.0 if is_alone or is_synthetic else 1.0,
            color=colour,
            label=for_figure(name),
        )
        for place, (_, _, interval) in zip(places, known, strict=True):
            if interval is not None:
                axis.plot([place, place], interval, linewidth=0.8, color=colour)
    axis.grid(alpha=0.3)
