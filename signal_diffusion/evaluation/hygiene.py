"""Share of windows with flat electrodes or implausible amplitudes."""

from __future__ import annotations

from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.measurement import Measurement, Metric, by_electrode

__all__ = ["METRICS"]


def unusable_share(real: Features, synthetic: Features) -> Measurement:
    """Share of windows with a flat electrode, or with a value beyond ± 500 µV, %."""
    shares = 100 * synthetic.unusable.mean(0)
    return Measurement(value=float(100 * synthetic.unusable.any(1).mean()), electrodes=by_electrode(synthetic, shares))


METRICS = (
    Metric(
        name="unusable",
        title="Unusable windows",
        unit="%",
        question="hygiene",
        quick=True,
        offset=1.0,
        least=1,
        definition="Share of windows with a flat electrode (standard deviation below 0.1 µV) or a value beyond "
        "± 500 µV, its mean removed.",
        compute=unusable_share,
    ),
)
