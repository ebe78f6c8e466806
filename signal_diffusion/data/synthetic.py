"""Multichannel EEG with a known spectrum, for tests and for the quickstart.

A recording is a sum of independent Gaussian sources, each with a power spectral density in closed form and a
spatial pattern: a 1/f background everywhere, and theta, alpha and beta rhythms with positions on the scalp. So
the spectrum of every electrode is known exactly (`true_psd`). The rhythms are narrow-band noise, whose
envelope waxes and wanes over about 1 / width seconds, as alpha spindles do. Further modulation is not needed and
would blur the spectrum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

__all__ = [
    "CLASSES",
    "POSITIONS",
    "VERSION",
    "Parameters",
    "Person",
    "Rhythm",
    "individual_parameters",
    "person",
    "simulate",
    "simulate_parameters",
    "spectrum_parameters",
    "sphere_positions",
    "true_psd",
]

VERSION = 1
"""Increase it with every change of the generated signals: it is part of the name of the cached dataset."""

CLASSES = ("alert", "relaxed")
GENDERS = ("female", "male")
HEALTH = ("healthy", "patient")

# On the head seen from above, in head radii; x towards the right ear, y towards the nose.
POSITIONS: dict[str, tuple[float, float]] = {
    "Fp1": (-0.31, 0.95), "Fp2": (0.31, 0.95),
    "F7": (-0.81, 0.59), "F3": (-0.42, 0.50), "Fz": (0.00, 0.50), "F4": (0.42, 0.50), "F8": (0.81, 0.59),
    "T7": (-1.00, 0.00), "C3": (-0.50, 0.00), "Cz": (0.00, 0.00), "C4": (0.50, 0.00), "T8": (1.00, 0.00),
    "P7": (-0.81, -0.59), "P3": (-0.42, -0.50), "Pz": (0.00, -0.50), "P4": (0.42, -0.50), "P8": (0.81, -0.59),
    "O1": (-0.31, -0.95), "O2": (0.31, -0.95),
}  # fmt: skip

_SOURCES = {  # positions of the independent sources of each rhythm, in head radii
    "theta": ((0.0, 0.5),),
    "alpha": ((-0.3, -0.9), (0.3, -0.9), (0.0, -0.5)),
    "beta": ((-0.5, 0.2), (0.5, 0.2)),
}
_SPREAD = 0.55  # standard deviation of the spatial pattern of a source, head radii
_KNEE = 1.0  # Hz; below it the background is flat (1/f would be infinite)


@dataclass(frozen=True, kw_only=True)
class Person:
    """A synthetic subject."""

    subject: int
    gender: str
    health: str
    age: float
    """Years."""


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """A spectral peak with a position on the scalp."""

    center: float
    """Hz."""
    width: float
    """Hz, the standard deviation of the Gaussian peak."""
    amplitude: float
    """µV rms of each of its sources, at the electrode nearest to it."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Everything that determines the spectrum of a recording."""

    background: float
    """Twice the density at the knee of 1 Hz, µV²/Hz."""
    exponent: float
    """Exponent of the background, 1 / f^exponent."""
    rhythms: dict[str, Rhythm]
    """By name: theta (frontal midline), alpha (posterior), beta (central)."""


def person(seed: int, subject: int) -> Person:
    """Generate a subject from (seed, subject) only: gender alternates, one in four is a patient."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, subject]))
    return Person(
        subject=subject,
        gender=GENDERS[subject % 2],
        health=HEALTH[subject // 2 % 4 == 3],
        age=float(rng.integers(18, 81)),
    )


def spectrum_parameters(label: str, who: Person) -> Parameters:
    """Spectrum of a label and a group of subjects, without individual variation.

    Relaxed subjects have three times the alpha of alert ones, and half their beta. Alpha slows by 0.3 Hz per decade
    of age, and the background flattens; women have a little more beta; patients have more theta, and less and slower
    alpha.
    """
    relaxed, patient, female = label == "relaxed", who.health == "patient", who.gender == "female"
    decades = (who.age - 20) / 10
    alpha = Rhythm(
        center=10.6 - 0.3 * decades - 0.8 * patient,
        width=0.7,
        amplitude=(12.0 if relaxed else 4.0) * (0.75 if patient else 1.0),
    )
    theta = Rhythm(center=6.0, width=0.8, amplitude=(3.0 if relaxed else 4.0) * (1.6 if patient else 1.0))
    beta = Rhythm(center=20.0, width=3.0, amplitude=(2.0 if relaxed else 4.0) * (1.2 if female else 1.0))
    return Parameters(
        background=70.0,
        exponent=1.8 - 0.06 * decades,
        rhythms={"theta": theta, "alpha": alpha, "beta": beta},
    )


def simulate(
    label: str, who: Person, num_samples: int, sfreq: float, *, seed: int, recording: int
) -> tuple[np.ndarray, Parameters]:
    """Simulate a recording: µV (19, num_samples) float32, and its parameters with the subject's individual variation.

    The variation (alpha's frequency by 0.3 Hz, amplitudes by a tenth) is seeded with (seed, subject), the noise with
    (seed, subject, recording).
    """
    parameters = individual_parameters(label, who, seed=seed)
    rng = np.random.default_rng(np.random.SeedSequence([seed, who.subject, 1 + recording]))
    return simulate_parameters(parameters, num_samples, sfreq, rng), parameters


def individual_parameters(label: str, who: Person, *, seed: int) -> Parameters:
    """The parameters of a subject: those of the group, with the individual variation of `simulate`."""
    own = np.random.default_rng(np.random.SeedSequence([seed, who.subject, 2**31]))
    return _varied(spectrum_parameters(label, who), own)


def simulate_parameters(parameters: Parameters, num_samples: int, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    """Simulate a recording with exactly this spectrum: µV (19, num_samples) float32."""
    # 4 s longer than needed: the inverse FFT makes periodic signals, whose end continues into their start.
    length = num_samples + int(4 * sfreq)
    frequencies = np.fft.rfftfreq(length, 1 / sfreq)
    signal = np.zeros((len(POSITIONS), len(frequencies)), dtype=complex)
    for density, patterns in _components(parameters, frequencies):  # (F,), (sources, 19)
        noise = rng.standard_normal((len(patterns), len(frequencies), 2)) @ np.array([1, 1j])
        # irfft of √(S · fs · N / 4) · (n₁ + i n₂) has the one-sided density S.
        signal += patterns.T @ (noise * np.sqrt(density * sfreq * length / 4))
    return np.fft.irfft(signal, n=length)[:, :num_samples].astype(np.float32)


def sphere_positions() -> dict[str, list[float]]:
    """Electrode → x, y, z on the unit sphere; a head radius in `POSITIONS` is a quarter of a circle from Cz."""
    found = {}
    for name, (x, y) in POSITIONS.items():
        angle = np.hypot(x, y)
        along = np.sin(angle * np.pi / 2) / angle if angle else 0.0
        found[name] = [round(float(value), 4) for value in (x * along, y * along, np.cos(angle * np.pi / 2))]
    return found


def true_psd(parameters: Parameters, frequencies: np.ndarray) -> np.ndarray:
    """One-sided power spectral density of each electrode: µV²/Hz (19, F) at frequencies in Hz (F,)."""
    components = _components(parameters, np.asarray(frequencies, dtype=float))
    return np.sum([(patterns**2).sum(0)[:, None] * density for density, patterns in components], axis=0)


def _varied(parameters: Parameters, rng: np.random.Generator) -> Parameters:
    rhythms = {
        name: replace(rhythm, amplitude=rhythm.amplitude * np.exp(0.1 * rng.standard_normal()))
        for name, rhythm in parameters.rhythms.items()
    }
    shift = 0.3 * rng.standard_normal()
    rhythms["alpha"] = replace(rhythms["alpha"], center=rhythms["alpha"].center + shift)
    return replace(parameters, background=parameters.background * np.exp(0.2 * rng.standard_normal()), rhythms=rhythms)


def _components(parameters: Parameters, frequencies: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Density (F,) and spatial patterns (sources, 19) of each kind of source."""
    exponent = parameters.exponent
    background = parameters.background / (_KNEE**exponent + frequencies**exponent) * (frequencies > 0)
    mixing = _patterns(tuple(POSITIONS.values()))
    # Normalised per electrode: neighbours share background, and every electrode has the same power of it.
    components = [(background, mixing / np.linalg.norm(mixing, axis=0))]
    for name, rhythm in parameters.rhythms.items():
        peak = np.exp(-0.5 * ((frequencies - rhythm.center) / rhythm.width) ** 2)
        density = rhythm.amplitude**2 * peak / (np.sqrt(2 * np.pi) * rhythm.width)
        components.append((density, _patterns(_SOURCES[name])))
    return components


def _patterns(positions: tuple[tuple[float, float], ...]) -> np.ndarray:
    electrodes = np.array(list(POSITIONS.values()))
    distance = np.linalg.norm(np.array(positions)[:, None] - electrodes, axis=-1)
    return np.exp(-0.5 * (distance / _SPREAD) ** 2)
