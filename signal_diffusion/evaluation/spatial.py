"""Metrics of how electrodes belong together."""

from __future__ import annotations

import numpy as np

from signal_diffusion.evaluation.features import BANDS, Features, Unavailable
from signal_diffusion.evaluation.measurement import Measurement, Metric, by_electrode

__all__ = ["METRICS"]


def correlation_difference(real: Features, synthetic: Features) -> Measurement:
    """Root mean square over pairs of electrodes of the difference of mean correlation matrices."""
    size = len(real.ch_names)
    if size < 2:
        raise Unavailable("one electrode; at least two are needed")
    _check_phases(real)
    squared = (synthetic.correlation.mean(0) - real.correlation.mean(0)) ** 2  # (C, C), 0 on the diagonal
    np.fill_diagonal(squared, 0)
    electrodes = np.sqrt(squared.sum(1) / (size - 1))
    return Measurement(
        value=float(np.sqrt(squared.sum() / (size * (size - 1)))), electrodes=by_electrode(real, electrodes)
    )


def coherence_difference(real: Features, synthetic: Features) -> Measurement:
    """Mean over pairs and bands of the absolute difference of mean magnitude-squared coherences."""
    _check_phases(real)
    found = np.abs(synthetic.coherence.mean(0) - real.coherence.mean(0)).mean(0)  # (bands,)
    return Measurement(value=float(found.mean()), bands=dict(zip(BANDS, found.tolist(), strict=True)))


def _check_phases(real: Features) -> None:
    """Real electrodes without phases of their own do not belong together, so that anything would be as good as they."""
    if real.root.windows.made.get("inverse") == "approximate":
        raise Unavailable(
            f"{real.name}: the phases of each electrode are estimated, which loses how electrodes belong together; "
            "judge by real windows with phases, such as those of db-iq or timeseries"
        )


METRICS = (
    Metric(
        name="corrf",
        title="CorrF",
        question="space",
        quick=True,
        definition="Root mean square over pairs of electrodes of the difference of mean correlation matrices.",
        compute=correlation_difference,
    ),
    Metric(
        name="coherence",
        title="Coh",
        question="space",
        definition="Magnitude-squared coherence of each window (segments of 2 s, Hann, 50 % overlap), mean within each "
        "band and over windows: mean absolute difference over pairs of electrodes and bands.",
        compute=coherence_difference,
    ),
)
