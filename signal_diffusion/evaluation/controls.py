"""Sets of windows whose faults are known: what each metric can and cannot see, shown on one's own data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from scipy import fft, signal

from signal_diffusion.evaluation.windows import Windows

__all__ = ["CONTROLS", "OF_SPECTROGRAMS", "OF_TRAINING"]

NOISE = 0.1
"""Standard deviation of the noise on copies, relative to that of each electrode, and of that on spectrograms."""
CHUNK = 32
"""Windows whose spectrograms are changed at a time."""
CUTOFF = 20.0  # Hz
SCALE = 1.3

Control = Callable[[Windows, np.random.Generator], Windows]


def copies(windows: Windows, random: np.random.Generator) -> Windows:
    """Copies with 10 % of noise."""
    noise = random.standard_normal(windows.signals.shape, np.float32)
    return _with_signals(windows, windows.signals + NOISE * windows.signals.std(-1, keepdims=True) * noise)


def phases_shared(windows: Windows, random: np.random.Generator) -> Windows:
    """Random phases, the same change for all electrodes: Gaussian noise with the spectrum and correlations of EEG.

    Prichard and Theiler, Physical Review Letters 73, 1994.
    """
    return _randomised(windows, random, 1)


def phases_separate(windows: Windows, random: np.random.Generator) -> Windows:
    """Random phases of each electrode: noise with the spectrum of EEG and without its correlations."""
    return _randomised(windows, random, windows.signals.shape[1])


def permuted(windows: Windows, random: np.random.Generator) -> Windows:
    """Electrodes in another order, the same for all windows."""
    return _with_signals(windows, windows.signals[:, random.permutation(windows.signals.shape[1])])


def smoothed(windows: Windows, random: np.random.Generator) -> Windows:
    """Low-pass at 20 Hz (Butterworth, order 8, zero phase)."""
    sections = signal.butter(8, CUTOFF, fs=windows.sfreq, output="sos")
    return _with_signals(windows, signal.sosfiltfilt(sections, windows.signals, axis=-1))


def two_people(windows: Windows, random: np.random.Generator) -> Windows:
    """Windows of two people only."""
    people = random.permutation(windows.people)[:2]
    return windows.take(np.flatnonzero(np.isin(np.asarray(windows.subjects), people)))


def scaled(windows: Windows, random: np.random.Generator) -> Windows:
    """Amplitudes × 1.3."""
    return _with_signals(windows, windows.signals * SCALE)


def white_noise(windows: Windows, random: np.random.Generator) -> Windows:
    """White noise with the variance of each electrode and window."""
    noise = random.standard_normal(windows.signals.shape, np.float32)
    return _with_signals(windows, noise * windows.signals.std(-1, keepdims=True))


def noisy_spectrograms(windows: Windows, random: np.random.Generator) -> Windows:
    """Spectrograms with noise of 10 % of the standard deviation of each plane, and the signals of their inverse."""
    stored = windows.spectrograms
    assert stored is not None
    noisy, signals = [], []
    for start in range(0, len(windows), CHUNK):
        images = stored.read(start, start + CHUNK)
        noise = torch.from_numpy(random.standard_normal(tuple(images.shape), np.float32))
        images += NOISE * images.std((0, 2, 3), keepdim=True) * noise
        noisy.append(images.numpy().astype(np.float16))  # as datasets store them
        signals.append(stored.representation.to_signal(images).numpy())
    examples, rows = np.concatenate(noisy), np.arange(stored.rows.size).reshape(stored.rows.shape)
    return dataclasses.replace(
        windows,
        signals=np.concatenate(signals).reshape(windows.signals.shape),
        spectrograms=dataclasses.replace(stored, examples=examples, rows=rows),
    )


def _with_signals(windows: Windows, signals: np.ndarray) -> Windows:
    stored = windows.spectrograms
    spectrograms = None if stored is None else stored.of_signals(np.asarray(signals, np.float32))
    return dataclasses.replace(windows, signals=signals, spectrograms=spectrograms)


def _randomised(windows: Windows, random: np.random.Generator, electrodes: int) -> Windows:
    spectra = fft.rfft(windows.signals, axis=-1)
    phases = random.uniform(0, 2 * np.pi, (len(windows), electrodes, spectra.shape[-1]))
    phases[..., 0] = 0
    if windows.signals.shape[-1] % 2 == 0:
        phases[..., -1] = 0  # the Nyquist frequency is real
    return _with_signals(windows, fft.irfft(spectra * np.exp(1j * phases), windows.signals.shape[-1], axis=-1))


CONTROLS: dict[str, Control] = {
    "copies + 10 % noise": copies,
    "phases randomised, shared": phases_shared,
    "phases randomised per electrode": phases_separate,
    "electrodes permuted": permuted,
    "low-pass 20 Hz": smoothed,
    "two people": two_people,
    "amplitude × 1.3": scaled,
    "white noise": white_noise,
}
"""Name → function of windows and a generator."""
OF_SPECTROGRAMS: dict[str, Control] = {"noise in spectrograms": noisy_spectrograms}
"""The same for windows with stored spectrograms: faults that their inverse may hide."""
OF_TRAINING = ("copies + 10 % noise",)
"""Controls that are made of training windows; the others are made of the real windows that are judged by, so that a
metric that does not see their fault is near 0."""
