"""Windows of invented people, who differ by spectrum, correlations, and an amplitude that grows with age."""

from __future__ import annotations

import numpy as np
from scipy import signal

from signal_diffusion.evaluation.windows import Windows

SFREQ, SAMPLES, CH_NAMES = 64.0, 384, ("C3", "C4", "O1", "O2")
ALPHA = {"rest": 2.0, "task": 0.5}
"""Amplitude of alpha by label, relative to the rest of the spectrum."""


def people(first: int, count: int, *, windows: int = 12, name: str = "windows") -> Windows:
    """Windows of `count` people, half of them of each label, with columns subject, recording, window, label and age."""
    signals, columns = [], {key: [] for key in ("subject", "recording", "window", "label", "age")}
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        mixing, slope = np.eye(4) + 0.4 * random.standard_normal((4, 4)), random.uniform(0.5, 0.9)
        age = random.uniform(20, 70)
        for label, alpha in ALPHA.items():
            for index in range(windows // 2):
                noise = signal.lfilter([1], [1, -slope], random.standard_normal((4, SAMPLES)), axis=-1)
                times = np.arange(SAMPLES) / SFREQ
                wave = np.sin(2 * np.pi * (10 * times + random.uniform(size=(4, 1))))
                signals.append(age / 4 * mixing @ (noise + alpha * wave))
                values = (f"sub-{number}", f"sub-{number}_{label}", index, label, age)
                for key, value in zip(columns, values, strict=True):
                    columns[key].append(value)
    return Windows(
        signals=np.array(signals),
        sfreq=SFREQ,
        ch_names=CH_NAMES,
        columns={key: np.array(values) for key, values in columns.items()},
        name=name,
    )
