"""The figures of the page, in its order. A new one is a function of a `Report` and an entry here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from signal_diffusion.evaluation.features import Unavailable
from signal_diffusion.evaluation.page import by_guidance, electrodes, examples, over_time, ratios, spectra, use
from signal_diffusion.evaluation.page.picture import STYLE, Picture, embedded
from signal_diffusion.evaluation.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "pictures"]

PICTURES: Mapping[str, Callable[[Report], tuple[Figure, str]]] = {
    "All metrics": ratios.ratios,
    "Example traces": examples.traces,
    "Spectra": spectra.spectrum,
    "Band power over the head": electrodes.band_maps,
    "Correlation of electrodes": electrodes.correlations,
    "Waxing and waning": over_time.envelopes,
    "Spectrograms": spectra.spectrograms,
    "Responses to events": over_time.evoked,
    "Nearest training windows": examples.nearest_training,
    "Use to classifiers": use.curves,
}
"""Title → (figure, caption); a function raises `Unavailable` if these windows do not have the figure."""


def pictures(report: Report) -> list[Picture]:
    """All figures of a report; those that it does not have, with the reason."""
    import matplotlib.style

    found = []
    with (
        matplotlib.style.context(["default", dict(STYLE)]),  # whatever the user's own settings are
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the reader's fonts may have it
        shown = dict(PICTURES) | ({"Guidance": by_guidance.curves} if report.guidance else {})
        for title, draw in shown.items():
            try:
                figure, caption = draw(report)
            except Unavailable as reason:
                found.append(Picture(title=title, caption=f"Left out: {reason}."))
            else:
                width = figure.get_figwidth()
                found.append(Picture(title=title, source=embedded(figure), inches=width, caption=caption))
    return found
