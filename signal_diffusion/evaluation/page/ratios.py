"""Figure of the ratios of all metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from signal_diffusion.evaluation.features import Unavailable
from signal_diffusion.evaluation.page.picture import sizes
from signal_diffusion.evaluation.report import AS_GOOD, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ratios"]

MARKS = {"as real": ("o", "#1a6b3c"), "unclear": ("D", "#8a6100"), "differs": ("s", "#a3201c")}
"""Verdict → marker and colour."""


def ratios(report: Report) -> tuple[Figure, str]:
    """Ratios of all metrics with their intervals, on one axis."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    results = [result for result in report.results if result.total is not None and (result.total.ratio or 0) > 0]
    if not results:
        raise Unavailable("no metric has a ratio")
    absent = [result.metric.title for result in report.results if result not in results]
    figure = Figure(figsize=(7.2, 0.22 * len(results) + 0.9), layout="constrained")
    axis = figure.subplots()
    for place, result in enumerate(results):
        assert result.total is not None and result.total.ratio is not None
        marker, colour = MARKS[result.verdict]
        axis.plot(result.total.ratio, place, marker, color=colour, markersize=5)
        if result.interval:
            axis.plot(result.interval, [place, place], color=colour, linewidth=1.5)
    for verdict, (marker, colour) in MARKS.items():
        axis.plot([], [], marker, color=colour, markersize=5, label=verdict)
    axis.axvline(1, color="0.4", linewidth=1)
    axis.axvline(AS_GOOD, color="0.4", linewidth=1, linestyle=":")
    axis.set_xscale("log")
    axis.set_yticks(range(len(results)), [result.metric.title for result in results])
    axis.set_ylim(len(results) - 0.5, -0.5)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("ratio to the floor: 1 (line) is as good as real, larger is worse")
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper right", ncols=3)
    return figure, (
        "Ratio of each metric to its floor, with the 95 % interval of bootstrap draws of people. The dotted line is "
        f"{AS_GOOD:g}, up to which a ratio is as good as real. {sizes(report.groups)}"
        + (f" Without a ratio: {', '.join(absent)}." if absent else "")
    )
