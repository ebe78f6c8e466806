"""Figure of adherence and fidelity by guidance scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from signal_diffusion.evaluation.features import Unavailable
from signal_diffusion.evaluation.page.picture import KINDS, in_figure
from signal_diffusion.evaluation.report import Report, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves"]

COLUMNS = 4


def curves(report: Report) -> tuple[Figure, str]:
    """Each metric that was judged by guidance scale, over the scale, and its floor."""
    from matplotlib.figure import Figure

    scales = sorted(report.guidance)
    by_metric = [
        results
        for results in zip(*(report.guidance[scale] for scale in scales), strict=True)
        if any(result.total for result in results)
    ]
    if not by_metric:
        raise Unavailable("no metric could be computed")
    rows = -(-len(by_metric) // COLUMNS)
    columns = min(COLUMNS, len(by_metric))
    figure = Figure(figsize=(1.8 * columns, 1.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, results in zip(axes, by_metric, strict=False):
        _curve(axis, scales, results)
    for axis in list(axes)[len(by_metric) :]:
        axis.set_axis_off()
    return figure, (
        "Value by guidance scale (1 = no guidance), ± standard deviation over bootstrap draws of people; dotted: the "
        "floor, that is, real people. The same noise and conditions at each scale."
    )


def _curve(axis: Axes, scales: list[float], results: tuple[Result, ...]) -> None:
    """One metric over the scales, which are evenly spaced."""
    places = [place for place, result in enumerate(results) if result.total]
    totals = [result.total for result in results if result.total]
    spread = [result.value_sd or 0 for result in results if result.total]
    kind, metric = KINDS["synthetic"], results[0].metric
    axis.errorbar(places, [total.value for total in totals], spread, color=kind.colour, marker="o", markersize=4)
    if totals[0].floor is not None:
        axis.axhline(totals[0].floor, color=KINDS["real"].colour, linestyle=":")
    axis.set_title(in_figure(f"{metric.title}, {metric.unit}" if metric.unit else metric.title))
    axis.set_xticks(range(len(scales)), [f"{scale:g}" for scale in scales])
    axis.set_xlabel("guidance scale")
