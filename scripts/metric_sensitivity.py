"""Show which metric sees which fault of a generator, on synthetic EEG whose parameters are known.

    uv run python scripts/metric_sensitivity.py

Real windows are those of twelve synthetic people, with bursts; the floor is that of the same people with other noise.
Each column changes one thing: alpha is 1 Hz faster, amplitudes are 10 % larger, correlations are 20 % smaller (by 0.1
on average), or the bursts are gone, with the same power. The table has the ratio of each metric to the floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import fft

from signal_diffusion.data.synthetic import (
    CLASSES,
    POSITIONS,
    Parameters,
    individual_parameters,
    person,
    simulate_parameters,
)
from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.metrics import METRICS
from signal_diffusion.evaluation.windows import Windows

PEOPLE, WINDOWS, SAMPLES, SFREQ = 12, 8, 512, 125.0
BURST = 3.0
"""Amplitude of a burst, relative to the signal without one."""


def windows(
    seed: int,
    *,
    change: Callable[[Parameters], Parameters] = lambda parameters: parameters,
    with_bursts: bool = True,
) -> Windows:
    """Windows of the same people for every seed, with other noise."""
    signals, subjects = [], []
    for number in range(PEOPLE):
        for index, label in enumerate(CLASSES):
            parameters = change(individual_parameters(label, person(0, number), seed=0))
            for window in range(WINDOWS):
                random = np.random.default_rng([seed, number, index, window])
                made = simulate_parameters(parameters, SAMPLES, SFREQ, random)
                signals.append(made * bursts(random) if with_bursts else made)
                subjects.append(f"p{number:02}")
    return Windows(
        signals=np.array(signals), sfreq=SFREQ, ch_names=tuple(POSITIONS), columns={"subject": np.array(subjects)}
    )


def bursts(random: np.random.Generator) -> np.ndarray:
    """Amplitude over time (SAMPLES,) with two bursts of one second, of a mean square of 1."""
    length = round(SFREQ)
    amplitude = np.ones(SAMPLES)
    for start in random.integers(0, SAMPLES - length, 2):
        amplitude[start : start + length] += (BURST - 1) * np.hanning(length)
    return amplitude / np.sqrt((amplitude**2).mean())


def faster_alpha(parameters: Parameters) -> Parameters:
    """Alpha 1 Hz faster."""
    alpha = parameters.rhythms["alpha"]
    return replace(parameters, rhythms={**parameters.rhythms, "alpha": replace(alpha, center=alpha.center + 1)})


def less_correlated(made: Windows) -> Windows:
    """Correlations × 0.8: a fifth of the power of each electrode has phases of its own."""
    spectra = fft.rfft(made.signals, axis=-1)
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, spectra.shape)
    phases[..., [0, -1]] = 0
    own = fft.irfft(np.abs(spectra) * np.exp(1j * phases), SAMPLES, axis=-1)
    return replace(made, signals=np.sqrt(0.8) * made.signals + np.sqrt(0.2) * own)


def table() -> dict[str, dict[str, float | None]]:
    """Metric → fault → ratio."""
    real, floor, third = (Features(windows(seed)) for seed in (1, 2, 3))
    louder = windows(3)
    faults = {
        "none": third,
        "alpha + 1 Hz": Features(windows(3, change=faster_alpha)),
        "amplitude × 1.1": Features(replace(louder, signals=1.1 * louder.signals)),
        "correlations × 0.8": Features(less_correlated(windows(3))),
        "no bursts": Features(windows(3, with_bursts=False)),
    }
    return {
        metric.title: {
            name: metric.ratio(metric.compute(real, made).value, metric.compute(real, floor).value)
            for name, made in faults.items()
        }
        for metric in METRICS.values()
        if metric.relate is None and not metric.of_spectrograms  # there are no training data, only signals
    }


def main() -> None:
    """Print the table in Markdown."""
    rows = table()
    names = next(iter(rows.values()))
    print(f"| metric | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for title, ratios in rows.items():
        print(f"| {title} | {' | '.join('–' if each is None else f'{each:.1f}' for each in ratios.values())} |")


if __name__ == "__main__":
    main()
