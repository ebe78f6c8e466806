"""Figure of what synthetic windows are worth to classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from signal_diffusion.evaluation.features import Unavailable
from signal_diffusion.evaluation.page.picture import in_figure
from signal_diffusion.evaluation.report import Report
from signal_diffusion.figures.utility import utility_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["curves"]


def curves(report: Report) -> tuple[Figure, str]:
    """Scores of classifiers with and without synthetic windows, and gains, against the share of the training people."""
    found = report.utility
    if found is None:
        raise Unavailable("not measured; `evaluate --utility logreg` measures it")
    panels = {in_figure(name): panel for name, panel in found.panels().items()}
    predicted = f"{found.task}, one of {', '.join(found.classes)}" if found.classes else found.task
    return utility_figure(panels, score=found.score_title), (
        f"Classifiers of {predicted}, trained on real windows T of a share of the training people, alone and with more "
        "windows: synthetic ones (S) or augmented ones, as many as T times the factor; tested on people who were not "
        f"trained on. Above the {found.score_title}, below its gain over T; below 0 is worse. Bars are 95 % "
        f"intervals over people and {found.about['seeds']} seeds."
    )
