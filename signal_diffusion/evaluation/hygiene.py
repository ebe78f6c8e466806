"""Windows that no amplifier records: flat electrodes, and amplitudes outside of what EEG has."""

from __future__ import annotations

import numpy as np

from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.measurement import Measurement, Metric

__all__ = ["METRICS"]

FLAT = 0.1
"""µV, standard deviation below which an electrode is flat."""
LARGEST = 500.0
"""µV, largest plausible absolute value."""


def unusable_share(real: Features, synthetic: Features) -> Measurement:
    """Share of windows with a flat electrode, or with a value beyond ± 500 µV, %."""
    signals = synthetic.windows.signals
    centred = signals - signals.mean(-1, keepdims=True)
    wrong = (centred.std(-1) < FLAT) | (np.abs(centred).max(-1) > LARGEST)  # (N, C)
    shares = 100 * wrong.mean(0)
    electrodes = dict(zip(synthetic.windows.ch_names, shares.tolist(), strict=True))
    return Measurement(value=float(100 * wrong.any(1).mean()), electrodes=electrodes)


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
